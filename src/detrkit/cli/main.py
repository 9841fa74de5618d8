"""The ``detrkit`` command: its subcommands, and how it ends when something is wrong."""

import logging
import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from detrkit import __version__
from detrkit.cli import data, weights
from detrkit.cli.benchmark import benchmark
from detrkit.cli.compare import compare
from detrkit.cli.doctor import doctor
from detrkit.cli.evaluate import evaluate
from detrkit.cli.predict import predict
from detrkit.cli.report import report
from detrkit.cli.say import say
from detrkit.cli.study import study
from detrkit.cli.train import EPILOG, train
from detrkit.cli.tune import tune
from detrkit.errors import AskedToStop, DetrkitError, ToldElsewhereError, printable, shown

_LONGEST = 1024
"""Characters of a path that are printed."""


class _Commands(TyperGroup):
    """Turns the user's faults into one red sentence and exit code 2; a bug keeps its traceback.

    A file that the system refuses is the user's fault, or the machine's, where no reader has said so already.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ToldElsewhereError:
            raise typer.Exit(2) from None
        except DetrkitError as error:
            _print_error(error)
            raise typer.Exit(2) from None
        except OSError as error:
            if not isinstance(error.filename, str | bytes):
                raise
            _print_error(_refused(error))
            raise typer.Exit(2) from None
        except AskedToStop as asked:
            from detrkit.training.interruption import ignore_signals

            ignore_signals()
            raise typer.Exit(128 + asked.signal) from None  # as a shell tells of a signal
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)
app.command(epilog=EPILOG)(train)
app.command()(evaluate)
app.command()(predict)
app.command()(report)
app.command()(compare)
app.command()(benchmark)
app.command()(doctor)
app.command()(study)
app.command()(tune)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Run the command that the arguments of this process name."""
    app()


def _print_version(wanted: bool) -> bool:
    if wanted:
        say(f"detrkit {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def detrkit(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, study and ship detection transformers (DETR) with ResNet backbones."""
    _show_warnings()


def _show_warnings() -> None:
    """Have rich print the library's log, from warnings up, on stderr."""
    from rich.logging import RichHandler

    from detrkit.terminal import open_console

    class Printable(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    handler = RichHandler(console=open_console(stderr=True), show_time=False, show_path=False)
    handler.setFormatter(Printable())
    logging.getLogger("detrkit").handlers = [handler]


def _refused(error: OSError) -> DetrkitError:
    """What the system says of a path, which is shortened if no system takes it."""
    path = os.fsdecode(error.filename)
    return DetrkitError(
        f"{path if len(path) < _LONGEST else shown(path)} cannot be used ({error.strerror or error}): name "
        "another, or change what stands in the way."
    )


def _print_error(error: DetrkitError) -> None:
    from detrkit.terminal import open_console, words

    open_console(stderr=True).print(words(f"Error: {error}", style="red"), soft_wrap=True)
