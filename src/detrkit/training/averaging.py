"""The moving average of the weights, which often validates better than the weights themselves."""

from torch import Tensor
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from detrkit.detectors.detector import Detector


def average_of(detector: Detector, decay: float) -> AveragedModel:
    """An average that starts as the detector and follows it at each ``update_parameters``.

    The first update copies the weights. From then on the decay is ramped, min(decay, (1 + n) / (10 + n))
    after n updates, so that a short run's average is not made of its first weights (as in TensorFlow).
    """

    def follow(average: PARAM_LIST, current: PARAM_LIST, count: Tensor | int) -> None:
        ramped = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(ramped)(average, current, count)

    return AveragedModel(detector, multi_avg_fn=follow)
