"""Benchmarking: what the detectors cost on this machine."""

from detrkit.benchmark.results import Results, Row
from detrkit.report.content import Block, Column, Facts, Missing, Section, Table, Text, Value
from detrkit.study.note.chapters.found import Found

_MEANING = (
    "Times are measured, on this machine, in turns; those of another run of this study will differ. Latency "
    "is from an image's file to its detections, one image at a time."
)


def benchmarking_chapter(found: Found) -> Section:
    """What a network is, how long it takes, and the memory that it needs."""
    results = found.benchmark
    if results is None or not results.rows:
        return Section("benchmarking", "Benchmarking", [Missing("Nothing was measured.")])
    blocks: list[Block] = [
        Text(_MEANING),
        _table(results),
        *map(Text, results.notes),
        Facts(_machine(results)),
    ]
    return Section("benchmarking", "Benchmarking", blocks)


def _table(results: Results) -> Table:
    columns = [Column("Run"), Column("Parameters", "count"), Column("File, MB", "number")]
    columns += [
        Column(f"Multiply-adds at {height} x {width}, G", "number") for height, width in results.effort.sizes
    ]
    for precision in results.effort.precisions:
        columns += [
            Column(f"Latency {precision}, ms", "number", "a measured time: the median"),
            Column(f"95 % of images below, {precision}", "number", "a measured time, in ms"),
            Column(f"Images/s {precision}", "number", "a measured rate, of the best batch"),
            Column(f"Memory {precision}, MiB", "number"),
            Column(f"Training images/s {precision}", "number", "a measured rate"),
        ]
    rows = [_row(row, results) for row in results.rows]
    return Table("What the detectors cost.", columns, rows)


def _row(row: Row, results: Results) -> list[Value]:
    cost = row.cost
    cells: list[Value] = [row.name]
    cells += [None, None] if cost is None else [cost.parameters, cost.bytes / 1e6]
    for height, width in results.effort.sizes:
        counted = None if cost is None else cost.multiply_adds.get(f"{height}x{width}")
        cells.append(None if counted is None else counted / 1e9)
    for precision in results.effort.precisions:
        speed, training = row.speed.get(precision), row.training.get(precision)
        memory = None if row.memory is None else row.memory.inference.get(precision)
        best = (
            None if speed is None or speed.best_batch is None else speed.throughput[speed.best_batch].median
        )
        cells += [None, None] if speed is None else [1000 * speed.p50, 1000 * speed.p95]
        cells += [best, None if memory is None else memory / 2**20]
        cells.append(None if training is None else training.median)
    return cells


def _machine(results: Results) -> list[tuple[str, str]]:
    return [(name.capitalize(), value) for name, value in results.machine.items()]
