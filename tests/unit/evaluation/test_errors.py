"""Error types and their costs against hotcoco, tidecv (the authors' own code), and planted errors."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detrkit.catalog import Catalog, Category
from detrkit.data.formats.coco import read_coco
from detrkit.errors import DetrkitError
from detrkit.evaluation.coco import Result, accumulated, read_results, rows_of
from detrkit.evaluation.errors import ERRORS, ErrorTypes, error_types
from detrkit.evaluation.judged import Judged, judge

SHORT = dict(zip(("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), ERRORS, strict=True))
Split = tuple[Catalog, list[Result]]


def catalog_of(objects: list[tuple[int, int, list[float], bool]], images: int, classes: int) -> Catalog:
    """Of (image, label, xywh, crowd), sorted by image."""
    boxes = np.array([box for _, _, box, _ in objects], float).reshape(-1, 4)
    per_image = np.bincount([image for image, *_ in objects], minlength=images)
    return Catalog(
        source=Path("truth.json"),
        folder=Path("images"),
        categories=tuple(Category(label + 1, f"class {label}") for label in range(classes)),
        image_ids=np.arange(images),
        file_names=np.array([f"{image}.jpg" for image in range(images)]),
        widths=np.full(images, 400),
        heights=np.full(images, 400),
        offsets=np.concatenate([[0], per_image.cumsum()]),
        annotation_ids=np.arange(len(objects)) + 1,
        boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        labels=np.array([label for _, label, *_ in objects], np.int64),
        areas=boxes[:, 2] * boxes[:, 3],
        crowds=np.array([crowd for *_, crowd in objects], bool),
    )


def result(image: int, label: int, box: list[float], score: float) -> Result:
    return {"image_id": image, "category_id": label + 1, "bbox": box, "score": score}


@pytest.fixture(scope="module")
def real(shared: Path) -> Split:
    folder = shared / "coco-eval"
    catalog = read_coco(folder / "instances_val2014_100.json", folder)
    results = read_results(folder / "instances_val2014_fakebbox100_results.json", catalog)
    order = np.argsort([-one["score"] for one in results], kind="stable")
    for place, index in enumerate(order):  # no two scores alike: tidecv and COCO order those differently
        results[index]["score"] = 1 - place / len(results)
    return catalog, results


@pytest.fixture(scope="module")
def crowded() -> Split:
    """Boxes of four classes at random, often over each other, with crowds; class 3 is found nowhere."""
    rng = np.random.default_rng(4)
    objects, results = [], []
    scores = iter(rng.permutation(20_000) / 20_000)  # no two alike
    for image in range(60):
        for _ in range(rng.integers(0, 9)):
            box = [*rng.uniform(0, 120, 2).round(1), *rng.uniform(20, 80, 2).round(1)]
            label = int(rng.integers(0, 4))
            objects.append((image, label, box, bool(rng.random() < 0.08)))
            for _ in range(rng.integers(0, 4)):
                moved = (np.array(box) + rng.normal(0, 6, 4)).round(1).tolist()
                said = label if rng.random() < 0.7 else int(rng.integers(0, 3))
                if said < 3:
                    results.append(result(image, said, moved, float(next(scores))))
        for _ in range(rng.integers(0, 4)):
            box = [*rng.uniform(0, 350, 2).round(1), *rng.uniform(5, 60, 2).round(1)]
            results.append(result(image, int(rng.integers(0, 3)), box, float(next(scores))))
    return catalog_of(objects, 60, 4), results


@pytest.fixture(params=["real", "crowded"])
def split(request: pytest.FixtureRequest) -> Split:
    return request.getfixturevalue(request.param)


def test_counts_and_costs_are_those_of_hotcoco(split: Split) -> None:
    catalog, results = split
    # hotcoco takes a crowd for an object that a detection may be near to; TIDE and detrkit do not.
    catalog = dataclasses.replace(catalog, crowds=np.zeros_like(catalog.crowds))
    ours = error_types(judge(catalog, results))
    theirs = accumulated(catalog, rows_of(catalog, results)).tide_errors()
    counts = dict(zip(ERRORS, ours.counts.sum(axis=0).tolist(), strict=True))
    assert counts == {name: theirs["counts"][short] for short, name in SHORT.items()}
    costs = theirs["delta_ap"]
    assert ours.costs == pytest.approx([costs[short] for short in SHORT], abs=1e-12)
    assert (ours.false_positives, ours.false_negatives) == pytest.approx(
        (costs["FP"], costs["FN"]), abs=1e-12
    )
    assert pytest.approx(theirs["ap_base"], abs=1e-12) == ours.AP


def test_types_counts_and_costs_are_those_of_tidecv(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    # tidecv reads the precision at k / 100, COCO at k * 0.01: some of these differ in their last bit.
    recalls = np.array([k / 100 for k in range(101)])
    monkeypatch.setattr("detrkit.evaluation.average_precision.RECALLS", recalls)
    catalog, results = split
    judged = judge(catalog, results)
    ours = error_types(judged)
    run = tidecv_run(judged)
    types = {one.pred["place"]: type(one).short_name for one in run.errors if hasattr(one, "pred")}
    assert {place: SHORT[name] for place, name in types.items()} == {
        place: ERRORS[kind] for place, kind in enumerate(ours.types.tolist()) if kind >= 0
    }
    missed = {one.gt["row"] for one in run.errors if type(one).short_name == "Miss"}
    assert missed == set(np.flatnonzero(ours.missed).tolist())

    classes = np.unique(catalog.labels[~catalog.crowds]).tolist()

    def mean(data: Any) -> float:
        """Over the classes that have objects: tidecv's own mean has those with detections alone as well."""
        return sum(data.objs[label].get_ap() for label in classes) / len(classes) / 100

    assert pytest.approx(mean(run.ap_data), abs=1e-12) == ours.AP
    for short, cost in zip(SHORT, ours.costs, strict=True):
        mended = run.fix_errors(lambda error, short=short: type(error).short_name == short)
        assert pytest.approx(mean(mended) - mean(run.ap_data), abs=1e-12) == cost
    every = run.fix_errors(transform=lambda score, right, info: (1 if right else 0, right, info))
    assert pytest.approx(mean(every) - mean(run.ap_data), abs=1e-12) == ours.false_positives
    found = run.fix_errors(false_neg_dict=run.false_negatives)
    assert pytest.approx(mean(found) - mean(run.ap_data), abs=1e-12) == ours.false_negatives


