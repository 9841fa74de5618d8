"""An ONNX file as one that looks at images: its speed can be measured, though not what its outputs mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from detrkit.benchmark.looking import Clock, Look, described
from detrkit.catalog import Catalog
from detrkit.data.collate import collate, to_network
from detrkit.data.dataset import SplitDataset
from detrkit.data.transforms import Transform, evaluation_transform
from detrkit.data.views import View
from detrkit.errors import DetrkitError
from detrkit.structures import Batch, Images, ImageSize


class Session(NamedTuple):
    """A session of onnxruntime (of this version), and what its inputs take."""

    path: Path
    runtime: str
    session: Any
    images: str
    bytes: bool
    sizes: str | None
    largest_batch: int | None
    height_width: tuple[int, int] | None


def open_session(path: Path, device: torch.device) -> Session:
    """The network of a file, which takes images ``[B, 3, H, W]`` and maybe their sizes ``[B, 2]``.

    Images are floats, normalised as detrkit's are, or bytes. Where the file says that there is one, or what
    size they have, it is kept to.

    Raises:
        DetrkitError: onnxruntime is not installed, or the file is none that it reads or has other inputs.
    """
    runtime = _runtime(path)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    if wanted not in runtime.get_available_providers():
        raise DetrkitError(
            f"{path}: onnxruntime has no {wanted} here: install onnxruntime-gpu, or take --device cpu."
        )
    try:
        session = runtime.InferenceSession(str(path), options, providers=[wanted])
    except Exception as error:  # noqa: BLE001  # its errors have no common class of their own
        raise DetrkitError(f"{path} is no ONNX file that onnxruntime can run: {error}.") from None
    return _described(path, runtime.__version__, session)


def look_of_session(
    name: str, session: Session, catalog: Catalog, image_size: ImageSize, clock: Clock
) -> Look:
    """How it looks; its images are resized to ``image_size`` unless the file says otherwise."""
    dataset = SplitDataset(catalog, _transform(session, image_size))

    def prepare(places: Sequence[int]) -> Batch:
        return collate([dataset[0, place] for place in places])

    def answer(batch: Batch) -> None:
        session.session.run(None, _inputs(session, batch))

    return Look(name, "fp32", prepare, answer, session.largest_batch)


def described_size(session: Session, image_size: ImageSize) -> str:
    """What images are resized to."""
    if session.height_width is None:
        return described(image_size)
    height, width = session.height_width
    return f"{height} x {width}, stretched"


def _runtime(path: Path) -> Any:
    try:
        import onnxruntime  # who has no such file needs it not
    except ImportError:
        raise DetrkitError(
            f"{path} is an ONNX file, for which onnxruntime is missing: pip install onnxruntime."
        ) from None
    return onnxruntime


def _described(path: Path, runtime: str, session: Any) -> Session:
    inputs = session.get_inputs()
    images = [one for one in inputs if len(one.shape) == 4 and one.shape[1] == 3]
    sizes = [one for one in inputs if len(one.shape) == 2 and one.shape[1] == 2 and "int64" in one.type]
    if len(images) != 1 or len(images) + len(sizes) != len(inputs) or len(sizes) > 1:
        stated = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise DetrkitError(
            f"{path}: its inputs are {stated}; expected are images [B, 3, H, W], and maybe their sizes "
            "tensor(int64) [B, 2]: export it so."
        )
    if images[0].type not in ("tensor(float)", "tensor(uint8)"):
        raise DetrkitError(
            f"{path}: its images are {images[0].type}; expected is tensor(float) or tensor(uint8)."
        )
    batch, _, height, width = (side if isinstance(side, int) else None for side in images[0].shape)
    if batch not in (None, 1):
        raise DetrkitError(
            f"{path}: it takes {batch} images at a time: export it for one, or for any number."
        )
    return Session(
        path,
        runtime,
        session,
        images[0].name,
        images[0].type == "tensor(uint8)",
        sizes[0].name if sizes else None,
        batch,
        None if height is None or width is None else (height, width),
    )


def _transform(session: Session, image_size: ImageSize) -> Transform:
    fixed = session.height_width
    if fixed is None:
        return evaluation_transform(image_size)
    return Transform(lambda size, random: View((0.0, 0.0, float(size[1]), float(size[0])), False, fixed))


def _inputs(session: Session, batch: Batch) -> dict[str, np.ndarray]:
    images = batch.images
    if not session.bytes:
        images = to_network(Images(images.pixels, images.valid), torch.device("cpu"), torch.float32)
    given = {session.images: np.ascontiguousarray(images.pixels.numpy())}
    if session.sizes is not None:
        given[session.sizes] = np.array(batch.original_sizes, np.int64)
    return given
