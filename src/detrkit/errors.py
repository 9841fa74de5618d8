"""The exception that tells a user what to mend, how it shows values, and the one of who asked to stop."""

import re
from reprlib import Repr
from signal import Signals


class DetrkitError(Exception):
    """A fault in what the user gave: data, settings, files.

    Its text is one sentence that names the file or setting, the offending value, what was expected and
    the fix. The command line prints that text alone and exits with code 2; a bug raises anything else.
    """


class ToldElsewhereError(DetrkitError):
    """What ended this process has been told, mostly by another one: the command line adds nothing to it."""


class UnreadableImageError(DetrkitError):
    """An image of a dataset that is missing, damaged, or not the one that its dataset states."""


class NotFiniteError(DetrkitError):
    """A loss, or what a detector answers, is infinite or not a number: training that diverged ends so."""


class AskedToStop(KeyboardInterrupt):
    """A signal ended a training amid other work: whatever gives way to Ctrl-C gives way to it."""

    def __init__(self, signal: Signals) -> None:
        super().__init__(signal.name)
        self.signal = signal


def shown(value: object) -> str:
    """A value as messages show it: as Python writes it, but shortened where it is long or deep."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of too many digits"


def printable(text: str) -> str:
    """A text for a terminal: escaped is what would command it, turn words around, or could not be written."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tab and new line, those that change the direction of writing, and surrogates,
which stand for bytes of names of files that are not UTF-8."""

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 12
