"""The whole network and its training, against a DETR composed here of torch's and torchvision's own modules.

Everything is computed in float64, where two right implementations agree to the last digits: float32 could
not tell a small mistake from its own rounding, nor follow ten steps of AdamW.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
import torchvision
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d, box_convert, generalized_box_iou

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.models.contracts import Memory
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import Experiment, recipe
from detrkit.settings.model import DetrSettings
from detrkit.settings.training import AdamWSettings
from detrkit.structures import Batch, Images, Objects
from detrkit.training.optimise import build_optimizer
from detrkit.training.step import take_step
from detrkit.weights import official
from detrkit.weights.rename import from_stored
from detrkit.weights.store import Stored

# nn.Transformer has a fast path for inference, which the original's layout of tokens does without.
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")

CATEGORIES = tuple(Category(number, f"class {number}") for number in range(6))
TOLERANCE = 1e-10


class Composition(nn.Module):
    """DETR with the original's names and order of operations (Carion et al. 2020, figure 10).

    ``nn.Transformer`` holds the weights of encoder and decoder. It knows no positions, so its layers are
    called piece by piece here; tokens come first and the batch second, as torch has it.
    """

    def __init__(self, settings: DetrSettings, num_logits: int) -> None:
        super().__init__()
        shared, width = settings.transformer, settings.transformer.width
        resnet = getattr(torchvision.models, settings.backbone.name)(norm_layer=FrozenBatchNorm2d)
        body = IntermediateLayerGetter(resnet, {"layer4": "last"})
        for stage in ("conv1", "layer1", "layer2", "layer3", "layer4")[: settings.backbone.frozen_stages]:
            body[stage].requires_grad_(False)
        self.backbone = nn.Sequential(nn.ModuleDict({"body": body}))
        self.input_proj = nn.Conv2d(resnet.fc.in_features, width, 1)
        self.transformer = nn.Transformer(
            width,
            shared.heads,
            settings.encoder.layers,
            settings.decoder.layers,
            shared.feedforward,
            dropout=0.0,
            norm_first=shared.pre_norm,
        )
        if not shared.pre_norm:
            self.transformer.encoder.norm = None
        self.query_embed = nn.Embedding(settings.decoder.queries, width)
        self.class_embed = nn.Linear(width, num_logits)
        outputs = (width, width, 4)
        self.bbox_embed = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(width, n) for n in outputs)})

    def forward(self, images: Images) -> tuple[Tensor, Tensor]:
        """Logits and boxes of every decoder layer, ``[L, B, Q, ..]``."""
        features = self.backbone[0]["body"](images.pixels)["last"]
        padding = ~images.valid[:, ::32, ::32]
        position = sine(padding, self.query_embed.embedding_dim)
        tokens = self.input_proj(features).flatten(2).permute(2, 0, 1)
        padding = padding.flatten(1)
        memory = self.encode(tokens, position, padding)
        return self.answer(self.decode(memory, position, padding))

    def encode(self, tokens: Tensor, position: Tensor, padding: Tensor) -> Tensor:
        encoder = self.transformer.encoder
        for layer in encoder.layers:

            def look(tokens: Tensor, layer: Any = layer) -> Tensor:
                placed = tokens + position
                return layer.self_attn(placed, placed, tokens, key_padding_mask=padding)[0]

            tokens = residual(tokens, look, layer.norm1, layer.norm_first)
            tokens = residual(tokens, feedforward(layer), layer.norm2, layer.norm_first)
        return tokens if encoder.norm is None else encoder.norm(tokens)

    def decode(self, memory: Tensor, position: Tensor, padding: Tensor) -> Tensor:
        decoder = self.transformer.decoder
        queries = self.query_embed.weight[:, None].repeat(1, memory.shape[1], 1)
        hidden = torch.zeros_like(queries)
        states = []
        for layer in decoder.layers:

            def consult(hidden: Tensor, layer: Any = layer) -> Tensor:
                placed = hidden + queries
                return layer.self_attn(placed, placed, hidden)[0]

            def look(hidden: Tensor, layer: Any = layer) -> Tensor:
                keys = memory + position
                return layer.multihead_attn(hidden + queries, keys, memory, key_padding_mask=padding)[0]

            hidden = residual(hidden, consult, layer.norm1, layer.norm_first)
            hidden = residual(hidden, look, layer.norm2, layer.norm_first)
            hidden = residual(hidden, feedforward(layer), layer.norm3, layer.norm_first)
            states.append(decoder.norm(hidden))
        return torch.stack(states).transpose(1, 2)

    def answer(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        first, second, third = self.bbox_embed["layers"]
        return self.class_embed(hidden), third(second(first(hidden).relu()).relu()).sigmoid()


def residual(tokens: Tensor, branch: Callable[[Tensor], Tensor], norm: nn.Module, norm_first: bool) -> Tensor:
    return tokens + branch(norm(tokens)) if norm_first else norm(tokens + branch(tokens))


def feedforward(layer: Any) -> Callable[[Tensor], Tensor]:
    return lambda tokens: layer.linear2(layer.linear1(tokens).relu())


def sine(padding: Tensor, width: int) -> Tensor:
    """Half of the channels for the row and half for the column: sine and cosine in turn, ever slower."""
    channel = torch.arange(width // 2)
    codes = []
    for axis in (1, 2):
        place = (~padding).cumsum(axis).double()
        place = place / (place.amax(axis, keepdim=True) + 1e-6) * 2 * math.pi
        angle = place[..., None] / 10000 ** (2 * (channel // 2).double() / (width // 2))
        codes.append(torch.where(channel % 2 == 0, angle.sin(), angle.cos()))
    return torch.cat(codes, -1).flatten(1, 2).transpose(0, 1)


def set_loss(logits: Tensor, boxes: Tensor, objects: list[Objects]) -> Tensor:
    """The loss of all layers, one image after the other (Carion et al. 2020, section 3.1 and A.2)."""
    weight = logits.new_ones(logits.shape[-1])
    weight[-1] = 0.1
    count = sum(len(image.labels) for image in objects)
    total = logits.new_zeros(())
    for layer_logits, layer_boxes in zip(logits, boxes, strict=True):
        wanted = torch.full(layer_logits.shape[:2], len(weight) - 1)
        for image, (truth, labels) in enumerate(objects):
            distance = torch.cdist(layer_boxes[image], truth, p=1)
            overlap = generalized_box_iou(corners(layer_boxes[image]), corners(truth))
            cost = 5 * distance - layer_logits[image].softmax(-1)[:, labels] - 2 * overlap
            query, target = map(torch.from_numpy, linear_sum_assignment(cost.detach()))
            wanted[image, query] = labels[target]
            total = total + (5 * distance + 2 * (1 - overlap))[query, target].sum() / count
        total = total + F.cross_entropy(layer_logits.transpose(1, 2), wanted, weight)
    return total


def corners(boxes: Tensor) -> Tensor:
    return box_convert(boxes, "cxcywh", "xyxy")


class Pair(NamedTuple):
    """A small detector and a composition with the weights that it exports."""

    detector: Any
    composition: Composition
    experiment: Experiment


@pytest.fixture(params=[True, False], ids=["pre-norm", "post-norm"])
def pair(request: pytest.FixtureRequest, small_detr: dict[str, object], tmp_path: Path) -> Pair:
    overrides = {
        "model.backbone.norm": "frozen",
        "model.transformer.pre_norm": request.param,
        "model.encoder.layers": 2,
        "model.decoder.layers": 3,
    }
    experiment = recipe("detr_r50", small_detr | overrides)
    torch.manual_seed(0)
    detector = build_detector(experiment, CATEGORIES).double()
    for name, tensor in detector.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(0, (2 if tensor.ndim == 2 else 1) * tensor[0].numel() ** -0.5)
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.3)
        else:
            tensor.uniform_(0.5, 1.5)
    detector.state_dict()["network.decoder.queries"].normal_(0, 2)
    official.write(tmp_path / "detr.pth", Stored(experiment, CATEGORIES, detector.state_dict()))
    composition = Composition(experiment.model, len(CATEGORIES) + 1).double()
    composition.load_state_dict(torch.load(tmp_path / "detr.pth", weights_only=True)["model"], strict=True)
    return Pair(detector, composition, experiment)


@pytest.fixture
def images() -> Images:
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    valid = torch.ones(2, 64, 96, dtype=torch.bool)
    valid[0, 30:], valid[1, :, 60:] = False, False
    return Images(pixels * valid[:, None], valid)


def assert_close(found: Tensor, expected: Tensor, what: object = "") -> None:
    """To the last digits of the expected values' size, or of 1 where they are small, as gradients may be."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1), what


