from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from detrkit.errors import DetrkitError
from detrkit.evaluation.curves import curves, read_curves, write_curves
from detrkit.evaluation.judged import Judged


def test_curves_are_those_of_pycocotools_to_the_bit(judged: Judged, reference: COCOeval) -> None:
    found = curves(judged)
    precision = reference.eval["precision"][..., 0, 2]
    assert np.array_equal(found.precision, precision)
    assert np.array_equal(found.scores, reference.eval["scores"][..., 0, 2])
    assert np.array_equal(found.ious, reference.params.iouThrs)
    assert np.array_equal(found.recalls, reference.params.recThrs)
    names = [reference.cocoGt.cats[category]["name"] for category in reference.params.catIds]
    assert found.classes.tolist() == names


def test_the_overall_curve_averages_to_cocos_figures(judged: Judged, reference: COCOeval) -> None:
    overall = curves(judged).overall
    found = [overall.mean(), overall[0].mean(), overall[5].mean()]
    assert found == pytest.approx(reference.stats[:3].tolist(), abs=1e-12)


def test_what_is_written_comes_back_to_the_bit(tmp_path: Path, judged: Judged) -> None:
    found = curves(judged)
    write_curves(tmp_path / "precision_recall.npz", found)
    again = read_curves(tmp_path / "precision_recall.npz")
    for name, array in found._asdict().items():
        assert np.array_equal(getattr(again, name), array), name
        assert getattr(again, name).dtype == array.dtype, name


def test_without_objects_there_is_no_curve(scene: Callable[..., Judged]) -> None:
    found = curves(scene([], [(0, "cup", (0, 0, 9, 9), 0.5)]))
    assert set(found.overall.ravel()) == set(found.precision.ravel()) == {-1}


@pytest.mark.parametrize("content", [None, b"", b"something else", b"PK\x03\x04"])
def test_another_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "precision_recall.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DetrkitError, match="no precision-recall curves can be read there"):
        read_curves(path)
