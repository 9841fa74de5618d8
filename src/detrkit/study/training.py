"""A run of a study, trained to its end from wherever it is."""

import shutil
from contextlib import closing
from pathlib import Path

from detrkit.errors import AskedToStop, NotFiniteError
from detrkit.monitoring.recorded import fit
from detrkit.settings.experiment import Experiment
from detrkit.study.events import Diverged, RunListener
from detrkit.study.outcome import note_divergence
from detrkit.training.events import Interrupted


def train_to_its_end(
    experiment: Experiment, data: Path, folder: Path, listener: RunListener, init: Path | None = None
) -> None:
    """Train, or train on, until the last step is done or the loss is not finite, which is noted.

    ``init`` is a file of weights to start from. Of the training state nothing is left.

    Raises:
        KeyboardInterrupt: when SIGTERM or Ctrl-C asked to stop; the run is saved.
    """
    resume = (folder / "last" / "state.json").exists()
    if not resume:
        # what is there is of a run that was killed before its first save
        shutil.rmtree(folder, ignore_errors=True)
    try:
        start = None if resume else init
        with closing(fit(experiment, data, folder, resume, start, [listener])) as events:
            for event in events:
                if isinstance(event, Interrupted):
                    raise AskedToStop(event.signal)
    except NotFiniteError as error:
        note_divergence(folder, str(error))
        listener(Diverged(folder, str(error)))
    # what only a run that goes on needs, and most of what it holds
    shutil.rmtree(folder / "last", ignore_errors=True)
