"""Decisions and arrays against pycocotools' own."""

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from detrkit.evaluation.coco import evaluate_results
from detrkit.evaluation.judged import Judged, judge


def test_arrays_are_those_of_pycocotools_to_the_bit(judged: Judged, reference: COCOeval) -> None:
    assert np.array_equal(judged.precision, reference.eval["precision"])
    assert np.array_equal(judged.recall, reference.eval["recall"])
    assert np.array_equal(judged.scores, reference.eval["scores"])


def test_matches_and_what_is_counted_are_those_of_pycocotools(judged: Judged, reference: COCOeval) -> None:
    catalog, found = judged.catalog, judged.found
    everything = [one for one in reference.evalImgs if one is not None and one["aRng"] == [0, 1e10]]
    detections = reference.cocoDt.anns
    place = {
        (int(catalog.image_ids[image]), catalog.categories[label].id, tuple(np.round(box, 3)), score): index
        for index, (image, label, box, score) in enumerate(
            zip(found.images, found.labels, found.boxes, found.scores, strict=True)
        )
    }
    assert len(place) == len(detections) == 734
    for one in everything:
        for column, detection in enumerate(one["dtIds"]):
            stated = detections[detection]
            x, y, width, height = stated["bbox"]
            box = tuple(np.round([x, y, x + width, y + height], 3))
            index = place[stated["image_id"], stated["category_id"], box, stated["score"]]
            for row in range(10):
                ignored = bool(one["dtIgnore"][row][column])
                assert judged.counted[row, index] == (not ignored)
                matched = judged.matches[row, index]
                taken = 0 if ignored else one["dtMatches"][row][column]
                assert (catalog.annotation_ids[matched] if matched >= 0 else 0) == taken


def test_detections_are_sorted_and_every_object_is_found_or_missed(judged: Judged) -> None:
    assert (np.diff(judged.found.scores) <= 0).all()
    for row in range(10):
        taken = judged.matches[row][judged.matches[row] >= 0]
        assert len(set(taken.tolist())) == len(taken)
        assert judged.missed(row).sum() + len(taken) == (~judged.catalog.crowds).sum() == 830


def test_other_ious_and_limits(judged: Judged, reference: COCOeval) -> None:
    results = [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "bbox": one["bbox"],
            "score": one["score"],
        }
        for one in reference.cocoDt.anns.values()
    ]
    again = COCOeval(reference.cocoGt, reference.cocoDt, "bbox")
    again.params.iouThrs = np.array([0.3, 0.75])
    again.params.maxDets = [1, 2]
    again.evaluate()
    again.accumulate()
    other = judge(judged.catalog, results, ious=(0.3, 0.75), max_detections=(1, 2))
    assert np.array_equal(other.precision, again.eval["precision"])
    assert other.metrics.AP50 == other.metrics.AR100 == -1
    at_75 = again.eval["precision"][1, :, :, 0, -1]
    assert pytest.approx(at_75[at_75 > -1].mean(), abs=1e-12) == other.metrics.AP75
    assert judged.metrics == evaluate_results(judged.catalog, results)
