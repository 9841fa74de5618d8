"""Classical detectors behind the contract answer as torchvision's own, which its own functions build."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import box_convert
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image

from detrkit.catalog import Category, map_labels
from detrkit.data.collate import collate, to_network
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.inference.frozen import frozen
from detrkit.inference.load import load
from detrkit.models.classical import build_classical
from detrkit.objective.criterion import count_totals
from detrkit.settings.classical import FasterRcnnSettings
from detrkit.settings.experiment import parse
from detrkit.structures import Batch, Detections, Images, Objects, Sample
from detrkit.weights import torchvision as reader
from detrkit.weights.coco import COCO_91

CLASSES = 3
LIMITS = {"score_thresh": 0.3, "nms_thresh": 0.4, "detections_per_img": 20}
OURS = {"score_threshold": 0.3, "nms_iou": 0.4, "detections": 20}
BATCH_NORM = {"backbone": {"norm": "batch", "weights": "none"}}


class Case(NamedTuple):
    """Our settings, and torchvision's function with the label that it has for our label 0."""

    settings: dict[str, Any]
    build: Callable[..., nn.Module]
    first: int
    sizes: list[tuple[int, int]]


# Both images have torchvision's longest side, so that it resizes neither.
SIZES = [(40, 64), (64, 48)]
CASES = {
    "faster_rcnn": Case({"kind": "faster_rcnn"} | BATCH_NORM, detection.fasterrcnn_resnet50_fpn, 1, SIZES),
    "faster_rcnn_v2": Case(
        {"kind": "faster_rcnn", "version": 2} | BATCH_NORM, detection.fasterrcnn_resnet50_fpn_v2, 1, SIZES
    ),
    "retinanet": Case({"kind": "retinanet"} | BATCH_NORM, detection.retinanet_resnet50_fpn, 0, SIZES),
    "retinanet_v2": Case(
        {"kind": "retinanet", "version": 2} | BATCH_NORM, detection.retinanet_resnet50_fpn_v2, 0, SIZES
    ),
    "fcos": Case({"kind": "fcos"} | BATCH_NORM, detection.fcos_resnet50_fpn, 0, SIZES),
    # with torchvision's range of pixels, as for pretrained weights
    "ssd300": Case({"kind": "ssd300"}, detection.ssd300_vgg16, 1, [(300, 300)]),
    "ssdlite320": Case(
        {"kind": "ssdlite320"}, detection.ssdlite320_mobilenet_v3_large, 1, [(320, 320), (320, 320)]
    ),
}


def build_bare(case: Case, num_labels: int) -> nn.Module:
    """torchvision's detector with random weights whose answers are far from a tie, and few proposals."""
    is_ssd = "ssd" in case.settings["kind"]
    prefix = "box_" if "rcnn" in case.settings["kind"] else ""
    given: dict[str, Any] = {f"{prefix}{name}": value for name, value in LIMITS.items()}
    if not is_ssd:
        given |= {"min_size": 1000, "max_size": 64}
    torch.manual_seed(0)
    bare = case.build(weights=None, weights_backbone=None, num_classes=num_labels, **given)
    with torch.no_grad():
        for name, tensor in bare.state_dict().items():
            if ("cls_" in name or "classification_head.module_list" in name) and name.endswith("bias"):
                tensor.normal_(std=3)
            elif "running_var" in name:
                tensor.uniform_(0.5, 1.5)
            elif "running_mean" in name:
                tensor.normal_(std=0.1)
    few_proposals(bare)
    # in training it would draw from its only size at random, and then sample other anchors than ours
    bare.transform._skip_resize = True
    return bare.double()


def few_proposals(network: nn.Module) -> None:
    if hasattr(network, "rpn"):
        network.rpn._post_nms_top_n = {"training": 20, "testing": 10}
        network.roi_heads.fg_bg_sampler.batch_size_per_image = 8


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def bare(case: Case) -> nn.Module:
    return build_bare(case, CLASSES + case.first)


@pytest.fixture(scope="module")
def ours(case: Case, bare: nn.Module) -> Detector:
    return build_ours(case, bare)


def build_ours(case: Case, bare: nn.Module, **settings: Any) -> Detector:
    model = case.settings | OURS | settings
    experiment = parse({"model": model, "data": {"short_sides": [64], "max_size": 300}}, "the test")
    detector = build_detector(experiment, tuple(Category(each, f"{each}") for each in range(CLASSES)))
    detector.get_submodule("network").load_state_dict(bare.state_dict())
    few_proposals(detector.get_submodule("network"))
    return detector.double()


