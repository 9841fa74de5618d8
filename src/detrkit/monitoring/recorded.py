"""The loop with its records: what ``detrkit.fit`` and the command line run."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

from detrkit.data.formats.recognise import read_split
from detrkit.data.loader import telling_of_ended_workers
from detrkit.errors import DetrkitError
from detrkit.monitoring.header import RunHeader
from detrkit.monitoring.jsonl import JsonLines
from detrkit.monitoring.trackers import Trackers
from detrkit.settings.experiment import Experiment
from detrkit.training.claim import Claim
from detrkit.training.events import Event
from detrkit.training.fit import fit as train
from detrkit.training.prepare import ReadData
from detrkit.training.together import ending_together

Listener = Callable[[Event], None]
"""Hears every event of a run, in order."""


def fit(
    experiment: Experiment,
    data: str | Path,
    out: str | Path,
    resume: bool = False,
    init: str | Path | None = None,
    listeners: Sequence[Listener] = (),
    recipe: str | None = None,
    read_data: ReadData = read_split,
) -> Generator[Event]:
    """Train into the run folder ``out``, recording every event there, and yield the events.

    The run goes on as the events are drawn: ``for event in fit(..): ..``. Besides what ``training.fit``
    writes, the folder receives ``run.json``, ``log.jsonl`` and TensorBoard's files in ``tensorboard/``.
    ``resume`` goes on with the run in it, ``init`` starts from a file of weights.
    ``listeners`` hear each event before it is yielded. ``recipe`` is the name that ``run.json`` notes.
    What ends a run that had begun, such as a loss that is not finite, is the last line of its log.

    Signals that ask it to stop are its own until it has ended: close what you leave before that.
    """
    folder = Path(out)
    header = RunHeader(folder, Path(data), None if init is None else Path(init), recipe, resume)
    trackers = Trackers(folder, experiment.train.trackers)
    log = JsonLines(folder)
    heard: list[Listener] = [header, log, trackers, *listeners]

    def tell(error: DetrkitError) -> None:
        if not claim.lost:  # else the records are another job's
            log.fail(error)
            header.fail()

    with (
        Claim(folder) as claim,  # to the end, since the log has a last word after the loop
        closing(train(experiment, data, out, resume, init, read_data, claim)) as events,
        ending_together(tell),
        telling_of_ended_workers(),
    ):
        for event in events:
            claim.hold()
            for listener in heard:
                listener(event)
            yield event
