"""Saving a run as it goes, on a disk that may refuse.

A save that fails is warned of and tried again at the next one, and what was saved before stays. Only the end
of a run whose last save failed is an error.
"""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from detrkit.errors import DetrkitError
from detrkit.training import checkpoint
from detrkit.training.claim import Claim
from detrkit.training.prepare import Run
from detrkit.training.refusals import Refusals, reason
from detrkit.training.validate import Validation, write_validation
from detrkit.weights import store

logger = logging.getLogger(__name__)

SLOW = 15.0
"""Seconds of a save that leave too little of the half minute that clusters give to a job after SIGTERM."""


class _Best(NamedTuple):
    """The best weights so far, with what they detected."""

    tensors: dict[str, Tensor]
    validation: Validation


class Saver:
    """Writes the state of a run and its best weights, in the main process alone.

    The best weights come first: a state on disk never tells of weights that are not there. Where the disk
    refused them, they wait in memory. Nothing is written where another job has the run folder by now, as
    ``claim`` says if there is one: that is a DetrkitError.
    """

    def __init__(self, run: Run, claim: Claim | None = None) -> None:
        self._run = run
        self._claim = claim
        self._waiting: _Best | None = None
        self._saved_step = run.state.progress.step
        self._error: OSError | None = None
        self._slow = False
        self._refusals = Refusals(
            run.out,
            "Training goes on, and every save tries again. The state that was saved last stays: a run that "
            "ends before another is saved goes on from there.",
        )

    def keep(self, validation: Validation) -> None:
        """Keep what is judged as the best, with what it detected."""
        if not self._run.accelerator.is_main_process:
            return
        best = _Best(self._run.judged.state_dict(), validation)
        self._error = self._tried(lambda: self._write(best))
        if self._error is not None:
            self._waiting = best._replace(tensors={name: _copy(one) for name, one in best.tensors.items()})

    def save(self) -> None:
        """Save the state, once for all processes."""
        if self._run.accelerator.is_main_process:
            self._error = self._tried(self._save)
        self._run.accelerator.wait_for_everyone()

    def require_saved(self) -> None:
        """Refuse to end a run whose last save failed; DetrkitError."""
        if self._error is not None:
            raise DetrkitError(
                f"step {self._run.state.progress.step} could not be saved in {self._run.out} "
                f"({reason(self._error)}): mend that, and --resume goes on from step {self._saved_step}, the "
                "last that is saved there."
            )

    def _save(self) -> None:
        if self._waiting is not None:
            self._write(self._waiting)
        run = self._run
        checkpoint.save(run.out / "last", run.state, run.experiment.model_dump(mode="json"))
        self._saved_step = run.state.progress.step

    def _write(self, best: _Best) -> None:
        run = self._run
        store.write(run.out / "model.safetensors", best.tensors, run.experiment, run.judged.categories)
        write_validation(run.out / "evaluation", best.validation)
        self._waiting = None

    def _tried(self, write: Callable[[], None]) -> OSError | None:
        """What the disk said against it, if anything."""
        if self._claim is not None:
            self._claim.hold()
        start = time.monotonic()
        try:
            write()
        except OSError as error:
            self._refusals.tell(error)
            return error
        self._refusals.over()
        self._warn_if_slow(time.monotonic() - start)
        return None

    def _warn_if_slow(self, seconds: float) -> None:
        if seconds > SLOW and not self._slow:
            self._slow = True
            logger.warning(
                "Saving in %s took %.0f seconds: a job that is killed half a minute after SIGTERM may not be "
                "saved by then. Have it told earlier, or name a faster disk with --out.",
                self._run.out,
                seconds,
            )


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
