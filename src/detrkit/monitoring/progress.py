"""What a person at a terminal sees of a run."""

from collections.abc import Sequence
from contextlib import suppress

from accelerate import PartialState
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from detrkit.terminal import open_console, words
from detrkit.training.events import Event, Finished, Interrupted, Skipped, Started, Stepped, Validated
from detrkit.weights.transfer import Row, summarise


class ProgressBar:
    """A bar with loss, learning rate, images per second, the last AP and time left; a line per validation.

    How much of the time goes into waiting for data stands there where it is more than a tenth.

    Where the output is not a terminal, the bar is left out and a line is printed every 20th of the run.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or open_console(stderr=True, highlight=False)
        self._bar = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
        )
        self._task = self._bar.add_task("train", status="")
        self._stride = 1
        self._steps = 0
        self._pace: tuple[float, float] | None = None
        self._ap: float | None = None

    def __call__(self, event: Event) -> None:
        """Show the event, in the main process alone."""
        if not PartialState().is_main_process:
            return
        match event:
            case Started():
                self._start(event)
            case Stepped():
                self._step(event)
            case Skipped():
                self.say(_skipped(event))
            case Validated():
                self._validate(event)
            case Finished():
                self.close()
                self.say(_last_words(event))
            case Interrupted():
                self.close()
                self.say(f"Interrupted by {event.signal.name}; step {event.step} is saved: --resume goes on.")

    def close(self) -> None:
        """Take the bar away, also where a run ended with an error."""
        if self._bar.live.is_started:
            with suppress(OSError):
                self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        # soft_wrap, since a path that is broken over two lines cannot be copied
        self._print(words(line), soft_wrap=True)

    def _print(self, shown: Text | Table, soft_wrap: bool = False) -> None:
        """Print above the bar. Where that fails, nobody is there to be told, and the run goes on."""
        with suppress(OSError):
            self.console.print(shown, soft_wrap=soft_wrap)

    def _start(self, event: Started) -> None:
        for line in _introduction(event):
            self.say(line)
        if event.origins:
            self._print(origins_table(event.origins))
        self._steps = event.length.steps
        self._stride = max(1, event.length.steps // 20)
        self._bar.update(self._task, total=event.length.steps, completed=event.step)
        if self.console.is_terminal:
            with suppress(OSError):
                self._bar.start()

    def _step(self, event: Stepped) -> None:
        now = event.seconds, event.data_seconds
        self._pace = now if self._pace is None else _smoothed(self._pace, now)
        seconds, waiting = self._pace
        figures = [
            f"epoch {event.epoch:.1f}",
            f"loss {event.loss:.3f}",
            f"lr {max(event.learning_rates.values()):.1e}",
            f"{event.images / seconds:.1f} images/s",
        ]
        if waiting > 0.1 * seconds:
            figures.append(f"{waiting / seconds:.0%} waiting for data")
        if self._ap is not None:
            figures.append(f"AP {self._ap:.3f}")
        status = "  ".join(figures)
        self._bar.update(self._task, completed=event.step, status=status)
        if not self.console.is_terminal and event.step % self._stride == 0:
            self.say(f"step {event.step}/{self._steps}  {status}")

    def _validate(self, event: Validated) -> None:
        self._ap = event.metrics.AP
        figures = "  ".join(
            f"{name} {getattr(event.metrics, name):.3f}" for name in ("AP", "AP50", "AP75", "AR100")
        )
        kept = "  (best so far)" if event.kept else ""
        raw = "" if event.raw is None else f"; without averaging AP {event.raw.AP:.3f}"
        self.say(f"validation after epoch {event.epoch:.1f}: {figures}{kept}{raw}")
        for reason in event.unread:
            self.say(f"Warning: in these figures all objects of an image count as not found: {reason}")


def _smoothed(average: tuple[float, float], now: tuple[float, float]) -> tuple[float, float]:
    return 0.9 * average[0] + 0.1 * now[0], 0.9 * average[1] + 0.1 * now[1]


def _introduction(event: Started) -> list[str]:
    length = event.length
    epochs = length.epoch(length.steps)
    where = f"{event.device}" + (f" x {event.processes} processes" if event.processes > 1 else "")
    lines = [
        f"{length.num_images} images to train on, {event.val_images} to validate on; "
        f"{length.steps} steps of {length.images_per_step} images ({epochs:.1f} epochs) on {where}, "
        f"{event.experiment.train.precision}.",
        f"{event.trainable_parameters:,} trainable parameters of {event.parameters:,}.",
        f"Run folder: {event.out}",
        *(f"Note: {note}" for note in event.notes),
    ]
    if event.step:
        lines.append(f"Resumed after step {event.step}.")
    return lines


def origins_table(origins: Sequence[Row]) -> Table:
    """What became of the parts of two detectors when one started from the other's weights."""
    table = Table("part", "", "tensors", "elements", "", title="Starting weights", box=SIMPLE_HEAD)
    for part, what, tensors, elements, reason in summarise(origins):
        table.add_row(words(part), what, str(tensors), f"{elements:,}", words(reason))
    return table


def _skipped(event: Skipped) -> str:
    return f"Warning: {event.what} skipped ({event.number} of at most {event.allowed}): {event.reason}"


def _last_words(event: Finished) -> str:
    return (
        f"Finished at step {event.step}: {event.reason}. The best AP, {event.best_ap:.3f}, was at step "
        f"{event.best_step} and is kept in {event.out / 'model.safetensors'}."
    )
