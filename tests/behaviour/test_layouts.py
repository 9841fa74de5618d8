"""Training takes a dataset as it is, whatever its layout."""

from collections.abc import Callable
from pathlib import Path

import pytest

import detrkit
from detrkit.data.convert import convert
from detrkit.data.formats.recognise import Layout, recognise


@pytest.mark.parametrize("layout", ["yolo", "coco"])
def test_the_same_data_in_another_layout_trains_alike(
    tmp_path: Path, small_detr: dict[str, object], write_coco: Callable[..., Path], layout: Layout
) -> None:
    from detrkit.training.events import Stepped

    def losses(data: Path, out: Path) -> list[float]:
        settings = small_detr | {"train.max_steps": 2, "train.seed": 1, "data.batch_size": 2}
        events = detrkit.fit(detrkit.recipe("detr_r50", settings), data=data, out=out)
        return [event.loss for event in events if isinstance(event, Stepped)]

    data = write_coco(tmp_path / "coco", train=[2, 0, 3, 1], val=[1, 2])
    convert(data, tmp_path / "new", layout)
    assert recognise(tmp_path / "new") == layout
    expected = losses(data, tmp_path / "first")
    assert len(expected) == 2
    assert losses(tmp_path / "new", tmp_path / "second") == pytest.approx(expected, rel=1e-5)


def test_the_classes_of_yolo_which_start_at_0_are_evaluated(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    from detrkit.data.formats.recognise import read_split
    from detrkit.evaluation.coco import evaluate_results

    convert(write_coco(tmp_path / "coco", val=[5, 9]), tmp_path / "yolo", "yolo")
    catalog = read_split(tmp_path / "yolo", "val")
    assert 0 in [category.id for category in catalog.categories]
    found = [
        {
            "image_id": int(catalog.image_ids[index]),
            "category_id": catalog.categories[catalog.labels[row]].id,
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "score": 0.9,
        }
        for index in range(len(catalog))
        for row, box in list(enumerate(catalog.boxes))[catalog.rows(index)]
    ]
    metrics = evaluate_results(catalog, found).to_dict()
    assert metrics["AP"] == pytest.approx(1)
    assert metrics["AR100"] == pytest.approx(1)
