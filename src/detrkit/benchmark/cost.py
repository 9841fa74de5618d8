"""What a network is, whatever it is run on: parameters, bytes, multiply-adds."""

from detrkit.benchmark.entrant import Network, Weights
from detrkit.benchmark.exported import Session
from detrkit.benchmark.multiply_adds import detection_multiply_adds
from detrkit.benchmark.opened import Opened, weight_files
from detrkit.benchmark.results import Cost
from detrkit.catalog import Catalog
from detrkit.detectors.detector import Detector, num_parameters


def cost_of(
    network: Network, opened: Opened | Session, catalog: Catalog, sizes: tuple[tuple[int, int], ...]
) -> Cost:
    """The cost of a network; of an ONNX file, only its bytes are known."""
    if isinstance(opened, Session):
        return Cost(None, None, opened.path.stat().st_size, {})
    trainable, everything = num_parameters(opened.detector)
    counted = {
        f"{height}x{width}": detection_multiply_adds(opened.detector, catalog, (height, width))
        for height, width in sizes
    }
    return Cost(everything, trainable, _bytes(network, opened.detector), counted)


def _bytes(network: Network, detector: Detector) -> int:
    """Those of the weights' files, or of the tensors that would be in one."""
    files = weight_files(network.path) if isinstance(network, Weights) else []
    if not files:
        return sum(tensor.nbytes for tensor in detector.state_dict().values())
    return sum(file.stat().st_size for file in files)
