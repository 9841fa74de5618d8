from pathlib import Path

import numpy as np
import pytest

from detrkit.catalog import Catalog, Category, map_labels, require_same_categories
from detrkit.errors import DetrkitError

CAT, DOG, EMU = Category(1, "cat"), Category(5, "dog"), Category(6, "emu")


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(
        source=Path("annotations.json"),
        folder=Path("images"),
        categories=(CAT, DOG),
        image_ids=np.array([70, 3, 12]),
        file_names=np.array(["b.jpg", "inner/a.jpg", "c.jpg"]),
        widths=np.array([40, 20, 10]),
        heights=np.array([30, 50, 11]),
        offsets=np.array([0, 2, 2, 3]),
        annotation_ids=np.array([4, 9, 1]),
        boxes=np.array([[0.0, 1, 2, 3], [4, 5, 6, 7], [0, 0, 1, 1]]),
        labels=np.array([0, 1, 1]),
        areas=np.array([4.0, 4, 1]),
        crowds=np.array([False, True, False]),
    )


def test_rows_of_an_image(catalog: Catalog) -> None:
    assert len(catalog) == 3
    assert [catalog.annotation_ids[catalog.rows(index)].tolist() for index in range(3)] == [[4, 9], [], [1]]


def test_path_and_size_of_an_image(catalog: Catalog) -> None:
    assert catalog.path(1) == Path("images/inner/a.jpg")
    assert catalog.size(2) == (11, 10)
    assert catalog.paths_of([12, 70]) == [Path("images/c.jpg"), Path("images/b.jpg")]


def test_equal_categories_pass() -> None:
    require_same_categories((CAT, DOG), (CAT, DOG), "here")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ((CAT, EMU), "here: its categories differ.*label 1 is 6 'emu', not 5 'dog'"),
        ((DOG, CAT), "label 0 is 5 'dog', not 1 'cat'"),
        ((CAT,), "it has 1 categories, not 2"),
        ((CAT, DOG, EMU), "it has 3 categories, not 2"),
    ],
)
def test_other_categories_are_refused(found: tuple[Category, ...], words: str) -> None:
    with pytest.raises(DetrkitError, match=words):
        require_same_categories(found, (CAT, DOG), "here")


def test_labels_are_mapped_by_name() -> None:
    own = (Category(5, "cat"), Category(1, "N/A", used=False), Category(2, "dog"))
    found = map_labels(own, (Category(1, "dog"), Category(2, "N/A"), Category(3, "cat")), "here")
    assert found.labels.tolist() == [2, -1, 0]
    assert found.lacking == ["N/A"]
    assert found.dropped == []


def test_categories_without_a_name_in_common_are_refused() -> None:
    with pytest.raises(DetrkitError, match=r"here: none of its categories \(dog\) .* knows \(cat\).*--init"):
        map_labels((Category(1, "cat"), Category(2, "dog", used=False)), (Category(1, "dog"),), "here")