class Given(NamedTuple):
    """The same images and objects as our detectors take them, and torchvision's."""

    batch: Batch
    pixels: Images
    objects: list[Objects]
    images: list[Tensor]
    targets: list[dict[str, Tensor]]


def given(case: Case) -> Given:
    """Images of noise with two objects; if there are two images, the second one has none."""
    generator = torch.Generator().manual_seed(3)
    samples, images, targets = [], [], []
    for number, (height, width) in enumerate(case.sizes):
        pixels = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        boxes, labels = torch.tensor([[6.3, 4.1, 30.8, 36.2], [20.6, 12.4, 44.9, 38.7]]), torch.tensor([2, 0])
        if number == 1:
            boxes, labels = boxes[:0], labels[:0]
        corners = BoundingBoxes(boxes, format=BoundingBoxFormat.XYXY, canvas_size=(height, width))
        samples.append(Sample(Image(pixels), corners, labels, number, (2 * height, 2 * width)))
        images.append(pixels.double() / 255)
    batch = collate(samples)
    objects = [Objects(one.boxes.double(), one.labels) for one in batch.objects]
    for one, (height, width) in zip(objects, case.sizes, strict=True):
        # from what ours are given, since float32 cannot say what the corners above are in fractions
        corners = box_convert(one.boxes, "cxcywh", "xyxy") * torch.tensor([width, height, width, height])
        targets.append({"boxes": corners, "labels": one.labels + case.first})
    pixels = to_network(batch.images, torch.device("cpu"), torch.float64)
    return Given(batch, pixels, objects, images, targets)


def test_losses_are_torchvisions(case: Case, bare: nn.Module, ours: Detector) -> None:
    same = given(case)
    before = {name: value.clone() for name, value in bare.state_dict().items()}
    with torch.no_grad():
        torch.manual_seed(1)
        expected = bare.train()(same.images, same.targets)
        torch.manual_seed(1)
        report = ours.train()(same.pixels, same.objects, count_totals(same.objects, ours.max_objects))
    # what batch normalisation has counted is forgotten
    bare.load_state_dict(before)
    ours.get_submodule("network").load_state_dict(before)
    for found, loss in zip(report.terms.values(), expected.values(), strict=True):
        torch.testing.assert_close(found, loss[None].to(found), rtol=1e-5, atol=1e-5)
    assert len(report.terms) == len(expected)
    total = sum(expected.values())
    torch.testing.assert_close(report.total, total.to(report.total), rtol=1e-5, atol=1e-5)


def compare(
    answers: list[dict[str, Tensor]], found: list[Detections], first: int, tolerance: float = 1e-5
) -> None:
    """The originals are twice as large as the images that networks see."""
    for answer, detections in zip(answers, found, strict=True):
        assert 1 < len(answer["scores"]) <= LIMITS["detections_per_img"]
        torch.testing.assert_close(detections.boxes, 2 * answer["boxes"], rtol=1e-5, atol=tolerance)
        torch.testing.assert_close(detections.scores, answer["scores"], rtol=0, atol=tolerance)
        assert torch.equal(detections.labels, answer["labels"] - first)


def test_boxes_scores_and_labels_are_torchvisions(case: Case, bare: nn.Module, ours: Detector) -> None:
    same = given(case)
    with torch.no_grad():
        answers = bare.eval()(same.images)
        found = ours.eval().detect(same.pixels, same.batch.original_sizes)
    compare(answers, found, case.first)


def test_folded_and_frozen_normalisation_answers_as_torchvisions() -> None:
    case = CASES["retinanet"]
    bare = build_bare(case, CLASSES)
    ours = build_ours(case, bare, backbone={"norm": "frozen", "weights": "none"})
    same = given(case)
    with torch.no_grad():
        found = frozen(ours, "fp64").detect(same.pixels, same.batch.original_sizes)
        compare(bare.eval()(same.images), found, 0)


def as_old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of torchvision's first files, which it reads to this day."""
    return {name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): tensor for name, tensor in state.items()}


COCO_CASES = {
    "mask_rcnn": Case({"kind": "mask_rcnn"}, detection.maskrcnn_resnet50_fpn, 1, SIZES),
    "retinanet_v2": CASES["retinanet_v2"],
    "ssdlite320": CASES["ssdlite320"],
}


