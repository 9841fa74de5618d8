"""Detection transformers with ResNet backbones: prepare data, train, evaluate, predict.

The public names load what they need when they are first used, so that importing the package is quick.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detrkit.inference.load import load as load
    from detrkit.inference.predictor import Predictor as Predictor
    from detrkit.monitoring.recorded import fit as fit
    from detrkit.settings.experiment import recipe as recipe

__version__ = version("detrkit")

_HOMES = {
    "fit": "detrkit.monitoring.recorded",
    "load": "detrkit.inference.load",
    "Predictor": "detrkit.inference.predictor",
    "recipe": "detrkit.settings.experiment",
}

__all__ = ["Predictor", "__version__", "fit", "load", "recipe"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'detrkit' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
