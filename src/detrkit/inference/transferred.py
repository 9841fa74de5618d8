"""The weights of one architecture as the start of another."""

import torch
from torch import Tensor

from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.models.pretrained import load_pretrained
from detrkit.settings.experiment import Experiment
from detrkit.structures import Images
from detrkit.weights.architecture import require_detrs
from detrkit.weights.store import Stored
from detrkit.weights.transfer import Plan, Transfer, transfer

_PROBE_SIDE = 128


def transferred(source: Stored, experiment: Experiment, plan: Plan) -> Transfer:
    """The state of the detector that ``experiment`` describes, for the source's classes.

    What the source has no numbers for is drawn anew from ``train.seed``.

    Raises:
        DetrkitError: where the plan cannot bring these weights there, or the backbone's cannot be had.
    """
    _, model = require_detrs(source.experiment, experiment)
    settings = model.backbone
    if plan == "imagenet" and settings.weights == "none":
        raise DetrkitError(
            "--plan imagenet takes the backbone that model.backbone.weights names, which is none here: set "
            "it to imagenet or to a file of a ResNet's weights."
        )
    torch.manual_seed(experiment.train.seed)
    detector = build_detector(experiment, source.categories)
    if plan == "imagenet":
        load_pretrained(detector.backbone, settings)
    return transfer(source, detector.state_dict(), experiment, source.categories, plan)


def largest_difference(source: Stored, target: Stored) -> tuple[float, float] | None:
    """By how much (logits, boxes) of the two networks differ at most, in their answers to an image of noise.

    None where they have not as many queries or logits.
    """
    noise = torch.Generator().manual_seed(0)
    images = Images(torch.randn(1, 3, _PROBE_SIDE, _PROBE_SIDE, generator=noise))
    answers = [_last_answer(stored, images) for stored in (source, target)]
    (old_logits, old_boxes), (logits, boxes) = answers
    if old_logits.shape != logits.shape:
        return None
    return (logits - old_logits).abs().max().item(), (boxes - old_boxes).abs().max().item()


@torch.inference_mode()
def _last_answer(stored: Stored, images: Images) -> tuple[Tensor, Tensor]:
    detector: Detector = build_detector(stored.experiment, stored.categories)
    detector.load_state_dict(stored.tensors)
    output = detector.eval().get_submodule("network")(images)
    return output.logits[-1], output.boxes[-1]
