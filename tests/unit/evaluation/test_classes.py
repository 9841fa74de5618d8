from collections.abc import Callable

import numpy as np
import pytest

from detrkit.errors import DetrkitError
from detrkit.evaluation.classes import of_classes
from detrkit.evaluation.judged import Judged

HERE, THERE = (0, 0, 40, 40), (200, 200, 40, 40)


@pytest.fixture
def judged_three(scene: Callable[..., Judged]) -> Judged:
    objects = [
        (0, "a", HERE, False),
        (0, "c", THERE, False),
        (1, "b", HERE, False),
        (2, "c", HERE, True),
        (2, "a", THERE, False),
    ]
    return scene(objects, [], classes=("a", "b", "c"))


def test_the_rest_is_left_as_it_was(judged_three: Judged) -> None:
    catalog = judged_three.catalog
    results = [
        {"image_id": 10, "category_id": category, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.5}
        for category in (5, 6, 7)
    ]
    part, kept = of_classes(catalog, results, ["c", "a"])
    assert [category.name for category in part.categories] == ["a", "c"]
    assert [(category.id, category.name) for category in part.categories] == [(5, "a"), (7, "c")]
    assert [part.annotation_ids[part.rows(image)].tolist() for image in range(3)] == [[1, 2], [], [4, 5]]
    assert part.labels.tolist() == [0, 1, 1, 0]
    assert part.crowds.tolist() == [False, False, True, False]
    assert np.array_equal(part.boxes, catalog.boxes[[0, 1, 3, 4]])
    assert np.array_equal(part.image_ids, catalog.image_ids)
    assert [entry["category_id"] for entry in kept] == [5, 7]


def test_an_unknown_name_is_refused(judged_three: Judged) -> None:
    with pytest.raises(DetrkitError, match=r"instances_val\.json has no class 'd': it has a, b, c; name"):
        of_classes(judged_three.catalog, [], ["a", "d"])
