"""TensorBoard's files, written through accelerate's tracker."""

from pathlib import Path

from accelerate.tracking import TensorBoardTracker

from detrkit.training.events import Event, Finished, Interrupted, Started, Stepped, Validated


class TensorBoard:
    """Curves of the losses, rates and COCO's figures, for ``tensorboard --logdir RUN``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tracker: TensorBoardTracker | None = None

    def __call__(self, event: Event) -> None:
        """Write the event's numbers under its step. A resumed run's steps overwrite those after its start."""
        match event:
            case Started(step=step):
                self._tracker = TensorBoardTracker(
                    "tensorboard", logging_dir=self.folder, purge_step=step + 1
                )
                self._tracker.start()
            case Stepped():
                self._log(scalars_of_step(event), event.step)
            case Validated():
                self._log(scalars_of_validation(event), event.step)
            case Finished() | Interrupted():
                if self._tracker is not None:
                    self._tracker.finish()

    def _log(self, values: dict[str, float], step: int) -> None:
        if self._tracker is not None:
            self._tracker.log(values, step=step)


def scalars_of_step(event: Stepped) -> dict[str, float]:
    """The numbers of a step by name; a term of several layers has one name per layer."""
    terms = {
        f"train/{name}/layer{layer}" if len(values) > 1 else f"train/{name}": value
        for name, values in event.terms.items()
        for layer, value in enumerate(values, start=1)
    }
    rates = {f"rate/{name}": rate for name, rate in event.learning_rates.items()}
    return {"train/loss": event.loss, "train/gradient_norm": event.gradient_norm, **terms, **rates}


def scalars_of_validation(event: Validated) -> dict[str, float]:
    """COCO's 12 figures by name."""
    figures = event.metrics._asdict()
    return {f"validation/{name}": value for name, value in figures.items() if name != "per_class"}
