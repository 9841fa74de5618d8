"""Trackers of experiments, written through accelerate's classes."""

import json
import logging
import secrets
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import assert_never

from accelerate import PartialState
from accelerate.tracking import (
    GeneralTracker,
    MLflowTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)

from detrkit.errors import DetrkitError
from detrkit.evaluation.coco import Metrics
from detrkit.reading import read_json
from detrkit.settings.section import describe
from detrkit.settings.training import TrackerName
from detrkit.training.events import Event, Finished, Interrupted, Skipped, Started, Stepped, Validated
from detrkit.training.refusals import reason
from detrkit.weights import store

logger = logging.getLogger(__name__)

_PROJECT = "detrkit"
"""Under what wandb, mlflow and trackio file a run."""


class Trackers:
    """Curves of the losses, norms, rates and COCO's figures, in every tracker of `train.trackers`.

    TensorBoard's files lie in the run folder, for ``tensorboard --logdir RUN``. Where the others keep theirs
    is set in their own ways (``WANDB_MODE``, ``MLFLOW_TRACKING_URI``, ..). A resumed run continues its
    curves: under which names, ``trackers.json`` in the run folder says. Steps that it does again are
    replaced in TensorBoard; mlflow and trackio have them twice, and wandb keeps the first. A tracker that
    cannot write is left out from then on, and the run goes on: `log.jsonl` has the same numbers.

    Raises:
        DetrkitError: where the package of a tracker is not installed.
    """

    def __init__(self, folder: Path, names: Sequence[TrackerName]) -> None:
        for name in names:
            _require_installed(name)
        self._folder = folder
        self._names = names
        self._trackers: dict[TrackerName, GeneralTracker] = {}

    def __call__(self, event: Event) -> None:
        """Write the event's numbers under its step, in the main process alone."""
        if not PartialState().is_main_process:
            return
        match event:
            case Started():
                self._start(event)
            case Stepped():
                self._log(scalars_of_step(event), event.step)
            case Skipped():
                pass
            case Validated():
                self._log(scalars_of_validation(event), event.step)
            case Finished() | Interrupted():
                self._each(lambda tracker: tracker.finish())

    def _start(self, event: Started) -> None:
        path = self._folder / "trackers.json"
        known = _read(path) if event.step and path.exists() else {}
        before = dict(known)
        known.setdefault("run", f"{self._folder.resolve().name}-{secrets.token_hex(4)}")
        self._trackers = {name: _build(name, self._folder, known, event) for name in self._names}
        self._each(lambda tracker: _begin(tracker, known, event))
        if known != before and set(self._names) - {"tensorboard"}:
            try:
                store.write_text(path, json.dumps(known, indent=1) + "\n")
            except OSError as error:
                logger.warning(
                    "%s cannot be written (%s): resumed, the run begins new curves.", path, reason(error)
                )

    def _log(self, values: dict[str, float], step: int) -> None:
        self._each(lambda tracker: tracker.log(values, step=step))

    def _each(self, act: Callable[[GeneralTracker], None]) -> None:
        """Have every tracker act; one that cannot write is let go."""
        for name, tracker in list(self._trackers.items()):
            try:
                act(tracker)
            except Exception as error:  # noqa: BLE001  # each has kinds of its own, of servers for the most part
                del self._trackers[name]
                logger.warning(
                    "%s of %s cannot write its curves (%s); they end here. Training goes on, and log.jsonl "
                    "has the same numbers.",
                    name,
                    self._folder,
                    _words(error),
                )


def _read(path: Path) -> dict[str, str]:
    """The names under which a run has its curves; none, with a warning, where these cannot be read."""
    try:
        return read_json(path, dict[str, str])
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s): the run begins new curves.", path, error)
        return {}


def _words(error: Exception) -> str:
    """What the operating system said, or the kind of error with its text, in one line."""
    if isinstance(error, OSError):
        return reason(error)
    return " ".join(f"{type(error).__name__}: {error}"[:300].split())


def _begin(tracker: GeneralTracker, known: dict[str, str], event: Started) -> None:
    """Start the tracker, and note under which name mlflow files the run."""
    tracker.start()
    if isinstance(tracker, MLflowTracker):
        known["mlflow"] = tracker.tracker.info.run_id
        if not event.step:
            tracker.store_init_configuration(_settings(event))


def scalars_of_step(event: Stepped) -> dict[str, float]:
    """The numbers of a step by name; a term of several layers has one name per layer."""
    terms = {
        f"train/{name}/layer{layer}" if len(values) > 1 else f"train/{name}": value
        for name, values in event.terms.items()
        for layer, value in enumerate(values, start=1)
    }
    return {
        "train/loss": event.loss,
        **terms,
        "gradient_norm/all": event.gradient_norm,
        **_under("gradient_norm", event.gradient_norms),
        **_under("update_ratio", event.update_ratios or {}),
        **_under("rate", event.learning_rates),
        "speed/images_per_second": event.images_per_second,
        "speed/data_share": event.data_share,
        "memory/bytes": event.memory,
    }


def scalars_of_validation(event: Validated) -> dict[str, float]:
    """COCO's 12 figures by name, and those of the weights themselves beside an average's."""
    raw = {} if event.raw is None else _under("validation_raw", _figures(event.raw))
    return _under("validation", _figures(event.metrics)) | raw


def _figures(metrics: Metrics) -> dict[str, float]:
    return {name: value for name, value in metrics._asdict().items() if name != "per_class"}


def _under(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


def _require_installed(name: TrackerName) -> None:
    if find_spec(name) is None:
        raise DetrkitError(
            f"train.trackers has {name}, whose package is not installed: pip install {name}, or leave it out."
        )


def _build(name: TrackerName, folder: Path, known: dict[str, str], event: Started) -> GeneralTracker:
    """The tracker, which goes on with the run where it is known."""
    run = known["run"]
    match name:
        case "tensorboard":
            return TensorBoardTracker("tensorboard", logging_dir=folder, purge_step=event.step + 1)
        case "wandb":
            return WandBTracker(
                _PROJECT, id=run, name=run, dir=str(folder), resume="allow", config=_settings(event)
            )
        case "mlflow":
            return MLflowTracker(_PROJECT, run_id=known.get("mlflow"), run_name=run)
        case "trackio":
            return TrackioTracker(_PROJECT, name=run, resume="allow", config=_settings(event))
        case never:
            assert_never(never)


def _settings(event: Started) -> dict[str, str | int | float | bool]:
    """Every setting under its dotted name, as a tracker takes it."""
    return {
        name: value if isinstance(value, str | int | float) else str(value)
        for name, value, _ in describe(event.experiment)
    }