def tidecv_run(judged: Judged) -> Any:
    """tidecv's run on what COCO counts: it gives types to detections in crowds as well."""
    from tidecv import TIDE, Data

    catalog, found = judged.catalog, judged.found
    truth, said = Data("truth"), Data("found")
    image_of = np.repeat(np.arange(len(catalog)), np.diff(catalog.offsets))
    for image in range(len(catalog)):
        truth.add_image(image, str(image))
    for row, box in enumerate(xywh(catalog.boxes)):
        add = truth.add_ignore_region if catalog.crowds[row] else truth.add_ground_truth
        add(int(image_of[row]), int(catalog.labels[row]), box)
        truth.annotations[-1]["row"] = row
    for place, box in enumerate(xywh(found.boxes)):
        if judged.counted[0, place]:
            said.add_detection(
                int(found.images[place]), int(found.labels[place]), float(found.scores[place]), box
            )
            said.annotations[-1]["place"] = place
    return TIDE().evaluate(truth, said)


def xywh(boxes: np.ndarray) -> list[list[float]]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).round(10).tolist()


def test_every_false_positive_has_one_type_and_every_object_missed_counts_once(split: Split) -> None:
    judged = judge(*split)
    errors = error_types(judged)
    wrong = judged.counted[0] & (judged.matches[0] < 0)
    assert np.array_equal(errors.types >= 0, wrong)
    assert errors.counts[:, :5].sum() == wrong.sum()
    aimed = np.unique(errors.objects[errors.objects >= 0])
    mendable = np.intersect1d(aimed, np.flatnonzero(judged.missed(0)))
    assert errors.counts[:, 5].sum() == errors.missed.sum()
    assert errors.missed.sum() + len(mendable) == judged.missed(0).sum()
    assert not errors.missed[mendable].any()
    assert not errors.missed[split[0].crowds].any()
    assert (errors.costs >= 0).all()


