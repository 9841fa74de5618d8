"""Where the network ends and post-processing begins, and that a look answers as prediction does."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from detrkit.benchmark.entrant import Untrained
from detrkit.benchmark.latency import measure_speed
from detrkit.benchmark.looking import look_of
from detrkit.benchmark.opened import open_network
from detrkit.benchmark.results import Effort
from detrkit.benchmark.training_speed import measure_training, training_step
from detrkit.catalog import Catalog, Category
from detrkit.detectors.detector import Detector
from detrkit.structures import Detections, Images, ImageSize, LossReport, Objects, Totals

CPU = torch.device("cpu")


class Time:
    """Moves only where a part of the detector says so."""

    now = 0.0

    def __call__(self) -> float:
        return Time.now


class Slow(nn.Linear):
    """A layer that takes three seconds."""

    def forward(self, values: Tensor) -> Tensor:
        Time.now += 3
        return super().forward(values)


class Wrapped(nn.Module):
    """A head inside whose module there is more after its last layer: two seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.unused = Slow(3, 3), Slow(3, 4), Slow(3, 3)
        self.register_buffer("constant", torch.ones(1))

    def forward(self, values: Tensor) -> Tensor:
        for _ in range(2):  # a layer may be called more than once
            boxes = self.last(self.first(values))
        Time.now += 2
        return boxes


class Stub(Detector):
    """Finds one box, in two passes through two layers, and suppresses doubles for five seconds."""

    def __init__(self) -> None:
        super().__init__((Category(1, "class 1"),), ImageSize(8, 8))
        self.head = Wrapped()

    @property
    def backbone(self) -> nn.Module:
        return self.head

    @property
    def max_objects(self) -> int:
        return 1

    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        raise AssertionError("it is not trained")

    def detect(self, images: Images, sizes: list[tuple[int, int]]) -> list[Detections]:
        boxes = self.head(images.pixels.mean((2, 3)))
        Time.now += 5
        return [Detections(box[None], torch.ones(1), torch.zeros(1, dtype=torch.int64)) for box in boxes]


def test_the_network_ends_with_the_last_answer_of_its_last_layer_with_weights(one_image: Catalog) -> None:
    look = look_of("stub", Stub(), "fp32", one_image, Time())
    effort = Effort(turns=2, images=2, batches=())
    speed = measure_speed([look], len(one_image), effort, Time(), lambda event: None)["stub", "fp32"]
    assert speed.stages.network == pytest.approx(4 * 3)
    assert speed.stages.postprocessing == pytest.approx(2 + 5)
    assert speed.stages.whole == pytest.approx(19)
    assert (speed.p50, speed.p95) == (pytest.approx(19), pytest.approx(19))


def test_a_detr_is_timed_in_parts_that_add_up(one_image: Catalog, tiny: Path) -> None:
    detector = open_network(Untrained(str(tiny)), one_image.categories, CPU, {}).detector
    seconds = iter(range(10**6))
    clock = lambda: float(next(seconds))  # noqa: E731  # every look at the clock is a second later
    looks = [look_of("detr", detector, precision, one_image, clock) for precision in ("fp32", "bf16")]
    effort = Effort(turns=2, images=2, batches=(1, 2))
    speeds = measure_speed(looks, len(one_image), effort, clock, lambda event: None)
    for precision in ("fp32", "bf16"):
        stages = speeds["detr", precision].stages
        assert stages.preprocessing == 1
        assert stages.postprocessing == 1
        assert stages.network >= 1
        assert stages.whole == speeds["detr", precision].p50
        assert set(speeds["detr", precision].throughput) == {1, 2}


def test_a_step_finds_gradients_everywhere_moves_no_weight_and_is_counted_in_images(
    one_image: Catalog, tiny: Path
) -> None:
    opened = open_network(Untrained(str(tiny)), one_image.categories, CPU, {})
    before = {name: tensor.clone() for name, tensor in opened.detector.state_dict().items()}
    steps = {"detr": training_step(opened, one_image, 2, CPU)}
    moments = iter(range(100))
    effort = Effort(turns=3, training_batch=2)
    found = measure_training(steps, effort, lambda: 0.5 * next(moments), lambda event: None)
    assert {key: rate.median for key, rate in found.items()} == {("detr", "fp32"): 4, ("detr", "bf16"): 4}
    assert all(torch.equal(tensor, before[name]) for name, tensor in opened.detector.state_dict().items())
    for part in ("network.backbone.layer4", "network.encoder", "network.decoder"):
        within = [one.grad for name, one in opened.detector.named_parameters() if name.startswith(part)]
        assert sum(gradient.abs().sum().item() for gradient in within if gradient is not None) > 0
