"""In which settings two networks differ, and which differences their weights can bridge."""

from pathlib import Path

from detrkit.errors import DetrkitError
from detrkit.settings.classical import Ssd300Settings, SsdLite320Settings
from detrkit.settings.experiment import Experiment, detr_settings
from detrkit.settings.model import DetrSettings
from detrkit.settings.section import describe
from detrkit.weights.growth import BASIC

_ARCHITECTURE = (
    "model.version",
    "model.backbone.name",
    "model.backbone.norm",
    "model.backbone.levels",
    "model.transformer.width",
    "model.encoder.layers",
    "model.decoder.kind",
    "model.decoder.layers",
)


def differences(source: Experiment, target: Experiment) -> list[tuple[str, object, object]]:
    """(setting, there, here) of every setting of the network that is another here."""
    there = {name: value for name, value, _ in describe(source)}
    return [
        (name, there.get(name), value)
        for name, value, _ in describe(target)
        if (name.startswith("model.") or name == "scoring.kind") and there.get(name) != value
    ]


def require_same_architecture(source: Experiment, target: Experiment, file: Path) -> None:
    """Refuse starting weights of another architecture; those of a DETR can be transferred first."""
    _require_same_family(source, target, file)
    is_detr = isinstance(target.model, DetrSettings)
    for name, there, here in differences(source, target):
        if not (name in _ARCHITECTURE if is_detr else _matters(name, there, here, target)):
            continue
        remedy = (
            f"bring them into this architecture by `detrkit weights transfer {file} --to RECIPE --out "
            "START.safetensors` with this run's recipe and --set, and start from START.safetensors"
            if is_detr
            else f"add --set {name}={there}, or start from other weights"
        )
        raise DetrkitError(f"the starting weights {file} have {name} {there}, not {here}: {remedy}.")


def require_detrs(source: Experiment, target: Experiment) -> tuple[DetrSettings, DetrSettings]:
    """The two models, if both are DETRs, since others are not brought into another architecture."""
    what = "bringing weights into another architecture"
    return detr_settings(source, what), detr_settings(target, what)


def require_same_blocks(source: DetrSettings, target: DetrSettings) -> None:
    """Refuse to carry a ResNet over into one whose blocks or normalisation compute something else."""
    old, new = source.backbone, target.backbone
    if (old.name in BASIC) != (new.name in BASIC):
        raise DetrkitError(
            f"the weights are of {old.name}, whose blocks are built otherwise than those of {new.name}: "
            "take --plan imagenet, which starts from ImageNet's backbone and carries the rest over."
        )
    if (old.norm == "group") != (new.norm == "group"):
        weights = "none" if old.norm == "group" else "imagenet"
        raise DetrkitError(
            f"the weights have model.backbone.norm {old.norm}, which computes something else than "
            f"{new.norm}: add --set model.backbone.norm={old.norm} --set model.backbone.weights={weights}, "
            "or take --plan imagenet."
        )


def _require_same_family(source: Experiment, target: Experiment, file: Path) -> None:
    # what is left of Mask R-CNN is Faster R-CNN
    there, here = (
        "faster_rcnn" if one.model.kind == "mask_rcnn" else one.model.kind for one in (source, target)
    )
    if there != here:
        raise DetrkitError(
            f"the starting weights {file} have model.kind {source.model.kind}, not {target.model.kind}, "
            "which has other parts: start from weights of this kind."
        )


def _matters(name: str, there: object, here: object, target: Experiment) -> bool:
    """Whether a classical detector's weights mean something else under the other setting."""
    if name == "model.backbone.norm":
        return "group" in (there, here)
    if name == "model.backbone.weights" and isinstance(target.model, Ssd300Settings | SsdLite320Settings):
        # which of both decides on the range of its pixels, or on the width of its last stage
        return "none" in (there, here)
    return name in _ARCHITECTURE