def test_outputs_and_gradients(pair: Pair, images: Images) -> None:
    found, expected = pair.detector.network(images), pair.composition(images)
    assert expected[0].std(2).min() > 1e6 * TOLERANCE, "the queries' answers are too alike to tell them apart"
    torch.manual_seed(2)
    for ours, theirs in zip((found.logits, found.boxes), expected, strict=True):
        assert_close(ours, theirs)
        direction = torch.randn_like(theirs)
        for output in (ours, theirs):
            (output * direction).sum().backward(retain_graph=True)

    ours = {name: parameter.grad for name, parameter in pair.detector.network.named_parameters()}
    ours = from_stored(Stored(pair.experiment, CATEGORIES, ours), official.layout)
    theirs = {name: parameter.grad for name, parameter in pair.composition.named_parameters()}
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert_close(ours[name], gradient, name)


def test_torchs_transformer_where_there_are_no_positions(pair: Pair) -> None:
    network, transformer = pair.detector.network, pair.composition.transformer
    torch.manual_seed(3)
    tokens, hidden = torch.randn(2, 20, 32).double(), torch.randn(2, 5, 32).double()
    valid = torch.ones(2, 20, dtype=torch.bool)
    valid[1, 15:] = False

    memory = tokens
    for layer in network.encoder.layers:
        memory = layer(memory, torch.zeros_like(tokens), valid)
    memory = Memory(network.encoder.norm(memory), torch.zeros_like(tokens), valid)
    first, padding = tokens.transpose(0, 1), ~valid
    expected_memory = transformer.encoder(first, src_key_padding_mask=padding)
    assert_close(memory.tokens, expected_memory.transpose(0, 1))

    expected = transformer.decoder(
        hidden.transpose(0, 1), expected_memory, memory_key_padding_mask=padding
    ).transpose(0, 1)
    for layer in network.decoder.layers:
        hidden = layer(hidden, torch.zeros_like(hidden), memory)
    assert_close(network.decoder.norm(hidden), expected)


