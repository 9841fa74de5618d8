"""The YOLO layout: ``data.yaml``, images below ``images/``, and ``labels/NAME.txt`` for ``images/NAME.jpg``.

The format is that of https://docs.ultralytics.com/datasets/detect. ``data.yaml`` has ``names``, a list or a
mapping from numbers, and ``train``, ``val`` and ``test``, each a folder, a list of folders, or a text file of
paths; they start from its ``path``, or from its own folder. Each line of a label file is one object:
``class cx cy width height``, in fractions of the image. An image without a label file has no objects.

Class numbers are the ids of categories; images and objects are counted from 1 within a split. Fractions are
of the image as viewers show it, turned by EXIF, which is how tools of this layout read images.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from jaxtyping import Float64, Int64

from detrkit.catalog import Catalog, Category
from detrkit.data.headers import read_header
from detrkit.data.names import column, is_writable, stays_inside
from detrkit.data.plausible import read_number
from detrkit.data.suffixes import SUFFIXES
from detrkit.errors import DetrkitError, shown
from detrkit.files import is_file, is_folder, require_regular

SPLITS = ("train", "val", "test")
"""The splits that the layout knows."""

_SLACK = 0.01
"""How far outside 0..1 a number may lie: rounding, and boxes drawn across the border, leave that much."""

_LEAST = 256
"""Bytes that an image takes at least on a disk: its entry in a folder and its header."""

_LINE = "class cx cy width height"


class _Dataset(NamedTuple):
    """What ``data.yaml`` says."""

    source: Path
    root: Path
    base: Path
    categories: tuple[Category, ...]
    splits: dict[str, list[str]]


class _Listed(NamedTuple):
    """The images of a split, and the folder that all of them lie in."""

    folder: Path
    images: list[Path]


def yolo_splits(root: Path) -> list[str]:
    """The names of the splits that ``data.yaml`` names, sorted; empty for another layout."""
    return sorted(_describe(root).splits) if (root / "data.yaml").is_file() else []


def label_file(image: Path, root: Path) -> Path:
    """Where the objects of an image are: its last folder ``images`` is ``labels``, or else beside it.

    Folders that the dataset in ``root`` lies in, whatever they are called, stay as they are.
    """
    parts = list(image.parts)
    outside = len(parts) - len(Path(os.path.relpath(image, root)).parts)
    for position in range(len(parts) - 2, outside - 1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_yolo_split(root: Path, split: str) -> Catalog:
    """The catalog of one split, in the order of the images' names, or of their list.

    Boxes keep what reaches outside the image, and areas are those of the boxes. Of each image only the header
    is read.

    Raises:
        DetrkitError: What is missing, which line is not what the layout says, or which image viewers turn
            in a way that its size does not tell.
    """
    dataset = _describe(root)
    folder, images = _listed(dataset, split)
    names = [image.relative_to(folder).as_posix() for image in images]
    sizes = np.array([_size(image) for image in images], np.int64)
    counts, rows = _read_labels(images, dataset)
    boxes = _to_pixels(rows[:, 1:], np.repeat(sizes, counts, axis=0))
    return Catalog(
        source=dataset.source,
        folder=folder,
        categories=dataset.categories,
        image_ids=np.arange(1, len(images) + 1, dtype=np.int64),
        file_names=column(names, dataset.source, _LEAST * len(images)),
        widths=sizes[:, 1].copy(),
        heights=sizes[:, 0].copy(),
        offsets=np.cumsum([0, *counts], dtype=np.int64),
        annotation_ids=np.arange(1, len(rows) + 1, dtype=np.int64),
        boxes=boxes,
        labels=rows[:, 0].astype(np.int64),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        crowds=np.zeros(len(rows), np.bool_),
    )


def yolo_refusals(root: Path, split: str) -> Iterator[str]:
    """Why ``read_yolo_split`` refuses images and lines of labels: a sentence for each that it does."""
    dataset = _describe(root)
    label_of = {category.id: label for label, category in enumerate(dataset.categories)}
    for image in _listed(dataset, split).images:
        yield from _refusal(_size, image)
        labels = label_file(image, dataset.root)
        if labels.is_file():
            yield from _refusal(list, _lines(labels)) or (
                reason
                for number, line in _lines(labels)
                for reason in _refusal(_row, line, label_of, labels, number)
            )


def _refusal(read: Callable[..., object], *arguments: object) -> list[str]:
    try:
        read(*arguments)
    except DetrkitError as error:
        return [str(error)]
    return []


def write_yolo(root: Path, catalogs: Mapping[str, Catalog]) -> None:
    """Write ``data.yaml``, and a label file for each image, which is to be in ``images/SPLIT``.

    The catalogs have the same categories, no crowds, and boxes within their images. Fractions are written
    with all digits, so that boxes come back to a billionth of a pixel.
    """
    categories = next(iter(catalogs.values())).categories
    for split, catalog in catalogs.items():
        for index in range(len(catalog)):
            image = root / "images" / split / str(catalog.file_names[index])
            _write_labels(label_file(image, root), catalog, index)
    content = {split: f"images/{split}" for split in SPLITS if split in catalogs}
    content |= {"nc": len(categories), "names": [category.name for category in categories]}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=1000)
    (root / "data.yaml").write_text(text, encoding="utf-8")


def _write_labels(file: Path, catalog: Catalog, index: int) -> None:
    height, width = catalog.size(index)
    rows = catalog.rows(index)
    corners = catalog.boxes[rows] / (width, height, width, height)
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    table = np.concatenate([centres, corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    lines = [
        f"{label} {' '.join(map(repr, row))}\n"
        for label, row in zip(catalog.labels[rows].tolist(), table, strict=True)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines), encoding="ascii")


def _describe(root: Path) -> _Dataset:
    source = root / "data.yaml"
    content = _load(source)
    stated = _text(content.get("path") or ".", source, "path")
    base = _inside(root, root / stated)
    if base is None:
        raise DetrkitError(
            f"{source} has the path {shown(stated)}, which leads out of {root}: put data.yaml into the "
            "dataset's folder and name that, or put a link to it there."
        )
    if not is_folder(base):
        raise DetrkitError(
            f"{source} has the path {shown(stated)}, but {base} is not a folder: "
            "write where the dataset lies, or remove the entry if that is the folder of data.yaml."
        )
    splits = {split: _entries(content[split], source, split) for split in SPLITS if content.get(split)}
    if not splits:
        raise DetrkitError(
            f"{source} names no images: write train, val or test with the folder of the split's images."
        )
    return _Dataset(source, root, base, _categories(content, source), splits)


class _Loader(yaml.SafeLoader):
    """Plain values without references: a few lines of those stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(None, None, f"*{event.anchor} is not read here", event.start_mark)
        return super().compose_node(parent, index)


