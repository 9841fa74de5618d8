"""The one exception that tells a user what to mend, and the one that says that the user asked to stop."""

from signal import Signals


class DetrkitError(Exception):
    """A fault in what the user gave: data, settings, files.

    Its text is one sentence that names the file or setting, the offending value, what was expected and
    the fix. The command line prints that text alone and exits with code 2; a bug raises anything else.
    """


class NotFiniteError(DetrkitError):
    """A loss, or what a detector answers, is infinite or not a number: training that diverged ends so."""


class AskedToStop(KeyboardInterrupt):
    """A signal ended a training amid other work: whatever gives way to Ctrl-C gives way to it."""

    def __init__(self, signal: Signals) -> None:
        super().__init__(signal.name)
        self.signal = signal
