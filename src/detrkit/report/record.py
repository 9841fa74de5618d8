"""What a run folder holds, read with patience: whatever is missing or damaged is said, never an error."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from detrkit.errors import DetrkitError
from detrkit.evaluation.curves import read_curves
from detrkit.evaluation.stated import read_analysis, read_metrics
from detrkit.files import is_folder
from detrkit.monitoring.header import read_header
from detrkit.monitoring.lines import read_lines
from detrkit.monitoring.settings import read_settings
from detrkit.reading import writable
from detrkit.settings.experiment import Experiment

T = TypeVar("T")


class Record(NamedTuple):
    """A run as its folder tells it. What is not there is None or empty, and ``why`` says of it why.

    What is there and cannot be read as a whole is told in ``damaged`` too, in sentences without their stops.

    ``results`` is the folder of its evaluation, ``header`` is ``run.json``. ``steps`` and ``validations`` are
    lines of ``log.jsonl``, ``end`` its last word (``finished`` or ``interrupted``), and ``last_words`` the
    text of its last line, whole or cut. ``metrics`` and ``analysis`` are those of the best validation,
    ``curves`` the evaluator's arrays.
    """

    folder: Path
    results: Path
    name: str
    header: dict[str, Any]
    experiment: Experiment | None
    steps: list[dict[str, Any]]
    validations: list[dict[str, Any]]
    end: dict[str, Any] | None
    last_words: str
    metrics: dict[str, Any] | None
    analysis: dict[str, Any] | None
    curves: dict[str, np.ndarray] | None
    why: dict[str, str]
    damaged: list[str]

    @property
    def classes(self) -> dict[str, dict[str, Any]]:
        """The figures of each class by name, from the best validation."""
        return (self.metrics or {}).get("per_class", {})


def read_run(folder: Path) -> Record:
    """The run in ``folder``, or what ``detrkit evaluate --out`` left there.

    Raises:
        DetrkitError: The folder is not there, or holds neither.
    """
    if not is_folder(folder):
        raise DetrkitError(f"{folder} is not a folder: name a run folder, or one that evaluate --out wrote.")
    results = folder if (folder / "metrics.json").is_file() else folder / "evaluation"
    why: dict[str, str] = {}
    log = _log(folder / "log.jsonl", why)
    ends = [line for line in log if line["event"] in ("finished", "interrupted")]
    validations = [line for line in log if line["event"] == "validation"]
    record = Record(
        folder=folder,
        results=results,
        name=writable(folder.resolve().name),
        header=_read(folder / "run.json", read_header, why) or {},
        experiment=_read(folder / "experiment.toml", read_settings, why),
        steps=[line for line in log if line["event"] == "step"],
        validations=validations,
        end=ends[-1] if ends and log[-1] is ends[-1] else None,
        last_words=_last_words(folder / "log.jsonl"),
        metrics=_read(results / "metrics.json", read_metrics, why) or _best(validations),
        analysis=_read(results / "analysis.json", read_analysis, why),
        curves=_read(results / "precision_recall.npz", _arrays, why),
        why=why,
        damaged=[],
    )
    if not log and record.metrics is None and record.experiment is None:
        raise DetrkitError(
            f"{folder} holds no run: neither log.jsonl nor experiment.toml nor metrics.json is there. "
            "Name the folder given to train --out or to evaluate --out."
        )
    return record._replace(damaged=[told for told in why.values() if not told.endswith(_NOT_THERE)])


def told_apart(records: Sequence[Record]) -> list[Record]:
    """The runs with names that differ: those of folders of the same name get their parents', or a number."""
    longer = [writable("/".join(record.folder.resolve().parts[-2:])) for record in records]
    names = [record.name for record in records]
    for candidates in (names, longer, [f"{name} ({place})" for place, name in enumerate(names, start=1)]):
        if len(set(candidates)) == len(records):
            return [record._replace(name=name) for record, name in zip(records, candidates, strict=True)]
    raise AssertionError("numbers differ")


def best_validation(record: Record) -> dict[str, Any] | None:
    """The validation with the highest AP, the first of several."""
    return max(record.validations, key=lambda line: line["metrics"]["AP"], default=None)


def seconds_of(record: Record) -> float:
    """The seconds that the steps and validations in the log took."""
    return float(sum(line.get("seconds") or 0.0 for line in [*record.steps, *record.validations]))


def _best(validations: list[dict[str, Any]]) -> dict[str, Any] | None:
    best = max(validations, key=lambda line: line["metrics"]["AP"], default=None)
    return best and best["metrics"]


def _log(path: Path, why: dict[str, str]) -> list[dict[str, Any]]:
    log = _read(path, read_lines, why)
    if log is not None and log.left_out:
        why[path.name] = log.left_out
    return [] if log is None else log.lines


def _last_words(path: Path) -> str:
    """The last line of the log, or of what a kill left of it, at most 300 letters."""
    if not path.is_file():
        return ""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 65536))
        lines = log.read().decode("utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else ""
    return last if len(last) <= 300 else f"{last[:300]}…"


_NOT_THERE = "is not there"


def _read(path: Path, reader: Callable[[Path], T], why: dict[str, str]) -> T | None:
    """What the reader makes of the file, or None and the reason under the file's name."""
    try:
        if path.exists():
            return reader(path)
        why[path.name] = f"{path} {_NOT_THERE}"
    except DetrkitError as error:
        why[path.name] = str(error).removesuffix(".")
    except (OSError, ValueError) as error:
        why[path.name] = f"{path} cannot be read ({error})"
    return None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return read_curves(path)._asdict()


def unevaluated(record: Record) -> str:
    """Why there is no analysis of detections, as a sentence; empty where there is one that has detections."""
    if record.analysis is not None:
        if record.analysis["detections"]:
            return ""
        return (
            f"Nothing was found in any of the {record.analysis['images']:,} images: there are no detections."
        )
    if record.metrics is None:
        return "No validation yet, so there are no detections to look at."
    return (
        f"The detections were not analysed: {record.why.get('analysis.json', 'no analysis is there')}. "
        "The command detrkit evaluate RUN --data DIR --out RUN/evaluation makes up for it."
    )
