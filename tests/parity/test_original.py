"""The original code's numbers, from its own weights: everything from the features to ten training steps."""

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detrkit.objective.criterion import count_totals
from detrkit.objective.matching import match
from detrkit.settings.objective import MatchingSettings
from detrkit.settings.training import AdamWSettings
from detrkit.structures import Batch
from detrkit.training.optimise import build_optimizer
from detrkit.training.step import take_step
from detrkit.weights.official import layout

TERMS = {
    "classification": "loss_ce",
    "l1": "loss_bbox",
    "giou": "loss_giou",
    "class_error": "class_error",
    "cardinality_error": "cardinality_error",
}

# The relative error allowed at each step of the golden trajectories; the last is for all from the fifth on.
# The bounds come from a composition of torch's modules in the original's order (as in test_composition.py),
# run in float32. With its initial weights changed by up to 6e-8 of themselves, as float32's rounding does, it
# leaves the golden losses by up to 3.6e-6 in three steps, 3e-5 in four, 9.3e-4 in five, 1.7e-3 in six, and
# 8e-3 in ten (twelve draws).
TRAJECTORY = (2e-5, 2e-5, 2e-5, 1e-3, 8e-3)


def close(found: Tensor, expected: np.ndarray, tolerance: float = 1e-4) -> bool:
    """Whether the largest difference is within ``tolerance`` of the expected values' deviation."""
    difference = np.abs(found.detach().numpy() - expected).max()
    return difference <= tolerance * max(expected.std(), 1e-8)


@pytest.fixture
def output(case: Any, detector: Any) -> Any:
    with torch.no_grad():
        return detector.network(case.images)


def test_features_and_positions(case: Any, detector: Any) -> None:
    network, arrays = detector.network, case.arrays
    with torch.no_grad():
        (features,) = network.backbone(case.images)
    assert close(features.values.mean((2, 3)), arrays["features_mean"])
    assert np.array_equal(~features.valid.numpy(), arrays["features_mask"])
    position = network.encoder.position(features.valid, torch.float32).permute(0, 3, 1, 2)
    assert close(position[:, ::16], arrays["position"])


def test_logits_and_boxes_of_every_layer(case: Any, output: Any) -> None:
    arrays = case.arrays
    assert close(output.logits[-1], arrays["logits"])
    assert close(output.boxes[-1], arrays["boxes"])
    for layer in range(5):
        assert close(output.logits[layer][..., :8], arrays[f"aux{layer}_logits"])
        assert close(output.boxes[layer], arrays[f"aux{layer}_boxes"])


def test_matches(case: Any, detector: Any, output: Any) -> None:
    scoring = detector.criterion.scoring
    found = match(output.logits, output.boxes, case.objects, scoring, MatchingSettings())
    first = 0
    for image, count in enumerate(case.settings["counts"]):
        here = found.image[-1] == image
        assert found.query[-1][here].tolist() == case.arrays[f"match{image}_query"].tolist()
        assert (found.target[-1][here] - first).tolist() == case.arrays[f"match{image}_target"].tolist()
        first += count


def test_every_loss_term(case: Any, detector: Any, output: Any) -> None:
    totals = count_totals(case.objects, 100)
    report = detector.criterion(output, case.objects, totals)
    for name, original in TERMS.items():
        expected = [case.arrays.get(f"loss/{original}_{layer}") for layer in range(5)]
        expected.append(case.arrays[f"loss/{original}"])
        for layer, value in enumerate(expected):
            if value is not None:
                assert float(report.terms[name][layer]) == pytest.approx(float(value), rel=1e-5), (
                    name,
                    layer,
                )


def test_detections(case: Any, detector: Any) -> None:
    found = detector.detect(case.images, [(480, 640)] * 2)
    for image, detections in enumerate(found):
        expected = {name: case.arrays[f"det{image}_{name}"] for name in ("boxes", "scores", "labels")}
        boxes = detections.boxes.detach().numpy()
        # Scores may tie to the last bits, so the nearest boxes are compared, each with one partner.
        distance = np.abs(boxes[:, None] - expected["boxes"][None]).max(-1)
        ours, theirs = linear_sum_assignment(distance)
        assert distance[ours, theirs].max() <= 0.01
        scores = detections.scores.detach().numpy()
        assert np.abs(scores[ours] - expected["scores"][theirs]).max() <= 1e-5
        assert detections.labels.numpy()[ours].tolist() == expected["labels"][theirs].tolist()
        assert (np.diff(scores) <= 0).all()


def test_gradients_of_the_first_step(case: Any, detector: Any) -> None:
    detector.train()
    detector(case.images, case.objects, count_totals(case.objects, 100)).total.backward()
    gradients: dict[str, list[Tensor]] = {}
    for name, parameter in detector.network.named_parameters():
        if parameter.grad is not None:
            gradients.setdefault(layout(name).name, []).append(parameter.grad)
    for name, expected in zip(case.arrays["grad_names"], case.arrays["grad_norms"], strict=True):
        norm = torch.cat([gradient.flatten() for gradient in gradients[str(name)]]).norm()
        assert float(norm) == pytest.approx(float(expected), rel=1e-3), name


@pytest.mark.slow
def test_the_training_trajectory(case: Any, detector: Any) -> None:
    settings = case.settings
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True)
    optim = AdamWSettings(
        lr=settings["lr"],
        backbone_lr=settings["lr_backbone"],
        weight_decay=settings["weight_decay"],
        clip_norm=settings["clip_max_norm"],
    )
    model, optimizer = accelerator.prepare(detector, build_optimizer(detector, optim))
    model.train()
    batch = Batch(case.images, case.objects, [1, 2], [(480, 640)] * 2)
    for step in range(settings["steps"]):
        totals = count_totals(case.objects, 100)
        report = take_step(accelerator, model, optimizer, [batch], totals, optim.clip_norm).read()
        tolerance = TRAJECTORY[min(step, len(TRAJECTORY) - 1)]
        expected = float(case.arrays["train_total_loss"][step])
        assert report.loss == pytest.approx(expected, rel=tolerance), step
    assert step + 1 == len(case.arrays["train_total_loss"])
