"""Where a run stands and what it is: a verdict in a few figures, and the facts about it."""

from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any

from detrkit.reading import writable
from detrkit.report.content import (
    Block,
    Column,
    Facts,
    Figure,
    Figures,
    Heading,
    Missing,
    Section,
    Table,
    Text,
    Value,
)
from detrkit.report.record import Record, best_validation, seconds_of
from detrkit.report.training import images_per_second


def overview(record: Record) -> Section:
    """The verdict in a few figures, and what the run is made of."""
    blocks: list[Block] = [Figures(_verdict(record))]
    if record.metrics is None:
        blocks.append(Missing(f"Nothing is known of how good it is: no validation yet. {status(record)}"))
    elif record.end is None and record.steps:
        blocks.append(Text(status(record)))
    blocks += damages([record])
    blocks.append(Facts(_facts(record)))
    notes = [Text(note.replace("`", "")) for note in record.header.get("notes") or []]
    if notes:
        blocks += [Heading("Notes"), *notes]
    return Section("overview", "Overview", blocks)


def damages(records: Sequence[Record]) -> list[Missing]:
    """What of the runs' folders cannot be read as a whole."""
    return [Missing(f"{told}.") for record in records for told in record.damaged]


def status(record: Record) -> str:
    """How the run ended, or how far its log goes."""
    end = record.end
    if end is None and not record.steps:
        return f"There is no log of training: {record.why.get('log.jsonl', 'it is empty')}."
    if end is None:
        return (
            f"The log ends at step {record.steps[-1]['step']:,} without a last word: the run is still going "
            f"on, or it was killed or failed. The log's last line is: {record.last_words}"
        )
    if end["event"] == "finished":
        return f"Finished at step {end['step']:,}: {end.get('reason', 'no reason is given')}."
    return f"Interrupted after step {end['step']:,}, with its state saved; train --resume goes on."


def summary(record: Record) -> str:
    """One sentence under the title."""
    words = [record.header.get("recipe"), _data(record)]
    named = " on ".join(str(word) for word in words if word)
    return " ".join(filter(None, [f"{named}." if named else "", _state(record)]))


def side_by_side(records: Sequence[Record]) -> Section:
    """The verdict and the facts of several runs, one beside the other."""
    facts = [dict(_facts(record)) for record in records]
    figures = [
        {figure.name: ", ".join(filter(None, [figure.value, figure.remark])) for figure in _verdict(r)}
        for r in records
    ]
    found = [figure | fact for figure, fact in zip(figures, facts, strict=True)]
    names = list(dict.fromkeys(name for one in found for name in one))
    rows: list[list[Value]] = [[name, *(one.get(name, "–") for one in found)] for name in names]
    columns = [Column(""), *(Column(record.name) for record in records)]
    columns[0] = Column("What")
    table = Table("The runs side by side", columns, rows)
    return Section("overview", "Overview", [table, *damages(records)])


def _state(record: Record) -> str:
    best = best_validation(record)
    if best is None:
        return (
            "No validation yet." if record.metrics is None else f"AP {_fraction(record.metrics.get('AP'))}."
        )
    return f"Best AP {best['metrics']['AP']:.3f} after {best['epoch']:.1f} epochs."


def _verdict(record: Record) -> list[Figure]:
    metrics, best = record.metrics or {}, best_validation(record)
    figures = [
        Figure(_fraction(metrics.get("AP")), "Best AP", _interval(record)),
        Figure(_fraction(metrics.get("AP50")), "its AP50"),
    ]
    if record.steps:
        last = record.steps[-1]
        when = f"best after {best['epoch']:.1f}" if best else "no validation yet"
        figures.append(Figure(f"{last['epoch']:.1f}", "Epochs", when))
        speeds = [images_per_second(step) for step in record.steps if step.get("images") and step["seconds"]]
        if speeds:
            figures.append(Figure(f"{median(speeds):.1f}", "Images per second", "median of the steps"))
        waiting = sum(step["data_seconds"] for step in record.steps) / max(
            sum(step["seconds"] for step in record.steps), 1e-9
        )
        figures.append(Figure(f"{waiting:.1%}", "Waiting for data", "of the steps' time"))
    return figures


def _fraction(value: float | int | None) -> str:
    return "–" if value is None or value == -1 else f"{value:.3f}"


def _interval(record: Record) -> str:
    found = (record.analysis or {}).get("bootstrap")
    if not found:
        return ""
    return f"{found['low']:.3f} to {found['high']:.3f} (95 %, by resampling the images)"


def _facts(record: Record) -> list[tuple[str, str]]:
    header = record.header
    machine: dict[str, Any] = header.get("machine") or {}
    rows = [
        ("Recipe", header.get("recipe")),
        ("Data", _data(record)),
        ("Machine", ", ".join(filter(None, [machine.get("device", "").upper(), machine.get("processor")]))),
        ("Cores", machine.get("cores") and f"{machine['cores']}, {machine.get('threads', '?')} threads used"),
        ("Started", _time(header.get("started"))),
        ("Cost", _cost(record)),
        ("Memory", _memory(header)),
        ("Parameters", _parameters(header)),
        ("Commit", header.get("commit")),
        ("Versions", _versions(header)),
        ("Command", header.get("command")),
        ("Folder", writable(str(record.folder))),
        ("State", _ending(record)),
    ]
    return [(name, str(value)) for name, value in rows if value]


def _data(record: Record) -> str:
    header = record.header
    if not header.get("data"):
        return ""
    named: dict[str, str] = header.get("splits") or {}
    images: dict[str, int] = header.get("images") or {}
    splits = " and ".join(
        f"{name}, {images[part]:,} images" if part in images else name for part, name in named.items()
    )
    return f"{header['data']}{f' ({splits})' if splits else ''}"


def _time(text: str | None) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S %Z").strip() if text else ""
    except ValueError:
        return str(text)


def _cost(record: Record) -> str:
    seconds = record.header.get("seconds") or seconds_of(record)
    if not seconds:
        return ""
    waiting = sum(step["data_seconds"] for step in record.steps)
    spent = f"{seconds / 3600:.2f} hours" if seconds >= 360 else f"{seconds:.0f} seconds"
    return f"{spent} of this machine, {waiting / seconds:.0%} of it waiting for data"


def _memory(header: dict[str, Any]) -> str:
    peak = header.get("peak_memory")
    return f"{peak / 2**30:.2f} GiB at most" if peak else ""


def _parameters(header: dict[str, Any]) -> str:
    everything, trainable = header.get("parameters"), header.get("trainable_parameters")
    if everything is None:
        return ""
    return f"{everything:,}" + (f", {trainable:,} of them trained" if trainable is not None else "")


def _versions(header: dict[str, Any]) -> str:
    versions: dict[str, str] = header.get("versions") or {}
    machine: dict[str, str] = header.get("machine") or {}
    found = {name: machine[name] for name in ("detrkit", "torch", "python") if name in machine} | versions
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _ending(record: Record) -> str:
    if record.end is None and not record.steps:
        return "no training"
    if record.end is None:
        return f"no last word after step {record.steps[-1]['step']:,}"
    return f"{record.end['event']} at step {record.end['step']:,}"