@pytest.mark.parametrize("name", COCO_CASES)
def test_a_file_of_cocos_91_labels_answers_with_cocos_ids(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = COCO_CASES[name]
    bare = build_bare(case, 91).eval()
    path = tmp_path / "weights.pth"
    torch.save(as_old_names(bare.float().state_dict()), path)
    if name == "mask_rcnn":
        # torchvision sets the epsilon of this file's normalisation to 0, which it tells by its name
        monkeypatch.setattr(reader, "WITHOUT_EPSILON", {sha256(path)})
        for module in bare.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    overrides = {f"model.{key}": value for key, value in OURS.items()}
    ours = load(path, overrides=overrides).double()
    few_proposals(ours.get_submodule("network"))
    same = given(case)
    with torch.no_grad():
        answers = bare.double()(same.images)
        found = ours.detect(same.pixels, same.batch.original_sizes)
    # weights are rounded to float32 once more where an epsilon is put into them
    compare(answers, found, case.first, tolerance=1e-2 if name == "mask_rcnn" else 1e-5)
    for answer, detections in zip(answers, found, strict=True):
        ids = [ours.categories[label].id for label in detections.labels]
        assert ids == answer["labels"].tolist()


def test_normalisation_without_an_epsilon_is_the_same_function_with_ours() -> None:
    bare = nn.BatchNorm2d(5, eps=0.0).double().eval()
    bare.load_state_dict(bare.state_dict() | {"running_var": torch.rand(5) * 4e-3 + 1e-5})
    nn.init.normal_(bare.weight)
    ours = nn.BatchNorm2d(5).double().eval()
    state = {f"some.{name}": tensor for name, tensor in bare.state_dict().items()}
    changed = reader._with_epsilon(state)
    ours.load_state_dict({name.removeprefix("some."): tensor for name, tensor in changed.items()})
    maps = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(ours(maps), bare(maps), rtol=1e-12, atol=1e-12)


def test_settings_of_proposals_are_torchvisions() -> None:
    numbers = {"rpn_pre_nms_top_n_train": 14, "rpn_post_nms_top_n_train": 14} | {
        "rpn_pre_nms_top_n_test": 7,
        "rpn_post_nms_top_n_test": 7,
        "box_batch_size_per_image": 5,
    }
    bare: Any = detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4, **numbers
    )
    default: Any = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    for expected, settings in ((bare, {"proposals": 7, "samples": 5}), (default, {})):
        model = {"kind": "faster_rcnn", **BATCH_NORM, **settings}
        parsed = parse({"model": model}, "the test").model
        assert isinstance(parsed, FasterRcnnSettings)
        ours: Any = build_classical(parsed, 3)
        assert ours.rpn._pre_nms_top_n == expected.rpn._pre_nms_top_n
        assert ours.rpn._post_nms_top_n == expected.rpn._post_nms_top_n
        sampler = expected.roi_heads.fg_bg_sampler
        assert ours.roi_heads.fg_bg_sampler.batch_size_per_image == sampler.batch_size_per_image


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


@pytest.mark.parametrize("first", [0, 1])
def test_cocos_80_categories_are_found_among_the_91_labels(first: int) -> None:
    """The dataset's labels are 0 to 79, in the order of COCO's ids, which have gaps."""
    dataset = tuple(category for category in COCO_91 if category.used)
    assert len(dataset) == 80
    labels = map_labels(reader._categories(91, first), dataset, "COCO").labels
    ids = [category.id for category in dataset]
    assert [ids[label] for label in labels if label >= 0] == ids
    assert [number + first for number, label in enumerate(labels) if label >= 0] == ids


def test_a_file_that_is_no_detector_of_ours_is_refused(tmp_path: Path) -> None:
    bare = detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)
    state = bare.state_dict()
    del state["head.regression_head.conv.0.weight"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(
        DetrkitError, match=r"weights\.pth is not a fcos as detrkit has it: 1 tensors are missing"
    ):
        load(tmp_path / "weights.pth")


def test_a_name_that_torchvision_does_not_know_is_refused() -> None:
    with pytest.raises(
        DetrkitError, match=r"torchvision has no weights 'FasterRCNN_ResNet7_Weights\.COCO_V1'"
    ):
        load("FasterRCNN_ResNet7_Weights.COCO_V1")
