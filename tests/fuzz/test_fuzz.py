"""Damaged files are read or refused in a sentence that names the file, and nothing else happens.

By default each reader meets 200 damaged files; ``make fuzz`` has it meet 10,000 and more.
"""

import json
import os
from pathlib import Path
from random import Random

import pytest
from damage import damage_json
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS, Target

EXAMPLES = int(os.environ.get("DETRKIT_FUZZ", "200"))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_undamaged_files_are_read(target: Target, tmp_path: Path) -> None:
    """Without which damage to them would reach little more than what refuses them."""
    target.write(tmp_path)
    for name in target.damage:
        assert target.read_with(tmp_path, name, (tmp_path / name).read_bytes()) is None


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_damaged_files_are_read_or_refused(target: Target, tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    target.write(folder)
    before = sorted(tmp_path.rglob("*"))
    refused = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES == 200,
        suppress_health_check=list(HealthCheck),
    )
    @given(random=st.randoms(use_true_random=False))
    def attack(random: Random) -> None:
        nonlocal refused
        if refusal := target.attack(folder, random):
            refused += 1
            require_sentence(str(refusal), folder)

    attack()
    assert refused > EXAMPLES / 10
    assert sorted(tmp_path.rglob("*")) == before


def test_a_reader_that_crashes_is_found(tmp_path: Path) -> None:
    def read_first(folder: Path, name: str) -> None:
        json.loads((folder / name).read_text())["images"][0]["id"]

    target = Target("careless", lambda folder: None, {"a.json": damage_json}, read_first)
    (tmp_path / "a.json").write_text('{"images": [{"id": 1}]}')
    met = set()
    for seed in range(100):
        try:
            target.attack(tmp_path, Random(seed))
        except Exception as error:  # noqa: BLE001 which of them is what is asked
            met.add(type(error))
    assert met >= {KeyError, TypeError, json.JSONDecodeError}
    assert json.loads((tmp_path / "a.json").read_text()) == {"images": [{"id": 1}]}


def require_sentence(text: str, folder: Path) -> None:
    """A message names a file, or the setting that was given, fits on a page, and can be written anywhere."""
    text.encode()
    assert len(text) < 2000
    assert str(folder) in text or "setting" in text
