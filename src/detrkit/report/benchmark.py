"""The page of a benchmark: who finds more, how sure that is, and what it costs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from detrkit.benchmark.results import Precision, Results, Row, Speed, Spread
from detrkit.report.content import (
    Block,
    Column,
    Document,
    Drawings,
    Facts,
    Figure,
    Figures,
    Missing,
    Section,
    Table,
    Text,
    Value,
)
from detrkit.report.pareto import pareto_chart, points
from detrkit.report.validation import FIGURES

_MILLI, _MILLION, _GIGA, _MIB = 1e3, 1e6, 1e9, 2**20


def benchmark_document(results: Results) -> Document:
    """All about a benchmark."""
    sections = [
        overview_section(results),
        pareto_section(results),
        accuracy_section(results),
        difference_section(results),
        classes_section(results),
        cost_section(results),
        speed_section(results),
        conditions_section(results),
    ]
    data = Path(results.data).resolve().name
    return Document(f"Benchmark on {data}, {results.split}", summary(results), sections)


def summary(results: Results) -> str:
    """What was compared on what, in a sentence."""
    names = ", ".join(row.name for row in results.rows)
    classes = "1 class" if results.classes == 1 else f"{results.classes} classes"
    return (
        f"{names}: on {results.images:,} images with {results.objects:,} objects of {classes}, judged by one "
        f"evaluator and measured in turns on one machine ({results.device})."
    )


def overview_section(results: Results) -> Section:
    """The ends of the scale, and what must be known to read the figures."""
    blocks: list[Block] = []
    if figures := list(_ends(results)):
        blocks.append(Figures(figures))
    blocks.append(Facts([(row.name, _described(row)) for row in results.rows]))
    blocks += [Text(note) for note in results.notes]
    return Section("overview", "Overview", blocks)


def pareto_section(results: Results) -> Section:
    """AP over latency, in each precision that was measured."""
    title = "Accuracy and speed"
    drawn = [
        pareto_chart(precision, found)
        for precision in results.effort.precisions
        if (found := points(results, precision))
    ]
    if not drawn:
        return Section("pareto", title, [Missing("No entrant has both an accuracy and a speed.")])
    text = (
        "Filled marks are on the frontier, which the line joins: nobody else is at least as fast and at "
        "least as accurate. AP is of fp32, or of the detections that were given, in every chart."
    )
    return Section("pareto", title, [Text(text), Drawings(drawn)])


def accuracy_section(results: Results) -> Section:
    """COCO's 12 figures of every entrant that has an accuracy."""
    rows: list[list[Value]] = [
        [row.name, *(row.accuracy.figures[name] for name in FIGURES)]
        for row in results.rows
        if row.accuracy is not None
    ]
    if not rows:
        return Section("accuracy", "Accuracy", [Missing(_NO_ACCURACY)])
    columns = [Column("Entrant"), *(Column(name, "fraction", meaning) for name, meaning in FIGURES.items())]
    blocks: list[Block] = [Table("COCO's 12 figures", columns, rows, sortable=True)]
    if without := [row.name for row in results.rows if row.accuracy is None]:
        blocks.append(Missing(f"Without an accuracy: {', '.join(without)}."))
    return Section("accuracy", "Accuracy", blocks)


def difference_section(results: Results) -> Section:
    """How sure each AP is, and each difference from the reference."""
    title = "Is one better?"
    judged = [row for row in results.rows if row.accuracy is not None]
    if not judged:
        return Section("difference", title, [Missing(_NO_ACCURACY)])
    columns = [
        Column("Entrant"),
        Column("AP", "fraction"),
        Column("95 % from", "fraction"),
        Column("to", "fraction"),
        Column("Difference", "signed", f"AP less that of {results.reference}"),
        Column("95 % from", "signed"),
        Column("to", "signed"),
        Column("Above 0", "fraction", "the share of resamples in which the difference is above 0"),
        Column("What it says"),
    ]
    text = (
        f"Differences are from {results.reference} on random halves of the images, the same for both, again "
        "and again. Where the interval does not hold 0, the difference is unlikely to be the luck of these "
        "images; that of seeds and of training is not in it."
    )
    rows = [_difference(row, results.reference or "") for row in judged]
    return Section("difference", title, [Text(text), Table("AP with its 95 % interval", columns, rows)])


