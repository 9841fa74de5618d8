"""Names that rich would read as markup or emoji are printed as they are."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from detrkit.benchmark.events import Detecting, Known
from detrkit.cli import benchmark, study, study_note, tune
from detrkit.monitoring.progress import ProgressBar, origins_table
from detrkit.settings.experiment import Experiment
from detrkit.study.events import Diverged, Measuring
from detrkit.training.events import Skipped, Started
from detrkit.training.schedule import Length
from detrkit.tuning.outcome import Outcome
from detrkit.tuning.worker import Begun, Ended
from detrkit.weights.transfer import Row

NAMES = ["[/x]", "[coco]", "[bold]a[/bold]", ":cat:", "a\\[b]"]
Print = Callable[[Console, str], None]


def bar(console: Console, name: str) -> None:
    out = Path("/data") / name / "run"
    row = Row("backbone.a", "fresh", 3, name)
    started = Started(
        0, Length(4, 2, 8), 2, 1, 1, "cpu", 1, Experiment(), out, [f"the class {name} is rare"], [row]
    )
    told = ProgressBar(console)
    for event in (started, Skipped(1, "image", f"{name}.png is damaged", 1, 2)):
        told(event)
    told.close()


def origins(console: Console, name: str) -> None:
    console.print(origins_table([Row("backbone.a", "fresh", 3, name)]))


def of_a_study(console: Console, name: str) -> None:
    tell = study._teller(console)
    tell(Measuring(name))
    tell(Diverged(Path("run"), f"the loss is nan in {name}.png"))


def of_a_note(console: Console, name: str) -> None:
    tell = study_note.Teller(console)
    tell(Measuring(name))
    tell(Diverged(Path("run"), f"the loss is nan in {name}.png"))


def of_a_tuning(console: Console, name: str) -> None:
    tell = tune._teller(console)
    tell(Begun(1, {"data.train_split": name}))
    tell(Ended(Outcome(1, "failed", {}, None, [], f"{name}.png is damaged", 1.0), None))


def of_a_benchmark(console: Console, name: str) -> None:
    with console.status("") as status:
        tell = benchmark._teller(status)
        tell(Detecting(name, 1, 2))
        tell(Known(name, 0.5, kept=False))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("say", [bar, origins, of_a_study, of_a_note, of_a_tuning, of_a_benchmark])
def test_a_name_is_printed_as_it_is(say: Print, name: str) -> None:
    text = StringIO()
    say(Console(file=text, width=200), name)
    printed = text.getvalue()
    assert name in printed
    if say is bar:
        for line in (
            f"Run folder: /data/{name}/run",
            f"Note: the class {name} is rare",
            f"(1 of at most 2): {name}.png is damaged",
        ):
            assert line in printed
