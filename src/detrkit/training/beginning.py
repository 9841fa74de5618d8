"""What a run folder keeps of how its run began, which a resumed run is held against.

``experiment.toml`` has the settings, ``init.json`` the weights that it started from, if it did from another
detector's, and ``begun.json`` the size of its steps and its dataset. The settings are written last: where
they are, so is all else.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import msgspec

from detrkit.catalog import Catalog
from detrkit.errors import DetrkitError
from detrkit.reading import Count, read_json, writable
from detrkit.settings.experiment import Experiment, parse, recipe, to_toml
from detrkit.settings.section import describe
from detrkit.training import checkpoint
from detrkit.training.claim import Claim
from detrkit.training.refusals import reason
from detrkit.weights import store
from detrkit.weights.transfer import Row

logger = logging.getLogger(__name__)

_SETTINGS, _ORIGINS, _BEGUN = "experiment.toml", "init.json", "begun.json"

_MAY_CHANGE = {
    "data.workers",
    "data.max_skipped_images",
    "train.max_skipped_steps",
    "train.checkpoint_every",
    "train.update_ratio_every",
    "train.validate_raw",
    "train.trackers",
}
"""Settings that a resumed run may change, since no weight that it has depends on them."""


class Begun(msgspec.Struct, omit_defaults=True):
    """The images of a step, and the digests of the splits; older runs do not say."""

    images_per_step: Count = 0
    train: str = ""
    validation: str = ""

    def changed(self, train: Catalog, validation: Catalog) -> list[str]:
        """A note on each split that is not the one that the run began with."""
        return [
            f"{catalog.source} is not what this run began with: the order of images and the figures change."
            for before, catalog in ((self.train, train), (self.validation, validation))
            if before and before != catalog.digest()
        ]


class _Origins(TypedDict):
    """Of ``init.json``, what a resumed run needs."""

    init: str


def has_begun(out: Path) -> bool:
    """Whether a run has begun in the folder."""
    return (out / _SETTINGS).exists()


def require_fresh(out: Path) -> None:
    """Refuse a folder that has a run; DetrkitError."""
    if has_begun(out) or checkpoint.is_saved(out / "last"):
        raise DetrkitError(f"{out} already holds a run: resume it with --resume, or choose another --out.")


def write(
    out: Path,
    experiment: Experiment,
    notes: Sequence[str],
    begun: Begun,
    init: Path | None,
    origins: Sequence[Row],
    claim: Claim | None,
) -> None:
    """Make the run folder, claim it, and write what the run begins with. ``notes`` are comments.

    Raises:
        DetrkitError: it cannot be written to, or another job has it or has begun in it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        store.flush(out.parent)
        if claim is not None:
            claim.take()
        require_fresh(out)  # another job may have begun there since
        (out / _ORIGINS).unlink(missing_ok=True)
        if init is not None:
            # the name of published weights is no file
            source = str(init.resolve() if init.exists() else init)
            tensors = [row._asdict() for row in origins]
            store.write_text(out / _ORIGINS, json.dumps({"init": source, "tensors": tensors}, indent=1))
        store.write_text(out / _BEGUN, json.dumps(msgspec.to_builtins(begun), indent=1))
        _write_settings(out, experiment, notes)
    except OSError as error:
        raise DetrkitError(
            f"the run folder {out} cannot be written to ({error.strerror}): make room, or choose another "
            "--out."
        ) from None


def write_settings_again(out: Path, experiment: Experiment) -> None:
    """Write the settings of a run that has lost them but for its state; a refusal is warned of."""
    if has_begun(out):
        return
    try:
        _write_settings(out, experiment, ["Written anew, from the state of the run."])
    except OSError as error:
        logger.warning("%s cannot be written anew (%s).", out / _SETTINGS, reason(error))


def _write_settings(out: Path, experiment: Experiment, notes: Sequence[str]) -> None:
    comments = [f"# {writable(note)}" for note in notes]
    store.write_text(out / _SETTINGS, "\n".join([*comments, to_toml(experiment)]))


def read(out: Path, required: bool) -> Begun:
    """What ``begun.json`` says, if the run has begun. A damaged one that is not required is warned of.

    Raises:
        DetrkitError: it is required and damaged.
    """
    path = out / _BEGUN
    if not (path.exists() and has_begun(out)):
        return Begun()
    try:
        return msgspec.convert(read_json(path, Begun), Begun)
    except (OSError, ValueError) as error:
        if required:
            raise _damaged(path, error) from None
        logger.warning("%s cannot be read (%s): whether the dataset has changed is not known.", path, error)
        return Begun()


def continued(experiment: Experiment, init: Path | None, out: Path) -> tuple[Experiment, Path | None]:
    """The settings and the starting weights of the run to resume, which must be those asked for.

    A folder in which nothing has begun, as of a run that was killed while it read its data, takes any.

    Raises:
        DetrkitError: other settings or weights are asked for, or there is no run.
    """
    if checkpoint.is_saved(out / "last"):
        saved = parse(checkpoint.read_experiment(out / "last"), f"{out / 'last' / 'state.json'}")
    elif has_begun(out):
        saved = recipe(out / _SETTINGS)
    elif out.is_dir():
        return experiment, init
    else:
        raise DetrkitError(f"there is no training state to resume from in {out}: start without --resume.")
    return _same_settings(experiment, saved, out), _same_start(init, out)


def _same_start(init: Path | None, out: Path) -> Path | None:
    """The weights that the run started from."""
    before = _start(out / _ORIGINS)
    if init is not None and (before is None or init.resolve() != before.resolve()):
        raise DetrkitError(
            f"{out} started from {before or 'no file of weights'} and is resumed with its own weights: "
            f"leave out --init {init}."
        )
    return before


def _start(path: Path) -> Path | None:
    if not path.exists():
        return None
    try:
        source = read_json(path, _Origins)["init"]
        if "\0" in source:
            raise ValueError("a null character names no file")
        return Path(source)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _same_settings(experiment: Experiment, saved: Experiment, out: Path) -> Experiment:
    """The settings to go on with."""
    if experiment.train.budget is not None and saved.train.max_steps is not None:
        # a budget was turned into steps when the run began, and counts no more
        train = experiment.train.model_copy(update={"budget": None, "max_steps": saved.train.max_steps})
        experiment = experiment.model_copy(update={"train": train})
    before = {name: value for name, value, _ in describe(saved)}
    for name, value, _ in describe(experiment):
        if name not in _MAY_CHANGE and before.get(name) != value:
            raise DetrkitError(
                f"{out} was trained with {name} = {before.get(name)}, not {value}: resume it with the "
                "settings it has, or start another run."
            )
    return experiment


def _damaged(path: Path, error: Exception) -> DetrkitError:
    return DetrkitError(f"{path} cannot be read ({error}): restore it, or begin another run.")
