"""Who is meant by the words of the command."""

from pathlib import Path

import pytest

from detrkit.benchmark.entrant import Entrant, Exported, Untrained, Weights, read_entrants
from detrkit.errors import DetrkitError


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in ("first/run", "second/run", "shapes"):
        (tmp_path / folder).mkdir(parents=True)
    for file in (
        "first/run/model.safetensors",
        "detr.pth",
        "yolo.onnx",
        "yolo.json",
        "mine.toml",
        "a=b.json",
    ):
        (tmp_path / file).touch()
    return tmp_path


def test_each_kind_is_told_by_what_is_there() -> None:
    assert read_entrants(["first/run", "detr.pth", "yolo.onnx", "mine.toml", "detr_r50"]) == [
        Entrant("run", Weights(Path("first/run"))),
        Entrant("detr", Weights(Path("detr.pth"))),
        Entrant("yolo", Exported(Path("yolo.onnx"))),
        Entrant("mine", Untrained("mine.toml")),
        Entrant("detr_r50", Untrained("detr_r50")),
    ]


def test_what_torchvision_publishes_is_called_by_its_name() -> None:
    named = Path("FasterRCNN_ResNet50_FPN_Weights.COCO_V1")
    assert read_entrants([str(named)]) == [Entrant("FasterRCNN_ResNet50_FPN", Weights(named))]


def test_a_recipe_goes_before_a_folder_of_its_name() -> None:
    assert read_entrants(["shapes", "./shapes"])[0].network == Untrained("shapes")
    assert read_entrants(["run=./shapes"])[0].network == Weights(Path("shapes"))


def test_a_run_is_called_as_its_folder_whichever_of_its_files_is_named() -> None:
    assert read_entrants(["first/run/model.safetensors"])[0].name == "run"


def test_runs_of_one_name_are_told_apart_by_their_folders() -> None:
    assert [one.name for one in read_entrants(["first/run", "second/run"])] == ["first/run", "second/run"]
    assert [one.name for one in read_entrants(["first/run", "first/run"])] == ["run (1)", "run (2)"]


def test_names_may_be_given_and_paths_may_have_an_equals_sign() -> None:
    assert [one.name for one in read_entrants(["old=first/run", "second/run", "a=b.json"])] == [
        "old",
        "run",
        "a=b",
    ]


def test_a_network_and_its_results_are_one_entrant_under_one_name() -> None:
    assert read_entrants(["yolo=yolo.json", "yolo=yolo.onnx"]) == [
        Entrant("yolo", Exported(Path("yolo.onnx")), Path("yolo.json"))
    ]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["nothing"], "there is no nothing"),
        (["=first/run"], "has no name"),
        (["a=first/run", "a=second/run"], "the name a is given to two"),
        (["a=yolo.json", "a=yolo.json"], "the name a is given to two"),
    ],
)
def test_what_cannot_be_meant_is_refused(texts: list[str], reason: str) -> None:
    with pytest.raises(DetrkitError, match=reason):
        read_entrants(texts)
