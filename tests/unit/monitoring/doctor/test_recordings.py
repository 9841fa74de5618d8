"""The doctor over runs that were trained with a fault planted in each, and recorded by `make test-long`."""

import json
from pathlib import Path

import pytest

from detrkit.monitoring.doctor.diagnose import diagnose
from detrkit.monitoring.doctor.facts import from_json, to_json

RECORDINGS = Path(__file__).parent / "recordings"
PLANTED: dict[str, dict[str, str | None]] = json.loads((RECORDINGS / "planted.json").read_text())
RECORDED = [name for name in PLANTED if (RECORDINGS / f"{name}.json").exists()]


@pytest.mark.parametrize("name", RECORDED)
def test_the_planted_fault_is_named_first_and_nothing_where_there_is_none(name: str) -> None:
    found = diagnose(from_json((RECORDINGS / f"{name}.json").read_bytes()))
    assert (found[0].name if found else None) == PLANTED[name]["first"]


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_said_has_evidence_and_a_next_step(name: str) -> None:
    for ailment in diagnose(from_json((RECORDINGS / f"{name}.json").read_bytes())):
        assert 0 <= ailment.confidence <= 1
        assert any(letter.isdigit() for letter in ailment.evidence)
        assert not ailment.what.endswith(".")
        assert not ailment.remedy.endswith(".")
        assert "nan" not in ailment.sentence.lower().replace("nan in an image", "")


@pytest.mark.parametrize("name", RECORDED)
def test_facts_come_back_as_they_were_written(name: str) -> None:
    text = (RECORDINGS / f"{name}.json").read_bytes()
    facts = from_json(text)
    assert from_json(to_json(facts)) == facts
    assert len(text) < 50_000


def test_enough_is_recorded_and_nothing_that_was_not_planted() -> None:
    assert {path.stem for path in RECORDINGS.glob("*.json")} == {"planted", *RECORDED}
    healthy = [name for name in RECORDED if PLANTED[name]["first"] is None]
    assert len(healthy) >= 3
    assert len({PLANTED[name]["first"] for name in RECORDED} - {None}) >= 12
