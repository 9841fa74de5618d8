"""The optimiser: AdamW (Loshchilov & Hutter 2019) or SGD, with a rate of its own for the backbone."""

from typing import assert_never

import torch
from torch.optim import SGD, AdamW, Optimizer

from detrkit.detectors.detector import Detector
from detrkit.settings.training import AdamWSettings, OptimSettings, SgdSettings


def build_optimizer(detector: Detector, settings: OptimSettings) -> Optimizer:
    """It moves the trainable parameters in two named groups, ``backbone`` and ``rest``, by a fused kernel."""
    backbone = {id(parameter) for parameter in detector.backbone.parameters()}
    groups = {
        "backbone": ([p for p in detector.parameters() if id(p) in backbone], settings.backbone_lr),
        "rest": ([p for p in detector.parameters() if id(p) not in backbone], settings.lr),
    }
    named = [
        {"name": name, "params": trainable, "lr": rate, "base_lr": rate}
        for name, (parameters, rate) in groups.items()
        if (trainable := [p for p in parameters if p.requires_grad])
    ]
    match settings:
        case AdamWSettings():
            return AdamW(named, weight_decay=settings.weight_decay, fused=True)
        case SgdSettings():
            sgd = SGD(named, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True)
            forget(sgd)
            return sgd
        case _:
            assert_never(settings)


def forget(optimizer: Optimizer) -> None:
    """Put what it remembers back to what it was before the first step.

    SGD begins with momenta of 0, which give the same first step as none: a first step that is left out would
    keep as its momenta whatever its memory held before.
    """
    optimizer.state.clear()
    for group in optimizer.param_groups:
        if group.get("momentum"):
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def set_rates(optimizer: Optimizer, factor: float) -> dict[str, float]:
    """Set every group's learning rate to its own times ``factor``, and return them by name."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return {group["name"]: group["lr"] for group in optimizer.param_groups}