def classes_section(results: Results) -> Section:
    """AP of each class in each entrant."""
    judged = [(row.name, row.accuracy) for row in results.rows if row.accuracy is not None]
    if not judged:
        return Section("classes", "Classes", [Missing(_NO_ACCURACY)])
    rows: list[list[Value]] = [
        [name, one.objects, *(accuracy.per_class[name].AP for _, accuracy in judged)]
        for name, one in judged[0][1].per_class.items()
    ]
    columns = [
        Column("Class"),
        Column("Objects", "count", "annotated objects, crowds aside"),
        *(Column(name, "fraction", "AP") for name, _ in judged),
    ]
    table = Table("AP of each class. A heading sorts.", columns, rows, sortable=True)
    return Section("classes", "Classes", [table])


def cost_section(results: Results) -> Section:
    """What every network is, and what it takes to run and to train it."""
    rows = [row for row in results.rows if row.cost is not None]
    if not rows:
        return Section("costs", "Costs", [Missing("There is no network among the entrants.")])
    sizes = list(dict.fromkeys(size for row in rows if row.cost for size in row.cost.multiply_adds))
    precisions = results.effort.precisions
    columns = [
        Column("Entrant"),
        Column("Parameters, M", "number", "millions of parameters"),
        Column("Weights, MB", "number", "millions of bytes of the file of weights"),
        *(Column(f"G at {size}", "number", "10⁹ multiply-adds of an image of this size") for size in sizes),
        *(Column(f"MiB, {one}", "count", "peak memory of answering an image") for one in precisions),
        Column("MiB, training", "count", f"peak memory of a step of {results.effort.training_batch} images"),
        *(Column(f"Trained/s, {one}", "number", "images per second of training") for one in precisions),
    ]
    shown: list[list[Value]] = [_costs(row, sizes, precisions) for row in rows]
    return Section(
        "costs", "Costs", [Table("What networks are and take", columns, shown, True), Text(_COSTS)]
    )


def speed_section(results: Results) -> Section:
    """How soon an image is answered, how many are in a second, and where the time goes."""
    blocks: list[Block] = []
    for precision in results.effort.precisions:
        timed = [(row.name, row.speed[precision]) for row in results.rows if precision in row.speed]
        if timed:
            blocks += [_speeds(precision, timed), _stages(precision, timed)]
    if not blocks:
        return Section("speed", "Speed", [Missing("Nothing was timed.")])
    return Section("speed", "Speed", [Text(_SPEEDS), *blocks])


def conditions_section(results: Results) -> Section:
    """What asks for the same again, and what times depend on."""
    effort = results.effort
    facts = [
        ("Command", results.command or "–"),
        ("Date", results.date),
        ("Device", results.device),
        ("Turns", f"{effort.turns}, {effort.images} images each, after one to warm up"),
        *((name.capitalize(), value) for name, value in results.machine.items() if name != "device"),
    ]
    return Section("conditions", "Conditions", [Facts(facts)])


_NO_ACCURACY = "No entrant has an accuracy: recipes have random weights, and ONNX files only a speed."

_COSTS = (
    "Multiply-adds are those of convolutions and matrix products, which papers call FLOPs, counted in the "
    "same way for all while they look at the first image of the split, stretched to the size. What a network "
    "pads it with counts: the classical ones to multiples of 32 pixels, SSD of 300 or 320. Peak memory is "
    "what a process of its own allocates at most, libraries aside (on a GPU: what tensors take). A "
    "training step has forward, losses, backward, clipping and the update, on images that are there already, "
    "at the size of evaluation."
)

_SPEEDS = (
    "Latency is from the image's file to its detections, one image at a time. Preprocessing reads, decodes "
    "and resizes the file; post-processing is what follows the last layer with weights, suppression of "
    "doubles included. Throughput is without preprocessing, which runs beside it. Entrants took turns; the "
    "range is that of the turns."
)


