"""Whether one run is better than another, or only luckier: the paired bootstrap of the difference in AP."""

from collections.abc import Sequence

import numpy as np

from detrkit.catalog import Catalog
from detrkit.evaluation.bootstrap import difference
from detrkit.report.content import Block, Column, Missing, Section, Table, Text, Value
from detrkit.report.evidence import RESAMPLES, Evidence

_TITLE = "Is one better?"


def differences_section(runs: Sequence[Evidence]) -> Section:
    """The difference in AP of each run from the first, with its interval."""
    blocks: list[Block] = [
        Missing(f"{one.record.name} cannot be compared image by image: {one.why}")
        for one in runs
        if one.judged is None
    ]
    judged = [one for one in runs if one.judged is not None]
    rows: list[list[Value]] = []
    for one in judged[1:]:
        if not _same_images(judged[0], one):
            blocks.append(
                Missing(
                    f"{one.record.name} was judged on other images or objects than {judged[0].record.name}."
                )
            )
        else:
            rows.append(_row(judged[0], one))
    if rows:
        columns = [
            Column("Runs"),
            Column("Difference in AP", "signed"),
            Column("95 % from", "signed"),
            Column("to", "signed"),
            Column("What it says"),
        ]
        text = (
            "Both runs are judged on the same images, drawn again and again with replacement. Where the "
            "interval does not hold 0, the difference is unlikely to be the luck of these images; that of seeds is not in it."
        )
        blocks += [
            Text(text),
            Table(f"Paired bootstrap of the images, {RESAMPLES:,} resamples", columns, rows),
        ]
    return Section("difference", _TITLE, blocks)


def _row(first: Evidence, other: Evidence) -> list[Value]:
    assert first.judged is not None  # only what is judged comes here
    assert other.judged is not None
    found = difference(first.judged, other.judged, RESAMPLES)
    better = other if found.value > 0 else first
    sure = not found.low <= 0 <= found.high
    words = (
        f"{better.record.name} is better on such images"
        if sure
        else "no difference that these images can show"
    )
    return [f"{other.record.name} less {first.record.name}", found.value, found.low, found.high, words]


def _same_images(first: Evidence, other: Evidence) -> bool:
    assert first.judged is not None  # only what is judged comes here
    assert other.judged is not None
    a, b = first.judged.catalog, other.judged.catalog
    return all(np.array_equal(*pair) for pair in zip(_objects(a), _objects(b), strict=True))


def _objects(catalog: Catalog) -> tuple[np.ndarray, ...]:
    return catalog.image_ids, catalog.offsets, catalog.labels, catalog.boxes
