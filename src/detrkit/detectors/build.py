"""From settings to a detector: the place where built parts are put together."""

from detrkit.catalog import Category
from detrkit.detectors.detector import Detector
from detrkit.detectors.detr import DetrDetector
from detrkit.detectors.torchvision import TorchvisionDetector
from detrkit.models.detr import build_detr
from detrkit.objective.criterion import Criterion
from detrkit.scoring import build_scoring
from detrkit.settings.experiment import Experiment
from detrkit.settings.model import DetrSettings
from detrkit.structures import ImageSize


def build_detector(experiment: Experiment, categories: tuple[Category, ...]) -> Detector:
    """The detector that the settings describe, with random weights from torch's generator.

    Pretrained weights are loaded into it by ``models.pretrained`` or ``inference.load``.
    """
    image_size = ImageSize(experiment.data.eval_short_side, experiment.data.max_size)
    if not isinstance(experiment.model, DetrSettings):
        return TorchvisionDetector(experiment.model, categories, image_size)
    scoring = build_scoring(experiment.scoring)
    network = build_detr(experiment.model, scoring, len(categories))
    criterion = Criterion(scoring, experiment.matching, experiment.loss)
    return DetrDetector(network, criterion, categories, image_size)
