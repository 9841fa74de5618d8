"""Whether one run is better than another, or luckier: the difference in AP on the same images, resampled."""

from collections.abc import Sequence

from detrkit.errors import DetrkitError
from detrkit.evaluation.bootstrap import Difference, paired_difference
from detrkit.evaluation.judged import Judged
from detrkit.report.content import Block, Column, Missing, Section, Table, Text, Value
from detrkit.report.evidence import Evidence

_COLUMNS = [
    Column("Runs"),
    Column("Difference in AP", "signed"),
    Column("95 % from", "signed"),
    Column("to", "signed"),
    Column("Above 0", "fraction", "the share of resamples in which the difference is above 0"),
    Column("What it says"),
]

_MEANING = (
    "Both runs are judged on the same images, on random halves of them again and again. Where the interval "
    "does not hold 0, the difference is unlikely to be the luck of these images; that of seeds is not in it."
)


def differences_section(runs: Sequence[Evidence]) -> Section:
    """The difference in AP of each run from the first, with its interval."""
    blocks: list[Block] = [
        Missing(f"{one.record.name} cannot be compared image by image: {one.why}")
        for one in runs
        if one.judged is None
    ]
    judged = [(one.record.name, one.judged) for one in runs if one.judged is not None]
    rows: list[list[Value]] = []
    for other in judged[1:]:
        try:
            rows.append(_row(judged[0], other))
        except DetrkitError as error:
            blocks.append(
                Missing(f"{other[0]} cannot be compared with {judged[0][0]} image by image: {error}")
            )
    if rows:
        blocks += [Text(_MEANING), Table("Difference on the same images", _COLUMNS, rows)]
    return Section("difference", "Is one better?", blocks)


def _row(first: tuple[str, Judged], other: tuple[str, Judged]) -> list[Value]:
    found = paired_difference(other[1], first[1])
    name = f"{other[0]} less {first[0]}"
    return [name, found.value, found.low, found.high, found.above, _verdict(found, first[0], other[0])]


def _verdict(found: Difference, first: str, other: str) -> str:
    if found.above == -1:
        return "there is no object to find"
    if found.low <= 0 <= found.high:
        return "no difference that these images can show"
    return f"{other if found.low > 0 else first} is better on such images"
