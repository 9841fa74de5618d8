"""Which layout a folder has, and its splits whatever the layout."""

from pathlib import Path
from typing import Literal, assert_never

from detrkit.catalog import Catalog
from detrkit.data.formats.coco import coco_splits, read_coco_split
from detrkit.data.formats.voc import read_voc_split, voc_refusals, voc_splits
from detrkit.data.formats.yolo import read_yolo_split, yolo_refusals, yolo_splits
from detrkit.errors import DetrkitError

Layout = Literal["coco", "voc", "yolo"]


def recognise(root: Path) -> Layout:
    """The layout of the dataset in ``root``; an unknown one raises an error that says what is known."""
    if not root.is_dir():
        raise DetrkitError(f"the dataset {root} is not a folder: name the folder that holds it.")
    if coco_splits(root):
        return "coco"
    if voc_splits(root):
        return "voc"
    if yolo_splits(root):
        return "yolo"
    raise DetrkitError(
        f"{root} has no layout that is known: "
        "COCO's has annotations/instances_SPLIT.json and the images in SPLIT/, Pascal VOC's has "
        "Annotations/NAME.xml, the images in JPEGImages/ and lists of names ImageSets/Main/SPLIT.txt, and "
        "YOLO's has data.yaml with the names of the classes and the folders of train and val, the images in "
        "images/ and a text file for each in labels/."
    )


def splits(root: Path, layout: Layout | None = None) -> list[str]:
    """The names of the splits of a dataset, sorted; its layout is recognised unless it is given."""
    layout = layout or recognise(root)
    match layout:
        case "coco":
            return coco_splits(root)
        case "voc":
            return voc_splits(root)
        case "yolo":
            return yolo_splits(root)
        case unknown:
            assert_never(unknown)


def read_split(root: Path, split: str, layout: Layout | None = None) -> Catalog:
    """The catalog of one split of a dataset."""
    layout = layout or recognise(root)
    _require_split(root, split, splits(root, layout))
    match layout:
        case "coco":
            return read_coco_split(root, split)
        case "voc":
            return read_voc_split(root, split)
        case "yolo":
            return read_yolo_split(root, split)
        case unknown:
            assert_never(unknown)


def refusals(root: Path, split: str, layout: Layout) -> list[str]:
    """Why entries of a split are refused, each by itself; empty where it is refused as a whole."""
    try:
        match layout:
            case "coco":
                return []
            case "voc":
                return list(voc_refusals(root))
            case "yolo":
                return list(yolo_refusals(root, split))
            case unknown:
                assert_never(unknown)
    except DetrkitError:
        return []


def choose_split(root: Path, wanted: str, usual: tuple[str, ...]) -> str:
    """``wanted`` if it is not empty, otherwise the first of the ``usual`` names that the dataset has."""
    found = splits(root)
    if wanted:
        _require_split(root, wanted, found)
        return wanted
    for split in usual:
        if split in found:
            return split
    raise DetrkitError(_no_split(root, " or ".join(usual), found))


def _require_split(root: Path, split: str, found: list[str]) -> None:
    if split not in found:
        raise DetrkitError(_no_split(root, split, found))


def _no_split(root: Path, missing: str, found: list[str]) -> str:
    return (
        f"{root} has no split {missing}, but {', '.join(found)}: "
        "name one of these with data.train_split, data.val_split or --split."
    )
