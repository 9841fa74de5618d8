"""What a check says: a fault, where it was found, how often, and examples."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np

Severity = Literal["error", "warning", "note"]
"""An error stops training or makes its result wrong, a warning costs accuracy, a note is good to know."""

EXAMPLES = 5
"""How many examples a finding names."""


class Fault(NamedTuple):
    """A kind of fault: its stable name, and in words what it is, does to training, and is mended by."""

    name: str
    severity: Severity
    what: str
    effect: str
    fix: str


@dataclass(frozen=True)
class Finding:
    """A fault that a split has ``count`` times. ``where`` names the split, or the splits that disagree."""

    fault: Fault
    where: str
    count: int
    examples: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The finding in one sentence: where, what, how often, an example, and what it does to training."""
        fault, such_as = self.fault, f", such as {self.examples[0]}" if self.examples else ""
        return f"{self.where}: {fault.what} ({self.count:,}{such_as}); {fault.effect}."

    def to_dict(self) -> dict[str, object]:
        """The finding as json has it."""
        return {
            "name": self.fault.name,
            "severity": self.fault.severity,
            "split": self.where,
            "count": self.count,
            "what": self.fault.what,
            "examples": list(self.examples),
            "effect": self.fault.effect,
            "fix": self.fault.fix,
        }


def findings_of(
    fault: Fault, where: str, chosen: Iterable[int] | np.ndarray, describe: Callable[[int], str]
) -> list[Finding]:
    """The finding of a fault in the ``chosen`` rows, or where a mask is true; none if there is none."""
    if isinstance(chosen, np.ndarray):
        rows = (np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen).tolist()
    else:
        rows = list(chosen)
    if not rows:
        return []
    examples = tuple(describe(row) for row in islice(rows, EXAMPLES))
    return [Finding(fault, where, len(rows), examples)]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings from errors to notes, otherwise in their order."""
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda finding: order[finding.fault.severity])


def blocks(findings: Iterable[Finding]) -> bool:
    """Whether any finding is an error or a warning."""
    return any(finding.fault.severity != "note" for finding in findings)
