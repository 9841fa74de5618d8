"""In which settings two networks differ, and which differences their weights can bridge."""

from pathlib import Path

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment
from detrkit.settings.section import describe
from detrkit.weights.growth import BASIC

_ARCHITECTURE = (
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
    """Refuse starting weights of another architecture, which are to be transferred first."""
    for name, there, here in differences(source, target):
        if name in _ARCHITECTURE:
            raise DetrkitError(
                f"the starting weights {file} have {name} {there}, not {here}: bring them into this "
                f"architecture by `detrkit weights transfer {file} --to RECIPE --out START.safetensors` with "
                "this run's recipe and --set, and start from START.safetensors."
            )


def require_same_blocks(source: Experiment, target: Experiment) -> None:
    """Refuse to carry a ResNet over into one whose blocks or normalisation compute something else."""
    old, new = source.model.backbone, target.model.backbone
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
