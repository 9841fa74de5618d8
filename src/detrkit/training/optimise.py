"""The optimiser: AdamW (Loshchilov & Hutter 2019) with a rate of its own for the backbone."""

from torch.optim import AdamW, Optimizer

from detrkit.detectors.detector import Detector
from detrkit.settings.training import OptimSettings


def build_optimizer(detector: Detector, settings: OptimSettings) -> AdamW:
    """AdamW over the trainable parameters in two named groups, ``backbone`` and ``rest``."""
    backbone = {id(parameter) for parameter in detector.backbone.parameters()}
    trainable = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    groups = [
        {
            "name": "backbone",
            "params": [parameter for parameter in trainable if id(parameter) in backbone],
            "base_lr": settings.backbone_lr,
        },
        {
            "name": "rest",
            "params": [parameter for parameter in trainable if id(parameter) not in backbone],
            "base_lr": settings.lr,
        },
    ]
    return AdamW(
        [group for group in groups if group["params"]], lr=settings.lr, weight_decay=settings.weight_decay
    )


def set_rates(optimizer: Optimizer, factor: float) -> dict[str, float]:
    """Set every group's learning rate to its own times ``factor``, and return them by name."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return {group["name"]: group["lr"] for group in optimizer.param_groups}
