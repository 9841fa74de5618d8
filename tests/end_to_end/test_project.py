"""What a newcomer does: install the wheel, and try the README's example."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detrkit.data.shapes import ShapesSettings, write_shapes

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_recipes_and_the_command(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    folder = tmp_path / "empty"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)

    recipes = {path.name for path in (folder / "detrkit" / "recipes").iterdir()}
    assert recipes == {path.name for path in (ROOT / "src" / "detrkit" / "recipes").iterdir()}
    assert "detr_r50.toml" in recipes
    program = (
        "import detrkit, pathlib, runpy, sys\n"
        f"assert pathlib.Path(detrkit.__file__).is_relative_to({str(folder)!r}), detrkit.__file__\n"
        "sys.argv = ['detrkit', 'train', '--help']\n"
        f"runpy.run_path({str(folder / 'bin' / 'detrkit')!r}, run_name='__main__')"
    )
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "detr_r101" in done.stdout


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    steps = '"train.max_steps": 200'
    assert steps in example
    write_shapes(tmp_path / "shapes", ShapesSettings(train_images=32, val_images=4))
    monkeypatch.chdir(tmp_path)
    exec(compile(example.replace(steps, '"train.max_steps": 2'), "README.md", "exec"), {})
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 4
