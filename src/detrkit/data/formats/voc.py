"""The Pascal VOC layout: ``Annotations/NAME.xml``, ``JPEGImages/NAME.jpg``, ``ImageSets/Main/SPLIT.txt``.

The format is that of the VOC development kit
(http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/index.html), of which only the fields of detection
are read. VOC has names where the Catalog has numbers. Ids of images, objects and categories are counted over
the whole dataset in the order of names, so that they are the same whichever split is read.

A ``difficult`` object becomes a crowd of the Catalog, the nearest that COCO's evaluation has: both are no
loss if missed, and excuse any number of detections. They differ in the overlap that excuses one. VOC
takes the IoU; COCO, for crowds, takes the share of the detection that lies inside, which also excuses a
small detection within a large difficult object.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

import numpy as np
from defusedxml import DefusedXmlException, ElementTree

from detrkit.catalog import Catalog, Category
from detrkit.data.plausible import LARGEST, read_number
from detrkit.data.suffixes import SUFFIXES
from detrkit.errors import DetrkitError, shown
from detrkit.files import require_regular

_FLAGS = ("-1", "0", "1")
"""After a name in the list of one class: the image has no object of it, only difficult ones, or others."""


class _Object(NamedTuple):
    id: int
    category: str
    box: tuple[float, float, float, float]
    difficult: bool


class _Image(NamedTuple):
    id: int
    file_name: str
    width: int
    height: int
    objects: list[_Object]


def voc_splits(root: Path) -> list[str]:
    """The names of the splits that have a list in this layout, sorted; empty for another layout.

    The lists that VOC has for each class, such as ``aeroplane_train.txt``, are no splits: a flag follows
    each of their names.
    """
    lists = _visible(root / "ImageSets" / "Main", ".txt")
    return [one.stem for one in lists if not _is_of_one_class(_lines(one))]


def read_voc_split(root: Path, split: str) -> Catalog:
    """The catalog of one split of a folder in this layout, its images in the order of their list.

    An image's file is the one that ``filename`` names if ``JPEGImages`` has it, otherwise the annotations'
    own name with one of ``SUFFIXES``. A missing ``difficult`` is 0, and areas are those of the boxes.

    Raises:
        DetrkitError: What is missing, or which entry of any annotations of the dataset, listed or not, is
            not what VOC's format says.
    """
    dataset = _read_annotations(root / "Annotations", root / "JPEGImages")
    source = root / "ImageSets" / "Main" / f"{split}.txt"
    images = [dataset[name] for name in _names(source, dataset)]
    objects = [one for image in images for one in image.objects]
    categories = _categories(dataset.values(), root / "Annotations")
    label_of = {category.name: label for label, category in enumerate(categories)}
    boxes = np.array([one.box for one in objects], np.float64).reshape(-1, 4)
    return Catalog(
        source=source,
        folder=root / "JPEGImages",
        categories=categories,
        image_ids=np.array([image.id for image in images], np.int64),
        file_names=np.array([image.file_name for image in images]),
        widths=np.array([image.width for image in images], np.int64),
        heights=np.array([image.height for image in images], np.int64),
        offsets=np.cumsum([0, *(len(image.objects) for image in images)], dtype=np.int64),
        annotation_ids=np.array([one.id for one in objects], np.int64),
        boxes=boxes,
        labels=np.array([label_of[one.category] for one in objects], np.int64),
        areas=(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1),
        crowds=np.array([one.difficult for one in objects], np.bool_),
    )


def voc_refusals(root: Path) -> Iterator[str]:
    """Why ``read_voc_split`` refuses files of annotations: a sentence for each that it does."""
    for file in _visible(root / "Annotations", ".xml"):
        try:
            _read_image(file, 1, count(1), set())
        except DetrkitError as error:
            yield str(error)


def write_voc_split(root: Path, split: str, catalog: Catalog) -> None:
    """Write the list of a split and the annotations of its images, which are to be in ``JPEGImages``.

    Names of images have no folder and no space. Boxes are in whole pixels and not empty, or they come back
    changed; of the rest, ids alone are lost, and classes that no object has.
    """
    names = [Path(str(file_name)).stem for file_name in catalog.file_names]
    annotations, lists = root / "Annotations", root / "ImageSets" / "Main"
    for folder in (annotations, lists):
        folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        element = _image_element(catalog, index)
        indent(element)
        (annotations / f"{name}.xml").write_bytes(tostring(element, encoding="utf-8") + b"\n")
    (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _image_element(catalog: Catalog, index: int) -> Element:
    height, width = catalog.size(index)
    root = Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", str(catalog.file_names[index]))
    size = SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):  # images are read as RGB
        _add(size, tag, value)
    rows = catalog.rows(index)
    columns = (catalog.labels[rows].tolist(), catalog.crowds[rows].tolist(), catalog.boxes[rows].tolist())
    for label, crowd, box in zip(*columns, strict=True):
        element = SubElement(root, "object")
        _add(element, "name", catalog.categories[label].name)
        _add(element, "difficult", int(crowd))
        _add_box(element, box)
    return root


def _add_box(element: Element, box: list[float]) -> None:
    """The box as one-based, inclusive indices of its first and last pixels."""
    left, top, right, bottom = (round(edge) for edge in box)
    bounds = SubElement(element, "bndbox")
    for tag, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
        _add(bounds, tag, value)


def _add(parent: Element, tag: str, value: object) -> None:
    SubElement(parent, tag).text = str(value)


def _is_of_one_class(lines: list[str]) -> bool:
    columns = (line.rsplit(maxsplit=1) for line in lines)
    return bool(lines) and all(len(one) == 2 and one[1] in _FLAGS for one in columns)


def _lines(source: Path) -> list[str]:
    """The lines of a list that hold anything."""
    try:
        require_regular(source)
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DetrkitError(
            f"the list {source} cannot be read ({error}): write one name per line, in UTF-8."
        ) from None
    return [line.strip() for line in lines if line.strip()]


def _names(source: Path, dataset: dict[str, _Image]) -> list[str]:
    """The names that a list has, each of which must have annotations."""
    names = _lines(source)
    if not names:
        raise DetrkitError(f"{source} lists no images: write the names of the split's images, one per line.")
    seen: set[str] = set()
    for name in names:
        if name not in dataset:
            raise DetrkitError(
                f"{source} lists {shown(name)}, but Annotations has no {name[:60]}.xml: "
                "add that file, or correct the list, which has names without folder or suffix."
            )
        if name in seen:
            raise DetrkitError(
                f"{source} lists {shown(name)} twice, but an image belongs to a split once: remove one."
            )
        seen.add(name)
    return names


def _categories(images: Iterable[_Image], source: Path) -> tuple[Category, ...]:
    names = sorted({one.category for image in images for one in image.objects})
    if not names:
        raise DetrkitError(f"the files in {source} annotate no objects: label at least one image.")
    return tuple(Category(number, name) for number, name in enumerate(names, start=1))


def _read_annotations(folder: Path, images: Path) -> dict[str, _Image]:
    """All images of the dataset by the names of their annotations, sorted."""
    for needed in (folder, images):
        if not needed.is_dir():
            raise DetrkitError(
                f"the folder {needed} does not exist, but Pascal VOC's layout has Annotations/NAME.xml, "
                "JPEGImages/NAME.jpg and ImageSets/Main/SPLIT.txt: put it there."
            )
    present = {file.name for file in images.iterdir()}
    object_ids = count(1)
    dataset = {
        file.stem: _read_image(file, number, object_ids, present)
        for number, file in enumerate(_visible(folder, ".xml"), start=1)
    }
    _require_one_each(dataset, folder)
    return dataset


def _require_one_each(dataset: dict[str, _Image], folder: Path) -> None:
    annotated_by: dict[str, str] = {}
    for name, image in dataset.items():
        first = annotated_by.setdefault(image.file_name, name)
        if first != name:
            raise DetrkitError(
                f"{folder}: {first}.xml and {name}.xml both have the image {image.file_name}, but each image "
                "has annotations of its own: correct the filename in one of them."
            )


def _visible(folder: Path, suffix: str) -> list[Path]:
    """The files of this suffix by name, without the ``._NAME`` that macOS puts beside each of them."""
    return sorted(folder.glob(f"[!.]*{suffix}"), key=lambda file: file.stem)


def _read_image(file: Path, number: int, object_ids: Iterator[int], present: set[str]) -> _Image:
    root = _parse(file)
    return _Image(
        id=number,
        file_name=_file_name(file.stem, root, present),
        width=_side(root, "size/width", file),
        height=_side(root, "size/height", file),
        objects=[
            _read_object(element, next(object_ids), f"{file}: object {position}")
            for position, element in enumerate(root.iterfind("object"), start=1)
        ],
    )


def _parse(file: Path) -> Element:
    """The outermost element. Entities are refused: they can fill the memory or read other files."""
    try:
        require_regular(file)
        return ElementTree.fromstring(file.read_bytes())
    except DefusedXmlException:
        raise DetrkitError(
            f"{file} defines entities, which annotations do not need and detrkit refuses: remove its DOCTYPE."
        ) from None
    except (ParseError, ValueError, LookupError, OSError) as error:
        raise DetrkitError(f"{file} cannot be read as XML ({error}): fetch or export it again.") from None


def _file_name(name: str, root: Element, present: set[str]) -> str:
    """The image of the annotations ``name``: of that name, else the one that they state.

    Only names that stand in the folder itself are ``present``.
    """
    stated = (root.findtext("filename") or "").strip()
    usual = [name + suffix for suffix in SUFFIXES] + [name + suffix.upper() for suffix in SUFFIXES]
    return next((one for one in (*usual, stated) if one in present), usual[0])


def _read_object(element: Element, number: int, where: str) -> _Object:
    """An object with its box from one-based, inclusive indices of pixels to coordinates."""
    left, top, right, bottom = (
        _number(element, f"bndbox/{tag}", where) for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    return _Object(
        id=number,
        category=_text(element, "name", where),
        box=(left - 1, top - 1, right, bottom),
        difficult=_is_difficult(element, where),
    )


def _is_difficult(element: Element, where: str) -> bool:
    text = (element.findtext("difficult") or "0").strip()
    if text not in ("0", "1"):
        raise DetrkitError(
            f"{where} has the difficult {shown(text)}, but 0 or 1 is expected: correct that entry."
        )
    return text == "1"


def _side(root: Element, tag: Literal["size/width", "size/height"], file: Path) -> int:
    side = _number(root, tag, str(file))
    if side < 1 or not side.is_integer():
        raise DetrkitError(
            f"{file} has the {tag} {side:g}, but a whole number of at least 1 pixel is expected: "
            "write the image's own."
        )
    return int(side)


def _number(element: Element, tag: str, where: str) -> float:
    text = _text(element, tag, where)
    try:
        value = read_number(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < LARGEST:
        raise DetrkitError(
            f"{where} has the {tag} {shown(text)}, but a finite number of pixels is expected: correct that "
            "entry."
        )
    return value


def _text(element: Element, tag: str, where: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise DetrkitError(f"{where} has no {tag}, which VOC's format requires: add it.")
    return text
