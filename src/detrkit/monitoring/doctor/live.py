"""The doctor beside a run while it trains: one warning for each ailment, when it is first seen."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import read_split
from detrkit.errors import DetrkitError
from detrkit.evaluation.coco import read_results
from detrkit.monitoring.doctor.answers import answers_of
from detrkit.monitoring.doctor.diagnose import diagnose
from detrkit.monitoring.doctor.facts import Facts
from detrkit.monitoring.doctor.gather import settings_of, started_elsewhere, with_data
from detrkit.monitoring.doctor.history import course_of
from detrkit.monitoring.jsonl import as_line, read_log
from detrkit.training.events import Event, Started, Stepped, Validated

logger = logging.getLogger(__name__)

MOST_LINES = 4000
"""Steps that are remembered: 100 for each stretch that the doctor cuts a run into."""


class LiveDoctor:
    """Says in words what looks wrong, after each validation, by the log and the detections.

    The model is not asked and no image is opened, so it costs next to nothing. An ailment is told once, and a
    symptom only in the second half of the run, since a healthy one has some in its beginning. A doctor that
    fails stops no run: the log says so.
    """

    def __init__(self, folder: Path, data: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._data = data
        self._say = say
        self._told: set[str] = set()
        self._lines: list[dict[str, Any]] = []
        self._every = 1
        self._started: Started | None = None
        self._catalogs: tuple[Catalog, Catalog] | None = None

    def __call__(self, event: Event) -> None:
        """Remember steps and judge after validations, in the main process alone."""
        if not PartialState().is_main_process:
            return
        match event:
            case Started():
                self._started = event
                self._recall(event)
            case Stepped() if (event.step - 1) % self._every == 0:
                self._remember(as_line(event))
            case Validated():
                self._lines.append(as_line(event))
                try:
                    self._judge()
                except Exception:
                    logger.warning(
                        "The doctor could not judge %s; training goes on.", self._folder, exc_info=True
                    )
            case _:
                pass

    def _recall(self, event: Started) -> None:
        """Of a resumed run, what its log has of the steps before."""
        path = self._folder / "log.jsonl"
        for line in read_log(path) if event.step and path.is_file() else []:
            if line["event"] == "step" and (line["step"] - 1) % self._every == 0:
                self._remember(line)
            elif line["event"] == "validation":
                self._lines.append(line)

    def _remember(self, line: dict[str, Any]) -> None:
        """Keep the line; of too many, every second step is let go, but never all that measured an update."""
        self._lines.append(line)
        if len(self._lines) > MOST_LINES:
            self._every *= 2
            self._lines = [
                one for one in self._lines if one["event"] != "step" or (one["step"] - 1) % self._every == 0
            ]

    def _judge(self) -> None:
        facts = self._facts()
        settled = facts.course.progress >= 0.5
        for ailment in diagnose(facts):
            if ailment.name not in self._told and (settled or ailment.kind != "symptom"):
                self._told.add(ailment.name)
                self._say(f"Doctor: {ailment.sentence} (All of it: detrkit doctor {self._folder})")

    def _facts(self) -> Facts:
        started = self._started
        assert started is not None  # a run starts before it validates
        facts = Facts(
            settings=settings_of(started.experiment),
            parameters=(started.trainable_parameters, started.parameters),
            state="running",
            course=course_of(self._lines, started.length.steps),
            trained_before=started_elsewhere(self._folder),
        )
        try:
            train, validation = self._read(started)
            found = read_results(self._folder / "evaluation" / "detections.json", validation)
        except DetrkitError:
            return facts
        return with_data(facts, train, validation, answers=answers_of(validation, found))

    def _read(self, started: Started) -> tuple[Catalog, Catalog]:
        if self._catalogs is None:
            names = started.experiment.data
            self._catalogs = (
                read_split(self._data, names.train_split),
                read_split(self._data, names.val_split),
            )
        return self._catalogs
