"""What pictures show, read from their pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from detrkit.catalog import Catalog, Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detr import DetrDetector
from detrkit.evaluation.judged import Judged, judge
from detrkit.inference.usage import Found, QueryUsage
from detrkit.report.pictures import (
    CROWD,
    HIT,
    TILE,
    WRONG,
    attention_pictures,
    encoder_attention_pictures,
    heat_of,
    truth_and_found,
)
from detrkit.report.usage_figure import usage_figure
from detrkit.settings.experiment import recipe


@pytest.fixture
def detector(small_detr: dict) -> DetrDetector:
    torch.manual_seed(0)
    built = build_detector(recipe("detr_r50", small_detr), (Category(1, "cat"), Category(2, "dog")))
    assert isinstance(built, DetrDetector)
    return built


@pytest.fixture
def image() -> Tensor:
    return torch.randint(0, 256, (3, 40, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_heat_is_where_the_cell_is() -> None:
    maps = torch.zeros(2, 4, 2, 3)
    maps[1, :, 1, 2] = 1.0  # the last row and column of the second query
    heat = heat_of([maps], 1, (200, 300))
    assert heat.max() == 1
    row, column = divmod(int(heat.argmax()), 300)
    assert row >= 100
    assert column >= 200
    assert heat[:50, :100].max() < 0.01


def test_levels_count_by_their_weight_per_area() -> None:
    """The same weight on a quarter of the image is as bright from 4 cells as from 1 that is as large."""
    fine, coarse = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
    fine[..., :2, :2], coarse[..., 1, 1] = 0.5 / 4, 0.5
    heat = heat_of([fine, coarse], 0, (40, 40))
    # smoothing goes a little beyond the values, and without the areas it would be 4 times as bright
    assert heat[10, 10].item() == pytest.approx(heat[30, 30].item(), rel=0.3)


def test_tiles_are_of_different_queries_and_no_more_than_asked_for(
    detector: DetrDetector, image: Tensor
) -> None:
    tiles = attention_pictures(detector, image, ["cat", "dog"], num=3)
    assert 1 <= len(tiles) <= 3
    assert {tile.size for tile in tiles} == {(TILE, TILE // 2)}
    points = encoder_attention_pictures(detector, image, points=[(0.25, 0.5), (1.0, 1.0)])
    assert len(points) == 2
    ring = points[0].crop((72, 72, 89, 89))
    assert (255, 255, 255) in ring.get_flattened_data()


def test_an_encoder_without_layers_has_no_pictures(small_detr: dict, image: Tensor) -> None:
    torch.manual_seed(0)
    bare = build_detector(recipe("detr_r50", small_detr | {"model.encoder.layers": 0}), (Category(1, "cat"),))
    assert isinstance(bare, DetrDetector)
    assert encoder_attention_pictures(bare, image) == []


BOXES = [[20.0, 30, 60, 90], [100, 30, 140, 90], [20, 110, 60, 150]]
"""An object that is found, one that is missed, and a crowd; the image is as large as a tile."""


@pytest.fixture
def judged() -> Judged:
    catalog = Catalog(
        source=Path("truth.json"),
        folder=Path("images"),
        categories=(Category(1, "cat"), Category(2, "dog")),
        image_ids=np.array([7]),
        file_names=np.array(["a.png"]),
        widths=np.array([TILE]),
        heights=np.array([TILE]),
        offsets=np.array([0, 3]),
        annotation_ids=np.array([1, 2, 3]),
        boxes=np.array(BOXES),
        labels=np.array([0, 1, 0]),
        areas=np.array([2400.0, 2400.0, 1600.0]),
        crowds=np.array([False, False, True]),
    )
    detections = [([20, 30, 40, 60], 0.9), ([220, 200, 50, 60], 0.8), ([20, 110, 40, 40], 0.7)]
    unsure = [([100, 30, 40, 60], 0.2)]
    results = [
        {"image_id": 7, "category_id": 1 if score > 0.5 else 2, "bbox": box, "score": score}
        for box, score in detections + unsure
    ]
    return judge(catalog, results)  # pyright: ignore[reportArgumentType]


def drawn(picture: Image.Image, box: list[float], colour: tuple[int, int, int]) -> float:
    """The part of a box's lower side that has this colour, where no caption stands."""
    pixels = np.asarray(picture)
    side = pixels[round(box[3]), round(box[0]) + 3 : round(box[2]) - 3]
    return float((side == colour).all(-1).mean())


def test_hits_misses_and_false_alarms_differ_in_line_and_colour(judged: Judged) -> None:
    black = torch.zeros(3, TILE, TILE, dtype=torch.uint8)
    picture = truth_and_found(black, judged.catalog, 0, judged, sure=0.5)
    left = picture.crop((0, picture.height - TILE, TILE, picture.height))
    right = picture.crop((picture.width - TILE, picture.height - TILE, picture.width, picture.height))
    found, missed, crowd = BOXES
    assert drawn(left, found, HIT) == drawn(right, found, HIT) == 1
    assert 0.4 < drawn(left, missed, WRONG) < 0.85
    assert 0.4 < drawn(left, crowd, CROWD) < 0.85
    assert drawn(right, missed, HIT) == drawn(right, missed, WRONG) == 0  # it is found, but not surely
    assert 0.4 < drawn(right, [220, 200, 270, 260], WRONG) < 0.85
    assert 0.4 < drawn(right, crowd, CROWD) < 0.85


def usage(queries: list[int], images: int = 10) -> QueryUsage:
    number = len(queries)
    boxes = np.tile(np.array([0.5, 0.5, 0.4, 0.2], np.float32), (number, 1))
    columns = np.array(queries, np.int64), boxes, np.full(number, 0.9, np.float32), np.zeros(number, np.int64)
    return QueryUsage(images, 0.5, np.bincount(queries, minlength=4), np.zeros((4, 2)), Found(*columns))


def test_the_usage_figure_shows_the_most_used_queries_first() -> None:
    figure = usage_figure(usage([1, 1, 1, 3, 3, 2]), num=2)
    assert [axes.get_title() for axes in figure.axes] == ["query 1: 30%", "query 3: 20%"]
    wide = figure.axes[0].lines[1]
    assert (len(wide.get_xdata()), wide.get_marker()) == (3, "_")
    assert "Of 4 queries, 1 never answer" in figure.get_suptitle()


def test_a_figure_of_queries_that_never_answer_says_so() -> None:
    figure = usage_figure(usage([]))
    assert figure.axes == []
    assert "4 never answer" in figure.get_suptitle()