BOX = [100.0, 100.0, 40.0, 40.0]
PLANTS: dict[str, Callable[[int], tuple[list, list]]] = {
    # What is in an image of its own, and what is found there; all scores lie below that of what is right.
    "classification": lambda image: ([(image, 0, BOX, False)], [result(image, 1, BOX, 0.5)]),
    "localisation": lambda image: (
        [(image, 0, BOX, False)],
        [result(image, 0, [120.0, 100.0, 40.0, 40.0], 0.5)],
    ),
    "both": lambda image: ([(image, 0, BOX, False)], [result(image, 1, [120.0, 100.0, 40.0, 40.0], 0.5)]),
    "duplicate": lambda image: (
        [(image, 0, BOX, False)],
        [result(image, 0, BOX, 0.9), result(image, 0, [100.0, 100.0, 40.0, 20.0], 0.5)],  # of IoU 0.5 exactly
    ),
    "background": lambda image: ([], [result(image, 0, [300.0, 300.0, 30.0, 30.0], 0.5)]),
    "missed": lambda image: ([(image, 0, BOX, False)], []),
}


def planted(counts: dict[str, int]) -> ErrorTypes:
    """Errors of known number beside ten objects of each of two classes that are found."""
    objects = [(image, image % 2, BOX, False) for image in range(20)]
    results = [result(image, image % 2, BOX, 0.95) for image in range(20)]
    image = 20
    for name, count in counts.items():
        for _ in range(count):
            more, found = PLANTS[name](image)
            objects, results, image = objects + more, results + found, image + 1
    return error_types(judge(catalog_of(objects, image, 2), results))


def test_planted_errors_are_counted_under_their_type() -> None:
    errors = planted(dict(zip(ERRORS, (1, 2, 3, 4, 5, 6), strict=True)))
    # The object that a detection is wrong about in both ways is missed as well.
    assert dict(zip(ERRORS, errors.counts.sum(axis=0).tolist(), strict=True)) == {
        **dict(zip(ERRORS, (1, 2, 3, 4, 5), strict=False)),
        "missed": 6 + 3,
    }
    assert errors.counts[:, :5].tolist() == [[0, 2, 0, 4, 5], [1, 0, 3, 0, 0]]


@pytest.mark.parametrize(
    ("name", "ap"),
    [
        # Of class 0, 10 of 11 objects are found at precision 1: recalls to 0.90, which are 91 of 101.
        ("classification", (91 / 101 + 1) / 2),
        ("localisation", (91 / 101 + 1) / 2),
        ("missed", (91 / 101 + 1) / 2),
        ("duplicate", 1.0),
        ("background", 1.0),
    ],
)
def test_mending_the_only_error_makes_ap_perfect(name: str, ap: float) -> None:
    errors = planted({name: 1})
    assert pytest.approx(ap, abs=1e-12) == errors.AP
    assert errors.costs[ERRORS.index(name)] == pytest.approx(1 - ap, abs=1e-12)
    others = np.delete(errors.costs, ERRORS.index(name))
    assert others == pytest.approx(np.zeros(5), abs=1e-12)


def test_no_detections_and_no_objects() -> None:
    nothing = error_types(judge(catalog_of([(0, 0, BOX, False)], 1, 1), []))
    assert (nothing.AP, nothing.counts.tolist()) == (0.0, [[0, 0, 0, 0, 0, 1]])
    objectless = error_types(
        judge(catalog_of([(0, 0, BOX, True)], 1, 1), [result(0, 0, [300.0, 0, 9, 9], 0.5)])
    )
    assert (objectless.AP, objectless.costs.tolist()) == (-1.0, [-1.0] * 6)
    assert objectless.counts.tolist() == [[0, 0, 0, 0, 1, 0]]


def test_an_iou_that_was_not_judged_is_refused() -> None:
    judged = judge(catalog_of([(0, 0, BOX, False)], 1, 1), [], ious=(0.75,))
    with pytest.raises(
        DetrkitError, match=r"truth\.json: no detection was judged at IoU 0\.5, only at 0\.75"
    ):
        error_types(judged)