def test_steps_of_training(pair: Pair, images: Images) -> None:
    generator = torch.Generator().manual_seed(4)
    objects = [
        Objects(
            torch.rand(count, 4, generator=generator).double() * 0.3 + 0.2,
            torch.randint(6, (count,), generator=generator),
        )
        for count in (3, 2)
    ]
    train_alike(pair.detector, pair.composition, images, objects, steps=4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["detr_r50"], indirect=True)
def test_ten_steps_of_the_golden_case(case: Any, detector: Any, official_file: Callable[[str], Path]) -> None:
    composition = Composition(DetrSettings(), case.settings["num_classes"] + 1).double()
    composition.load_state_dict(torch.load(official_file(case.name), weights_only=True)["model"], strict=True)
    images = case.images._replace(pixels=case.images.pixels.double())
    objects = [Objects(image.boxes.double(), image.labels) for image in case.objects]
    train_alike(detector.double(), composition, images, objects, steps=10)


def train_alike(
    detector: Any, composition: Composition, images: Images, objects: list[Objects], steps: int
) -> None:
    """Take the same steps with both, and compare losses and gradient norms at each."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True)
    settings = AdamWSettings()
    model, optimizer = accelerator.prepare(detector, build_optimizer(detector, settings))
    batch = Batch(images, objects, [1, 2], [(480, 640)] * 2)
    totals = count_totals(objects, detector.max_objects)
    expected = training(composition, images, objects)
    model.train()
    for step in range(steps):
        report = take_step(accelerator, model, optimizer, [batch], totals, settings.clip_norm).read()
        loss, norm = next(expected)
        assert report.loss == pytest.approx(loss, rel=TOLERANCE), step
        assert report.gradient_norm == pytest.approx(norm, rel=TOLERANCE), step


def training(
    composition: Composition, images: Images, objects: list[Objects]
) -> Iterator[tuple[float, float]]:
    """Loss and gradient norm of every step, with the original's optimiser and rates."""
    trained = {name: weight for name, weight in composition.named_parameters() if weight.requires_grad}
    backbone = [weight for name, weight in trained.items() if name.startswith("backbone.")]
    rest = [weight for name, weight in trained.items() if not name.startswith("backbone.")]
    groups = [{"params": rest, "lr": 1e-4}, {"params": backbone, "lr": 1e-5}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    while True:
        optimizer.zero_grad()
        loss = set_loss(*composition(images), objects)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(composition.parameters(), 0.1)
        optimizer.step()
        yield loss.item(), norm.item()
