"""What ``detrkit benchmark`` prints: tables that a terminal of 80 columns has room for."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from detrkit.benchmark.results import Results, Row

_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


def tables(results: Results) -> Iterator[Table]:
    """Accuracy, costs, and the speed in each precision, of what was measured."""
    judged = [row for row in results.rows if row.accuracy is not None]
    if judged:
        yield _accuracy(judged)
        yield _difference(judged, results.reference or "")
    if costly := [row for row in results.rows if row.cost is not None]:
        yield _costs(costly, results)
    for precision in results.effort.precisions:
        if timed := [row for row in results.rows if precision in row.speed]:
            yield _speeds(timed, precision)


def notes(results: Results) -> Iterator[str]:
    """What limits the comparison, and what is special about entrants, each said once."""
    yield from results.notes
    said = dict.fromkeys(note for row in results.rows for note in row.notes)
    for note in said:
        names = ", ".join(row.name for row in results.rows if note in row.notes)
        yield f"{names}: {note}."


def _grid(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    table.add_column("", overflow="fold", min_width=10)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _accuracy(judged: Sequence[Row]) -> Table:
    table = _grid("Accuracy", _FIGURES)
    for row in judged:
        assert row.accuracy is not None  # it is among those judged
        table.add_row(escape(row.name), *(_fraction(row.accuracy.figures[name]) for name in _FIGURES))
    return table


def _difference(judged: Sequence[Row], reference: str) -> Table:
    table = _grid(f"AP and its difference from {escape(reference)}, with 95 % intervals", [])
    for heading in ("AP", "from", "to", "difference", "from", "to"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in judged:
        assert row.accuracy is not None  # it is among those judged
        accuracy, against = row.accuracy, row.accuracy.against
        known = [_fraction(value) for value in (accuracy.figures["AP"], accuracy.low, accuracy.high)]
        if against is None:
            table.add_row(escape(row.name), *known, "–", "–", "–")
        else:
            signed = (f"{value:+.3f}" for value in (against.value, against.low, against.high))
            table.add_row(escape(row.name), *known, *signed)
    return table


def _costs(rows: Sequence[Row], results: Results) -> Table:
    every = dict.fromkeys(size for row in rows if row.cost for size in row.cost.multiply_adds)
    sizes = list(every)[:2]  # the page has room for all
    precision = results.effort.precisions[0]
    title = f"Costs: M parameters, MB of weights, G multiply-adds; MiB and training in {precision}"
    table = _grid(title, ["params", "weights", *sizes, "MiB", "MiB train", "trained/s"])
    for row in rows:
        cost, memory = row.cost, row.memory
        assert cost is not None  # only those that have one are shown
        table.add_row(
            escape(row.name),
            _number(cost.parameters, 1e6),
            _number(cost.bytes, 1e6),
            *(_number(cost.multiply_adds.get(size), 1e9) for size in sizes),
            _number(None if memory is None else memory.inference.get(precision), 2**20),
            _number(None if memory is None else memory.training, 2**20),
            _number(row.training[precision].median if precision in row.training else None),
        )
    return table


def _speeds(rows: Sequence[Row], precision: str) -> Table:
    title = f"Speed in {precision}: ms of an image, and images per second"
    table = _grid(title, ["p50", "p95", "prepare", "network", "after", "/s at 1", "/s best", "batch"])
    for row in rows:
        speed, stages = row.speed[precision], row.speed[precision].stages
        parts = (speed.p50, speed.p95, stages.preprocessing, stages.network, stages.postprocessing)
        batch, single = speed.best_batch, speed.throughput.get(1)
        table.add_row(
            escape(row.name),
            *(_number(part, 1e-3) for part in parts),
            _number(None if single is None else single.median),
            _number(None if batch is None else speed.throughput[batch].median),
            "–" if batch is None else str(batch),
        )
    return table


def _fraction(value: float) -> str:
    return "–" if value == -1 else f"{value:.3f}"


def _number(value: float | int | None, unit: float | int = 1) -> str:
    return "–" if value is None else f"{value / unit:.3g}" if value < 1000 * unit else f"{value / unit:,.0f}"
