"""One split of a dataset as samples."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from detrkit.catalog import Catalog
from detrkit.data.formats.shards import require_shards
from detrkit.data.images import read_reduced_image
from detrkit.data.order import Key
from detrkit.data.shards.opened import OpenShards
from detrkit.data.transforms import Transform, show
from detrkit.data.views import Size, View, stored_size
from detrkit.errors import DetrkitError, UnreadableImageError
from detrkit.structures import Sample


class SplitDataset(Dataset[Sample]):
    """The images and objects of a catalog; ``dataset[epoch, index]`` is one sample, in a view of its own.

    A sample is a function of (seed, epoch, index) alone, whichever process makes it and in whatever
    order. Crowds and boxes without area are left out, and boxes are clipped to their image.
    """

    def __init__(self, catalog: Catalog, transform: Transform, seed: int = 0) -> None:
        self.catalog = catalog
        self._transform = transform
        self._seed = seed
        self._boxes = _clipped_boxes(catalog)
        self._kept = ~catalog.crowds & _has_area(self._boxes)
        self._shards = OpenShards(catalog)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.catalog)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of an image in an epoch; UnreadableImageError if its file cannot be read."""
        _, index = key
        view = self._view_of_stored(key)
        wanted = view.reduction if self._transform.reduced_decoding else 1
        image, reduction = self._read(index, self._stored_size(index), wanted)
        return show(self._stored(index, image), view, reduction)

    def blank(self, key: Key) -> Sample:
        """The sample that ``dataset[key]`` would be if its image were black, for which no file is read."""
        _, index = key
        black = torch.zeros(3, *self._stored_size(index), dtype=torch.uint8)
        return show(self._stored(index, black), self._view_of_stored(key))

    def view(self, key: Key) -> View:
        """How a sample shows its image, for which no file is read."""
        epoch, index = key
        random = np.random.default_rng([self._seed, epoch, index])
        return self._transform.draw(self.catalog.size(index), random)

    def aspects(self, epoch: int) -> Float64[np.ndarray, " images"]:
        """Width over height of all samples of an epoch."""
        sizes = np.array([self.view((epoch, index)).size for index in range(len(self))], dtype=np.float64)
        return sizes[:, 1] / sizes[:, 0]

    def _view_of_stored(self, key: Key) -> View:
        _, index = key
        (height, width), stored = self.catalog.size(index), self._stored_size(index)
        return self.view(key).of_resized(stored[0] / height, stored[1] / width)

    def _stored_size(self, index: int) -> Size:
        return stored_size(self.catalog.size(index), self.catalog.short_side)

    def _read(self, index: int, stored: Size, reduction: int) -> tuple[UInt8[Tensor, "3 _ _"], int]:
        try:
            return read_reduced_image(self.catalog.place(index), stored, reduction, self._shards.read(index))
        except DetrkitError as error:
            if self.catalog.short_side is None:
                raise UnreadableImageError(str(error)) from None
            raise UnreadableImageError(
                f"{error} It belongs to a copy with shorter sides of {self.catalog.short_side} pixels at "
                "most: remove it there, and give the same detrkit data cache again."
            ) from None

    def _stored(self, index: int, image: UInt8[Tensor, "3 _ _"]) -> Sample:
        """An image as its file has it, and its boxes there: positions of no rounding, however small it is."""
        size, stored = self.catalog.size(index), self._stored_size(index)
        down, across = stored[0] / size[0], stored[1] / size[1]
        rows = self.catalog.rows(index)
        kept = self._kept[rows]
        boxes = self._boxes[rows][kept] * np.array([across, down, across, down], np.float32)
        return Sample(
            image=tv_tensors.Image(image),
            boxes=tv_tensors.BoundingBoxes(  # pyright: ignore[reportCallIssue] torch's stub hides its own
                torch.from_numpy(boxes),
                format=tv_tensors.BoundingBoxFormat.XYXY,
                canvas_size=stored,
            ),
            labels=torch.from_numpy(self.catalog.labels[rows][kept]),
            image_id=int(self.catalog.image_ids[index]),
            original_size=size,
        )


def describe_enlarged(catalog: Catalog, setting: str, short_side: int) -> list[str]:
    """A sentence if a setting asks for larger images than the files of a copy hold; none if it does not."""
    held, reduced = catalog.short_side, catalog.num_resized
    if held is None or held >= short_side or not reduced:
        return []
    return [
        f"Images of {catalog.source} that are kept with a shorter side of {held} pixels: {reduced:,}; "
        f"{setting} asks for {short_side}, to which they are enlarged."
    ]


def require_images(catalog: Catalog, may_lack: int = 0) -> None:
    """Raise a DetrkitError unless every image is a file in the catalog's folder, or in a complete shard.

    So many files ``may_lack``.
    """
    if catalog.shards is not None:
        require_shards(catalog.folder, catalog.shards)
        return
    folders = {name.rpartition("/")[0] for name in catalog.file_names}
    present = {
        f"{folder}/{name}".lstrip("/") for folder in folders for name in _files(catalog.folder / folder)
    }
    missing = [name for name in catalog.file_names.tolist() if name not in present]
    if len(missing) > may_lack:
        raise DetrkitError(
            f"{len(missing)} of the {len(catalog)} images of {catalog.source} are missing from "
            f"{catalog.folder}, the first being {missing[0]}: fetch them or correct the annotations."
        )


def require_objects(catalog: Catalog) -> None:
    """Raise a DetrkitError unless there is an object to train on."""
    if not (~catalog.crowds & _has_area(_clipped_boxes(catalog))).any():
        raise DetrkitError(
            f"{catalog.source} has no object to train on in its {len(catalog)} images, crowds and boxes "
            "without area aside: annotate some, or name another split with data.train_split."
        )


def _files(folder: Path) -> Iterator[str]:
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries if entry.is_file())


def _clipped_boxes(catalog: Catalog) -> Float32[np.ndarray, "annotations 4"]:
    """The boxes, cut to their images."""
    sizes = np.stack([catalog.widths, catalog.heights] * 2, axis=1)
    limits = np.repeat(sizes, np.diff(catalog.offsets), axis=0)
    return catalog.boxes.clip(0, limits).astype(np.float32)


def _has_area(boxes: Float32[np.ndarray, "annotations 4"]) -> Bool[np.ndarray, " annotations"]:
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
