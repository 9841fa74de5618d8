"""A frozen copy answers as the live detector, whose own modules are the truth here."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detr import DetrDetector
from detrkit.errors import DetrkitError
from detrkit.inference.frozen import frozen
from detrkit.inference.precision import Precision, autocast
from detrkit.layers.folded import FoldedConv2d
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import recipe
from detrkit.structures import DetrOutput, Images, Objects
from detrkit.training.memory import recompute_activations


def build(small_detr: dict, **settings: object) -> DetrDetector:
    """A detector whose normalisations do something."""
    torch.manual_seed(0)
    overrides = small_detr | {f"model.backbone.{name}": value for name, value in settings.items()}
    built = build_detector(recipe("detr_r50", overrides), (Category(1, "cat"), Category(2, "dog")))
    assert isinstance(built, DetrDetector)
    for module in built.network.backbone.modules():
        if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d | nn.GroupNorm):
            for name in {"weight", "running_mean", "running_var"} & module.state_dict().keys():
                nn.init.uniform_(getattr(module, name), 0.3, 0.7)
    return built


@pytest.fixture
def detector(small_detr: dict) -> DetrDetector:
    return build(small_detr, norm="frozen")


def two_images(*, padded: bool) -> Images:
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 64, 96, dtype=torch.bool)
    valid[1, :, 50:] = False
    return Images(pixels * valid[:, None], valid) if padded else Images(pixels)


def answers(detector: DetrDetector, images: Images, precision: Precision = "fp32") -> DetrOutput:
    with torch.no_grad(), autocast("cpu", precision):
        return detector.network(images)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("norm", ["frozen", "group", "batch"])
def test_answers_are_the_same(small_detr: dict, norm: str, padded: bool) -> None:
    live, images = build(small_detr, norm=norm).eval(), two_images(padded=padded)
    found, expected = answers(frozen(live, "fp32"), images), answers(live, images)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-5)


def test_weights_keep_their_own_format_where_nothing_is_cast(detector: DetrDetector) -> None:
    live = detector.double().eval()
    images = Images(two_images(padded=False).pixels.double())
    found, expected = answers(frozen(live, "fp64"), images), answers(live, images)
    torch.testing.assert_close(found.logits, expected.logits)
    assert found.logits.dtype == torch.float64


def test_the_detector_itself_is_left_alone_and_can_be_trained(detector: DetrDetector) -> None:
    detector.train()
    before = copy.deepcopy(detector.state_dict())
    modes = [module.training for module in detector.modules()]
    trained = [parameter.requires_grad for parameter in detector.parameters()]
    answers(frozen(detector, "bf16"), two_images(padded=True), "bf16")
    assert [module.training for module in detector.modules()] == modes
    assert [parameter.requires_grad for parameter in detector.parameters()] == trained
    for name, value in detector.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    truth = [Objects(torch.full((1, 4), 0.4), torch.zeros(1, dtype=torch.int64))] * 2
    report = detector(two_images(padded=True), truth, count_totals(truth, detector.max_objects))
    report.total.backward()
    assert all(parameter.grad is not None for parameter in detector.parameters() if parameter.requires_grad)
    for parameter in frozen(detector, "fp32").parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None


@pytest.mark.parametrize("recomputing", [False, True])
def test_later_changes_do_not_reach_the_copy(detector: DetrDetector, recomputing: bool) -> None:
    if recomputing:  # which gives layers a forward of their own
        recompute_activations(detector.network)
    images = two_images(padded=True)
    still = frozen(detector, "fp32")
    before = answers(still, images)
    with torch.no_grad():
        for value in detector.state_dict().values():
            value.fill_(0.1)
    assert torch.equal(answers(still, images).logits, before.logits)
    assert not torch.equal(answers(detector.eval(), images).logits, before.logits)


def test_nothing_is_left_to_cast_per_image(detector: DetrDetector) -> None:
    network = frozen(detector, "bf16").network
    heads = set(network.decoder.heads.modules())
    formats: dict[str, set[torch.dtype]] = {"products": set(), "heads": set(), "norms": set()}
    for module in network.modules():
        if isinstance(module, FoldedConv2d):
            formats["products"] |= {module.folded_weight.dtype, module.folded_bias.dtype}
            assert module.folded_weight.is_contiguous(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            kind = "heads" if module in heads else "products"
            formats[kind] |= {module.weight.dtype, module.bias.dtype}
        elif isinstance(module, nn.LayerNorm):
            formats["norms"].add(module.weight.dtype)
    assert formats == {"products": {torch.bfloat16}, "heads": {torch.float32}, "norms": {torch.float32}}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model.decoder.kind": "conditional", "scoring.kind": "focal"},
        {"model.decoder.kind": "anchor", "scoring.kind": "focal"},
    ],
    ids=["plain", "conditional", "anchor"],
)
def test_what_queries_first_see_in_each_other_is_not_computed_again(
    small_detr: dict, settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = frozen(build(small_detr | settings), "fp32")
    first, second = still.network.decoder.layers

    def again(*_: Tensor) -> Tensor:
        raise AssertionError("computed again")

    monkeypatch.setattr(first.self_attention, "forward", again)
    answers(still, two_images(padded=True))
    monkeypatch.setattr(second.self_attention, "forward", again)
    with pytest.raises(AssertionError, match="computed again"):
        answers(still, two_images(padded=True))


def test_half_precision_needs_a_gpu(detector: DetrDetector) -> None:
    with pytest.raises(DetrkitError, match="precision is fp16, which only a GPU computes in: take bf16"):
        frozen(detector, "fp16")