def _ends(results: Results) -> Iterator[Figure]:
    judged = [row for row in results.rows if row.accuracy is not None]
    if judged:
        best = max(judged, key=_ap)
        assert best.accuracy is not None  # it is among those judged
        low, high = best.accuracy.low, best.accuracy.high
        yield Figure(f"{max(_ap(best), 0):.3f}", "Highest AP", f"{best.name}, {low:.3f} to {high:.3f} (95 %)")
    for precision in results.effort.precisions:
        timed = [(row.speed[precision].p50, row.name) for row in results.rows if precision in row.speed]
        if timed:
            seconds, name = min(timed)
            yield Figure(f"{seconds * _MILLI:.3g} ms", f"Lowest latency in {precision}", name)


def _ap(row: Row) -> float:
    return -1.0 if row.accuracy is None else row.accuracy.figures["AP"]


def _described(row: Row) -> str:
    size = f"shorter side {row.image_size}" if row.image_size else ""
    return "; ".join(filter(None, [row.source, size, *row.notes]))


def _difference(row: Row, reference: str) -> list[Value]:
    accuracy = row.accuracy
    assert accuracy is not None  # only those that have one are asked for
    known: list[Value] = [row.name, accuracy.figures["AP"], accuracy.low, accuracy.high]
    found = accuracy.against
    if found is None:
        return [*known, None, None, None, None, "the reference"]
    return [*known, found.value, found.low, found.high, found.above, verdict(row, reference)]


def verdict(row: Row, reference: str) -> str:
    """What the interval of the difference from the reference says."""
    found = None if row.accuracy is None else row.accuracy.against
    if found is None:
        return "–"
    if found.above == -1:
        return "there is no object to find"
    if found.low <= 0 <= found.high:
        return "no difference that these images can show"
    return f"{row.name if found.low > 0 else reference} is better on such images"


def _costs(row: Row, sizes: Sequence[str], precisions: Sequence[Precision]) -> list[Value]:
    cost, memory = row.cost, row.memory
    assert cost is not None  # only those that have one are asked for
    inference = {} if memory is None else memory.inference
    return [
        row.name,
        None if cost.parameters is None else cost.parameters / _MILLION,
        cost.bytes / _MILLION,
        *(cost.multiply_adds[size] / _GIGA if size in cost.multiply_adds else None for size in sizes),
        *(round(inference[one] / _MIB) if one in inference else None for one in precisions),
        None if memory is None or memory.training is None else round(memory.training / _MIB),
        *(row.training[one].median if one in row.training else None for one in precisions),
    ]


def _speeds(precision: str, timed: Sequence[tuple[str, Speed]]) -> Table:
    columns = [
        Column("Entrant"),
        Column("p50, ms", "number", "the median latency"),
        Column("p95, ms", "number", "what 95 % of the images need at most"),
        Column("Turns, ms", "text", "the lowest and the highest median of a turn"),
        Column("Images/s at 1", "number", "throughput of one image at a time"),
        Column("at best", "number", "throughput at the best batch"),
        Column("Best batch", "count", "the batch with the highest throughput"),
        Column("Turns, images/s", "text", "the lowest and the highest of a turn at the best batch"),
    ]
    return Table(f"Latency and throughput in {precision}", columns, [_timed(*one) for one in timed], True)


def _timed(name: str, speed: Speed) -> list[Value]:
    single, batch = speed.throughput.get(1), speed.best_batch
    best = None if batch is None else speed.throughput[batch]
    return [
        name,
        speed.p50 * _MILLI,
        speed.p95 * _MILLI,
        _range(speed.turns, _MILLI),
        None if single is None else single.median,
        None if best is None else best.median,
        batch,
        None if best is None else _range(best),
    ]


def _range(spread: Spread, scale: float = 1.0) -> str:
    return f"{spread.low * scale:.3g} to {spread.high * scale:.3g}"


def _stages(precision: str, timed: Sequence[tuple[str, Speed]]) -> Table:
    columns = [
        Column("Entrant"),
        Column("Preprocessing, ms", "number"),
        Column("Network, ms", "number"),
        Column("Post-processing, ms", "number"),
        Column("Whole, ms", "number", "their sum, the mean latency"),
    ]
    rows: list[list[Value]] = []
    for name, speed in timed:
        stages = speed.stages
        parts = (stages.preprocessing, stages.network, stages.postprocessing, stages.whole)
        rows.append([name, *(None if part is None else part * _MILLI for part in parts)])
    return Table(f"Where the time goes, on average, in {precision}", columns, rows)
