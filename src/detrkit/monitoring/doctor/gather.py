"""The facts of a run, from its folder, its data and its model, as far as these are at hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import choose_split, read_split
from detrkit.detectors.detr import DetrDetector
from detrkit.errors import DetrkitError
from detrkit.evaluation.coco import read_results
from detrkit.files import is_folder
from detrkit.inference.load import load
from detrkit.monitoring.doctor.answers import answers_of
from detrkit.monitoring.doctor.facts import Answers, Facts, Probe
from detrkit.monitoring.doctor.history import course_of
from detrkit.monitoring.doctor.probe import probe_of
from detrkit.monitoring.doctor.splits import splits_of
from detrkit.monitoring.header import read_header
from detrkit.monitoring.lines import read_lines
from detrkit.monitoring.settings import read_settings
from detrkit.settings.experiment import Experiment
from detrkit.settings.section import describe

T = TypeVar("T")
State = Literal["running", "interrupted", "finished", "failed"]


def gather(folder: Path, data: Path | None = None, *, images: bool = True) -> Facts:
    """All that is known of the run in ``folder``; ``data`` is its dataset, unless ``run.json`` says where.

    Without ``images``, no image is opened and nothing is asked of the model. What is not there is left out,
    and ``missing`` says so.

    Raises:
        DetrkitError: The folder holds no run.
    """
    if not (folder / "log.jsonl").is_file() or not (folder / "experiment.toml").is_file():
        raise DetrkitError(
            f"{folder} holds no run, for log.jsonl or experiment.toml is not there: name the folder given "
            "to train --out."
        )
    log = _required(folder / "log.jsonl", read_lines)
    experiment = _required(folder / "experiment.toml", read_settings)
    missing = [f"{log.left_out}."] if log.left_out else []
    about = folder / "run.json"
    header = (_attempt(lambda: read_header(about), missing) if about.exists() else None) or {}
    if experiment.optim.kind != "adamw":
        missing.append("whether the learning rates fit, since their thresholds are AdamW's.")
    catalogs = _attempt(lambda: _catalogs(experiment, header, data), missing)
    facts = Facts(
        settings=settings_of(experiment),
        parameters=(header.get("trainable_parameters", 0), header.get("parameters", 0)),
        state=_state(log.lines, header),
        course=course_of(log.lines, header.get("steps")),
        missing=missing,
        trained_before=started_elsewhere(folder),
    )
    if catalogs is None:
        return facts
    train, validation = catalogs
    return with_data(
        facts,
        train,
        validation,
        answers=_attempt(lambda: _answers(folder, validation), missing),
        probe=_attempt(lambda: _probe(folder, train, validation), missing) if images else None,
        open_files=images,
    )


def with_data(
    facts: Facts,
    train: Catalog,
    validation: Catalog,
    *,
    answers: Answers | None,
    probe: Probe | None = None,
    open_files: bool = False,
) -> Facts:
    """The facts with what the dataset and its detections say."""
    # a detector without queries answers for any number of objects
    queries = int(facts.number("model.decoder.queries", 2.0**31))
    splits = splits_of(train, validation, queries, open_files=open_files)
    return msgspec.structs.replace(facts, splits=splits, answers=answers, probe=probe)


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Every setting under its dotted name, as plain values."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value, _ in describe(experiment)
    }


def started_elsewhere(folder: Path) -> bool:
    """Whether the run in ``folder`` started from the weights of another."""
    return (folder / "init.json").is_file()


def _state(lines: list[dict[str, Any]], header: dict[str, Any]) -> State:
    last = lines[-1]["event"] if lines else ""
    if last in ("finished", "interrupted", "failed"):
        return last
    state = header.get("state")
    return state if state in ("finished", "interrupted") else "running"


def _catalogs(experiment: Experiment, header: dict[str, Any], data: Path | None) -> tuple[Catalog, Catalog]:
    folder = data or (Path(header["data"]) if "data" in header else None)
    if folder is None or not is_folder(folder):
        where = "run.json does not say where the data is" if folder is None else f"{folder} is not there"
        raise DetrkitError(f"Boxes, classes and images were not looked at, for {where}: add --data DIR.")
    train, validation = (
        read_split(folder, choose_split(folder, name, usual))
        for name, usual in (
            (experiment.data.train_split, ("train2017", "train")),
            (experiment.data.val_split, ("val2017", "val")),
        )
    )
    return train, validation


def _answers(folder: Path, validation: Catalog) -> Answers:
    path = folder / "evaluation" / "detections.json"
    if not path.is_file():
        raise DetrkitError(f"Detections were not compared with the truth, for {path} is not there.")
    return answers_of(validation, read_results(path, validation))


def _probe(folder: Path, train: Catalog, validation: Catalog) -> Probe:
    if not (folder / "model.safetensors").is_file():
        raise DetrkitError("The model was not asked, for there was no validation that kept one.")
    detector = load(folder)
    if not isinstance(detector, DetrDetector):
        raise DetrkitError("The model was not asked, for it is no DETR.")
    return probe_of(detector, train, validation)


def _required(path: Path, reader: Callable[[Path], T]) -> T:
    """What a file has without which there is no diagnosis."""
    try:
        return reader(path)
    except OSError as error:
        raise DetrkitError(f"{path} cannot be read ({error}): restore it from a copy.") from None


def _attempt(make: Callable[[], T], missing: list[str]) -> T | None:
    """What is made, or None and the reason."""
    try:
        return make()
    except DetrkitError as error:
        missing.append(str(error))
    except OSError as error:
        missing.append(f"A part of the dataset cannot be read ({error}).")
    return None
