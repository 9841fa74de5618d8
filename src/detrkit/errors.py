"""The one exception that tells a user what to mend."""


class DetrkitError(Exception):
    """A fault in what the user gave: data, settings, files.

    Its text is one sentence that names the file or setting, the offending value, what was expected and
    the fix. The command line prints that text alone and exits with code 2; a bug raises anything else.
    """


class UnreadableImageError(DetrkitError):
    """An image of a dataset that is missing, damaged, or not the one that its dataset states."""


class NotFiniteError(DetrkitError):
    """A loss, or what a detector answers, is infinite or not a number: training that diverged ends so."""
