"""The figures of a dataset against a direct count of its json."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from detrkit.cli.data import app
from detrkit.data.formats.recognise import read_split
from detrkit.data.statistics import SplitStatistics, co_occurrence, statistics_of, suggest
from detrkit.errors import DetrkitError

main = typer.Typer()
main.add_typer(app, name="data")


@pytest.fixture(params=["train2017", "val2017"])
def counted(request: pytest.FixtureRequest, shared: Path) -> tuple[dict[str, Any], SplitStatistics]:
    """The json of a split, and its statistics."""
    root = shared / "coco-mini"
    content = json.loads((root / f"annotations/instances_{request.param}.json").read_text())
    return content, statistics_of(read_split(root, request.param))


def single(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in content["annotations"] if not one["iscrowd"]]


def test_counts_are_those_of_the_json(counted: tuple[dict[str, Any], SplitStatistics]) -> None:
    content, found = counted
    objects = single(content)
    per_image = Counter(one["image_id"] for one in objects)
    assert (found.images, found.annotations) == (len(content["images"]), len(content["annotations"]))
    assert (found.objects, found.crowds) == (len(objects), len(content["annotations"]) - len(objects))
    assert found.objects_of_image.tolist() == [per_image[one["id"]] for one in content["images"]]
    assert found.empty_images == len(content["images"]) - len(per_image)
    names = {one["id"]: one["name"] for one in content["categories"]}
    of_class = Counter(names[one["category_id"]] for one in objects)
    pairs = Counter(name for _, name in {(one["image_id"], names[one["category_id"]]) for one in objects})
    assert dict(zip(found.names, found.objects_of_class.tolist(), strict=True)) == {
        name: of_class[name] for name in names.values()
    }
    assert dict(zip(found.names, found.images_of_class.tolist(), strict=True)) == {
        name: pairs[name] for name in names.values()
    }


def test_sizes_are_those_of_pycocotools(
    counted: tuple[dict[str, Any], SplitStatistics], capsys: pytest.CaptureFixture[str]
) -> None:
    content, found = counted
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    borders = ((-1, 32**2), (32**2, 96**2), (96**2, 1e10))
    expected = tuple(len(coco.getAnnIds(areaRng=border, iscrowd=False)) for border in borders)
    assert found.by_size() == expected
    capsys.readouterr()


def test_shapes_and_places_are_those_of_the_boxes(counted: tuple[dict[str, Any], SplitStatistics]) -> None:
    content, found = counted
    sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
    boxes = [(one["bbox"], *sizes[one["image_id"]]) for one in single(content)]
    aspects = sorted(width / height for (_, _, width, height), _, _ in boxes)
    np.testing.assert_allclose(np.sort(found.aspects), aspects, rtol=1e-9)
    centres = [((x + w / 2) / width, (y + h / 2) / height) for (x, y, w, h), width, height in boxes]
    np.testing.assert_allclose(np.sort(found.centres, axis=0), np.sort(centres, axis=0), rtol=1e-9)
    sides = sorted((w * h) ** 0.5 / min(width, height) for (_, _, w, h), width, height in boxes)
    np.testing.assert_allclose(np.sort(found.scaled_sides), sides, rtol=1e-9)


def test_classes_meet_in_the_images_that_have_both(shared: Path) -> None:
    root = shared / "coco-mini"
    content = json.loads((root / "annotations/instances_val2017.json").read_text())
    catalog = read_split(root, "val2017")
    images: dict[int, set[int]] = {}
    for one in single(content):
        images.setdefault(one["category_id"], set()).add(one["image_id"])
    labels = [0, 41, 2, 56]
    sets = [images.get(catalog.categories[label].id, set()) for label in labels]
    expected = [[len(left & right) for right in sets] for left in sets]
    assert co_occurrence(catalog, labels).tolist() == expected


def statistics(most: int, sides: list[float], areas: list[float]) -> SplitStatistics:
    none = np.zeros(0)
    return SplitStatistics(
        images=2,
        annotations=len(sides),
        crowds=0,
        names=("cat",),
        objects_of_class=np.array([len(sides)]),
        images_of_class=np.array([1]),
        objects_of_image=np.array([most, 0]),
        areas=np.array(areas),
        aspects=none,
        centres=np.zeros((len(sides), 2)),
        scaled_sides=np.array(sides),
    )


@pytest.mark.parametrize(("most", "queries"), [(0, 50), (33, 50), (34, 75), (44, 75), (200, 300)])
def test_queries_leave_room_above_the_fullest_image(most: int, queries: int) -> None:
    """Half as many again as the most objects, in steps of 25, and at least 50."""
    assert suggest({"train": statistics(most, [0.1], [99.0])}, "train")[0].value == queries


@pytest.mark.parametrize(
    ("sides", "areas", "short_side"),
    [
        ([0.05, 0.05, 0.9], [99.0, 99.0, 99999.0], 640),  # 0.05 x 640 = 32
        ([0.2], [99.0], 480),  # 96 pixels at DETR's least size
        ([0.01], [99.0], 1088),  # 3,200 would be needed
        ([0.04] + 9 * [0.9], 10 * [99999.0], 800),  # none small: the smallest tenth, 0.04 x 800 = 32
    ],
)
def test_small_objects_cover_a_cell_at_the_size_suggested(
    sides: list[float], areas: list[float], short_side: int
) -> None:
    assert suggest({"train": statistics(1, sides, areas)}, "train")[1].value == short_side


def test_the_command_draws_a_picture_and_prints_the_figures(write_coco: Any, tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", train=[3, 0, 4], val=[2])
    picture = tmp_path / "figures/stats.png"
    result = CliRunner().invoke(main, ["data", "stats", str(root), "--out", str(picture)])
    assert result.exit_code == 0, result.output
    with Image.open(picture) as drawn:
        assert drawn.width > 1000
        assert len(np.unique(np.asarray(drawn.convert("L")))) > 50
    row = next(line.split() for line in result.output.splitlines() if line.strip().startswith("train "))
    assert row[1:7] == ["3", "1", "7", "0", "3", "4"]
    assert "model.decoder.queries = 50" in result.output


@pytest.mark.parametrize("counts", [[0], [1]], ids=["no object", "one object"])
def test_next_to_nothing_can_be_drawn(write_coco: Any, tmp_path: Path, counts: list[int]) -> None:
    root = write_coco(tmp_path / "data", train=counts)
    result = CliRunner().invoke(
        main, ["data", "stats", str(root), "--out", str(tmp_path / "a.svg")], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_faulty_annotations_lead_to_the_check(write_coco: Any, tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", train=[1])
    file = root / "annotations/instances_train.json"
    file.write_text(file.read_text().replace('"category_id": ', '"category_id": 99'))
    result = CliRunner().invoke(main, ["data", "stats", str(root)])
    assert result.exit_code != 0
    assert isinstance(result.exception, DetrkitError)
    assert f"`detrkit data check {root}`" in str(result.exception)
