"""What the doctor says: an ailment with its evidence and a next step, the most likely cause first."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Kind = Literal["cause", "cost", "symptom"]
"""A cause explains a low AP; a cost is time or accuracy given away; a symptom is what causes look like."""


class Ailment(NamedTuple):
    """Something that is wrong with a run. ``name`` is stable: scripts may rely on it.

    ``confidence`` lies between 0 and 1: how far the evidence is beyond what healthy runs show. ``evidence``
    has the figures that were found, ``remedy`` a command or settings to try next.
    """

    name: str
    kind: Kind
    confidence: float
    what: str
    evidence: str
    remedy: str

    def to_dict(self) -> dict[str, object]:
        """The ailment as json has it."""
        return {**self._asdict(), "confidence": round(self.confidence, 3)}

    @property
    def sentence(self) -> str:
        """The ailment in two sentences."""
        return f"{self.what}: {self.evidence}. {self.remedy}."


def most_likely_first(ailments: Iterable[Ailment]) -> list[Ailment]:
    """Causes, then costs, then symptoms, each by confidence; where these are equal, as they came.

    Symptoms are last, since there is nothing to change about them but their causes.
    """
    order = {"cause": 0, "cost": 1, "symptom": 2}
    return sorted(ailments, key=lambda ailment: (order[ailment.kind], -ailment.confidence))


def beyond(value: float, threshold: float, certain: float) -> float:
    """Confidence, from 0.5 at a threshold to 1 where the value is ``certain``, on either side of it."""
    share = (value - threshold) / (certain - threshold)
    return 0.5 + 0.5 * float(min(max(share, 0.0), 1.0))