def _load(source: Path) -> dict[Any, Any]:
    try:
        require_regular(source)
        content = yaml.load(source.read_text(encoding="utf-8-sig"), _Loader)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DetrkitError(f"{source} cannot be read as YAML ({reason}): correct that place.") from None
    if not isinstance(content, dict):
        raise DetrkitError(
            f"{source} holds {shown(content)}, but entries such as 'names: [cat, dog]' and "
            "'train: images/train' are expected: write these."
        )
    return content


def _text(value: object, source: Path, entry: str) -> str:
    if not isinstance(value, str) or "\0" in value or not is_writable(value):
        raise DetrkitError(f"{source} has the {entry} {shown(value)}, but a path is expected: correct it.")
    return value


def _entries(value: object, source: Path, split: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [_text(one, source, split) for one in values]


def _categories(content: dict[Any, Any], source: Path) -> tuple[Category, ...]:
    names = content.get("names")
    if not names or not isinstance(names, list | dict):
        raise DetrkitError(
            f"{source} has the names {shown(names)}, but the names of all classes are expected, "
            "as in 'names: [cat, dog]': add them."
        )
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    for number, name in numbered.items():
        _require_name(number, name, source)
    _require_distinct([str(name) for name in numbered.values()], source)
    stated = content.get("nc", len(numbered))
    if stated != len(numbered):
        raise DetrkitError(
            f"{source} has nc {shown(stated)}, but {len(numbered)} names: name each class, or correct nc."
        )
    return tuple(Category(number, str(numbered[number])) for number in sorted(numbered))


def _require_name(number: object, name: object, source: Path) -> None:
    if type(number) is not int or not 0 <= number < 2**31:
        raise DetrkitError(
            f"{source} numbers a class {shown(number)}, but whole numbers from 0 are expected: correct it."
        )
    if not isinstance(name, str) and not (type(name) is int and abs(name) < 2**63):
        raise DetrkitError(
            f"{source} names class {number} {shown(name)}, but a text is expected: put it into quotes."
        )
    if isinstance(name, str) and not is_writable(name):
        raise DetrkitError(
            f"{source} names class {number} {shown(name)}, which holds half of a surrogate pair, but text in "
            "UTF-8 is expected: write the sign itself."
        )


def _require_distinct(names: list[str], source: Path) -> None:
    twice, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise DetrkitError(
            f"{source} names two classes {shown(twice)}, but each needs a name of its own: change one."
        )


def _listed(dataset: _Dataset, split: str) -> _Listed:
    """The images of a split. Where a folder was named, that is what all of them lie in."""
    entries = [_found(dataset, split, entry) for entry in dataset.splits[split]]
    images = [image for entry in entries for image in _images_of(entry, dataset)]
    if not images:
        raise DetrkitError(
            f"{dataset.source} has {split}: {', '.join(dataset.splits[split])[:200]}, but no image is there: "
            f"put the images there, with names that end in {', '.join(SUFFIXES)}."
        )
    _require_one_each(images, dataset, split)
    parents = {str(image.parent) for image in images}
    folders = [str(entry) for entry in entries] if all(entry.is_dir() for entry in entries) else parents
    return _Listed(Path(os.path.commonpath(list(folders))), images)


def _found(dataset: _Dataset, split: str, entry: str) -> Path:
    """The folder or list that an entry means.

    Exported ``data.yaml`` often have ``../train/images`` for ``train/images``, which tools take as that.
    """
    for candidate in (entry, entry.removeprefix("../")):
        path = _inside(dataset.root, dataset.base / candidate)
        if path is not None and (is_folder(path) or (is_file(path) and path.suffix == ".txt")):
            return path
    raise DetrkitError(
        f"{dataset.source} has {split}: {entry[:200]}, but in {dataset.base} that is neither a folder of "
        "images nor a .txt list of them: correct the entry, or put the images or a link to them there."
    )


def _inside(root: Path, path: Path) -> Path | None:
    """The absolute path, whose links stay as they are, or None if no file of ``root`` can have it."""
    folder, found = os.path.abspath(root), os.path.abspath(path)  # noqa: PTH100
    inner = os.path.relpath(found, folder)
    return Path(found) if stays_inside(inner) else None


def _images_of(entry: Path, dataset: _Dataset) -> Iterator[Path]:
    if entry.is_file():
        yield from _in_list(entry, dataset)
        return
    names = []
    for folder, _, files in os.walk(entry):
        names += [Path(folder, file) for file in files if _is_image(file)]
    yield from sorted(names, key=Path.as_posix)


def _is_image(name: str) -> bool:
    """Whether a name is an image's; those that start with a dot are the system's own."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _in_list(source: Path, dataset: _Dataset) -> Iterator[Path]:
    """The images of a list, whose paths start from its own folder or, as some tools write, from the base."""
    for number, line in _lines(source):
        candidates = [_inside(dataset.root, start / line) for start in (source.parent, dataset.base)]
        image = next((one for one in candidates if one is not None and is_file(one)), None)
        if image is None:
            raise DetrkitError(
                f"{source}, line {number}: the image {shown(line)} does not exist in {source.parent}: "
                "correct the path, restore the image or remove the line."
            )
        yield image


def _require_one_each(images: list[Path], dataset: _Dataset, split: str) -> None:
    """Refuse images that are listed twice, or that share a label file."""
    owners: dict[Path, Path] = {}
    for image in images:
        label = label_file(image, dataset.root)
        if label not in owners:
            owners[label] = image
        elif owners[label] == image:
            raise DetrkitError(
                f"{dataset.source}: the image {image} stands twice in {split}, but an image belongs to a "
                "split once: remove one entry."
            )
        else:
            raise DetrkitError(
                f"{dataset.source}: the images {owners[label]} and {image} of {split} both have the labels "
                f"{label}, but each needs labels of its own: rename one."
            )


def _size(image: Path) -> tuple[int, int]:
    """(height, width) of an image as viewers show it, if images can be told to be read so."""
    header = read_header(image)
    upright = header.orientation == 1
    if not upright and header.shown == (header.height, header.width):
        raise DetrkitError(
            f"the image {image} has the EXIF orientation {header.orientation}, which turns or mirrors it and "
            "leaves its size: save it upright, without that entry."
        )
    return header.shown


def _read_labels(
    images: list[Path], dataset: _Dataset
) -> tuple[list[int], Float64[np.ndarray, "annotations 5"]]:
    """How many objects each image has, and of each its label and four fractions."""
    label_of = {category.id: label for label, category in enumerate(dataset.categories)}
    files = [label_file(image, dataset.root) for image in images]
    counts, rows, absent = [], [], 0
    for file in files:
        before = len(rows)
        try:
            rows += [_row(line, label_of, file, number) for number, line in _lines(file)]
        except FileNotFoundError:
            absent += 1
        counts.append(len(rows) - before)
    if absent == len(files):
        raise DetrkitError(
            f"none of the {len(files)} images has a label file, the first being looked for as {files[0]}: "
            "put the labels into folders labels/ that mirror the images/ of "
            f"{dataset.source}, or write empty files if there are no objects."
        )
    return counts, np.array(rows, np.float64).reshape(-1, 5)


def _lines(source: Path) -> Iterator[tuple[int, str]]:
    """The lines that hold anything, with their numbers from 1."""
    try:
        require_regular(source)
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise DetrkitError(f"{source} cannot be read ({error}): write it as text in UTF-8.") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if stripped := line.strip():
            yield number, stripped


def _row(line: str, label_of: dict[int, int], file: Path, number: int) -> list[float]:
    """The label of an object, and its centre and size in fractions."""
    words = line.split()
    values = [_number(word, line, file, number) for word in words]
    if len(values) != 5:
        polygon = " (polygons are not read: export boxes)" if len(values) > 6 else ""
        raise _fault(file, number, line, f"{len(values)} columns, but 5 are expected{polygon}")
    category, *fractions = values
    label = label_of.get(int(category), -1) if category.is_integer() else -1
    if label < 0:
        known = f"{min(label_of)} to {max(label_of)}"
        raise _fault(file, number, line, f"the class {words[0][:60]}, but data.yaml names classes {known}")
    for word, value in zip(words[1:], fractions, strict=True):
        if not -_SLACK <= value <= 1 + _SLACK:
            raise _fault(file, number, line, f"{word[:60]}, but fractions of the image, 0 to 1, are expected")
    if fractions[2] < 0 or fractions[3] < 0:
        raise _fault(file, number, line, "a negative width or height, but 0 to 1 is expected")
    return [float(label), *fractions]


def _number(word: str, line: str, file: Path, number: int) -> float:
    try:
        return read_number(word)
    except ValueError:
        raise _fault(file, number, line, f"the word {shown(word)}, but only numbers are expected") from None


def _fault(file: Path, number: int, line: str, fault: str) -> DetrkitError:
    shown = line if len(line) <= 60 else f"{line[:60]}.."
    return DetrkitError(f"{file}, line {number}: '{shown}' has {fault}: write '{_LINE}' there.")


def _to_pixels(
    fractions: Float64[np.ndarray, "annotations 4"], sizes: Int64[np.ndarray, "annotations 2"]
) -> Float64[np.ndarray, "annotations 4"]:
    """Corners in pixels, from centres and sizes in fractions of (height, width)."""
    centres, halves = fractions[:, :2], fractions[:, 2:] / 2
    corners = np.concatenate([centres - halves, centres + halves], axis=1)
    return corners * sizes[:, [1, 0, 1, 0]]
