"""The times of a study are those of one machine."""

from collections.abc import Mapping

from detrkit.errors import DetrkitError
from detrkit.machine import describe_machine

_PACE = ("processor", "cores", "threads", "device")
"""What decides how long a step takes."""


def require_same_pace(begun_on: Mapping[str, str]) -> None:
    """DetrkitError where this machine is another than that of a study, whose times it would add to."""
    here = describe_machine()
    for name in _PACE:
        if here[name] != begun_on.get(name, here[name]):
            raise DetrkitError(
                f"the study was begun with {name} = {begun_on[name]}, but here it is {here[name]}, so that "
                "times would not compare: go on as it was begun, or choose another --out."
            )
