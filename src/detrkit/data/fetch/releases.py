"""COCO's releases: which archives https://cocodataset.org/#download offers, and what is wanted of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detrkit.data.fetch.extract import Wanted
from detrkit.errors import DetrkitError

SERVER = "http://images.cocodataset.org"
"""Official, and not HTTPS: its certificate names another host. What comes is trusted for its SHA-256."""


class Archive(NamedTuple):
    """A file on the server: its path there, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


class Split(NamedTuple):
    """The images of a split: their archive and their number."""

    archive: Archive
    num_images: int


class Release(NamedTuple):
    """COCO of one year: an archive with the annotations of all splits, and one with the images of each."""

    annotations: Archive
    splits: dict[str, Split]


# Sizes and SHA-256: tensorflow_datasets/url_checksums/coco.txt in github.com/tensorflow/datasets at 333639b3.
# Numbers of images: those that the annotations of each split list.
RELEASES: dict[str, Release] = {
    "2017": Release(
        Archive(
            "annotations/annotations_trainval2017.zip",
            252_907_541,
            "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        ),
        {
            "train2017": Split(
                Archive(
                    "zips/train2017.zip",
                    19_336_861_798,
                    "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                ),
                118_287,
            ),
            "val2017": Split(
                Archive(
                    "zips/val2017.zip",
                    815_585_330,
                    "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                ),
                5_000,
            ),
        },
    ),
    "2014": Release(
        Archive(
            "annotations/annotations_trainval2014.zip",
            252_872_794,
            "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
        ),
        {
            "train2014": Split(
                Archive(
                    "zips/train2014.zip",
                    13_510_573_713,
                    "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
                ),
                82_783,
            ),
            "val2014": Split(
                Archive(
                    "zips/val2014.zip",
                    6_645_013_297,
                    "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
                ),
                40_504,
            ),
        },
    ),
}


class Part(NamedTuple):
    """An archive, and what is wanted of it."""

    archive: Archive
    wanted: Wanted

    @property
    def name(self) -> str:
        """The name of the archive without its suffix."""
        return Path(self.archive.path).stem


def parts_of(release: Release, splits: Sequence[str]) -> list[Part]:
    """The archives that hold some splits.

    Raises:
        DetrkitError: The release has no split of that name.
    """
    for split in splits:
        if split not in release.splits:
            raise DetrkitError(
                f"there is no split '{split}' among {', '.join(release.splits)}: name some of these in "
                "--splits, or another --year."
            )
    names = tuple(f"instances_{split}.json" for split in dict.fromkeys(splits))
    annotations = Part(release.annotations, Wanted("annotations", names, 0))
    images = {split: release.splits[split] for split in splits}
    return [annotations] + [
        Part(chosen.archive, Wanted(split, (), chosen.num_images)) for split, chosen in images.items()
    ]
