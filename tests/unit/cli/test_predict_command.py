import json
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from detrkit.cli.main import app


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos, which is also the working directory; two share a name."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("one/a.jpg", "one/b.webp", "two/a.jpg", "two/A.JPG", "two/a-2.jpg")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.effect_noise((50 + number, 40), 80).convert("RGB").save(path)
    return tmp_path


def run(checkpoint: Path, *arguments: object) -> Result:
    command = ["predict", checkpoint, *arguments]
    return CliRunner().invoke(app, [str(argument) for argument in command], catch_exceptions=False)


def test_draws_and_lists_what_is_found(checkpoint: Path, photos: Path) -> None:
    ran = run(checkpoint, "one", "--out", "found", "--threshold", 0)
    assert ran.exit_code == 0, ran.output
    assert sorted(path.name for path in (photos / "found").iterdir()) == [
        "a.jpg",
        "b.png",
        "predictions.json",
    ]
    listed = json.loads((photos / "found/predictions.json").read_text())
    assert [entry["file"] for entry in listed] == ["one/a.jpg", "one/b.webp"]
    for entry, name in zip(listed, ["a.jpg", "b.png"], strict=True):
        with Image.open(entry["file"]) as image, Image.open(photos / "found" / name) as picture:
            assert picture.size == (10 * image.width, 10 * image.height)  # a small image is enlarged
        assert len(entry["detections"]) == 5
        scores = [found["score"] for found in entry["detections"]]
        assert scores == sorted(scores, reverse=True)
        for found in entry["detections"]:
            assert found["category"] == f"class {found['category_id']}"
            assert len(found["bbox"]) == 4
            assert min(found["bbox"][2:]) >= 0
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("one/a.jpg: ")
    assert lines[0].endswith("-> found/a.jpg")
    assert lines[-1] == "The pictures and predictions.json are in found."


def test_pictures_of_files_with_one_name_are_told_apart(checkpoint: Path, photos: Path) -> None:
    ran = run(checkpoint, "one/a.jpg", "two", "--threshold", 1, "--batch-size", 3)
    assert ran.exit_code == 0, ran.output
    listed = json.loads((photos / "predictions/predictions.json").read_text())
    assert [entry["file"] for entry in listed] == ["one/a.jpg", "two/A.JPG", "two/a-2.jpg", "two/a.jpg"]
    pictures = [line.rpartition("-> ")[2] for line in ran.stdout.splitlines()[:-1]]
    assert pictures == [f"predictions/{name}" for name in ("a.jpg", "A-2.JPG", "a-2-2.jpg", "a-3.jpg")]
    for entry, picture in zip(listed, pictures, strict=True):
        with Image.open(entry["file"]) as image, Image.open(picture) as drawn:
            assert drawn.size[0] % image.width == drawn.size[1] % image.height == 0
    assert "one/a.jpg: nothing -> " in ran.stdout


def test_an_image_is_never_overwritten(checkpoint: Path, photos: Path) -> None:
    before = (photos / "one/a.jpg").read_bytes()
    ran = run(checkpoint, "one/a.jpg", "--out", "one")
    assert ran.exit_code == 2
    assert "--out one would overwrite the image one/a.jpg: name another folder." in ran.stderr
    assert (photos / "one/a.jpg").read_bytes() == before


@pytest.mark.usefixtures("photos")
def test_a_path_without_images_is_refused(checkpoint: Path) -> None:
    ran = run(checkpoint, "nowhere")
    assert ran.exit_code == 2
    assert ran.stderr.startswith("Error: nowhere means no image")
