"""The benchmark: every entrant's accuracy first, then what all cost, in turns."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch

from detrkit.benchmark.accuracy import accuracy_of, judge_entrant
from detrkit.benchmark.contestant import Conditions, Contestant, open_all
from detrkit.benchmark.cost import cost_of
from detrkit.benchmark.entrant import Entrant, Untrained, Weights
from detrkit.benchmark.events import Counting, Listener, Remembering
from detrkit.benchmark.exported import Session, described_size, look_of_session
from detrkit.benchmark.latency import Key, measure_speed
from detrkit.benchmark.looking import Look, described, device_clock, look_of
from detrkit.benchmark.memory import measure_memory
from detrkit.benchmark.opened import Opened
from detrkit.benchmark.results import (
    Accuracy,
    Cost,
    Effort,
    Memory,
    Results,
    Row,
    Speed,
    Spread,
    write_results,
)
from detrkit.benchmark.told import kind_of, notes_on, notes_on_all, source_of
from detrkit.benchmark.training_speed import measure_training, training_step
from detrkit.data.formats.recognise import choose_split, read_split
from detrkit.evaluation.bootstrap import resample
from detrkit.evaluation.coco import num_objects
from detrkit.machine import describe_machine
from detrkit.settings.experiment import parse
from detrkit.structures import ImageSize

_USUAL = Effort()


def benchmark(
    entrants: Sequence[Entrant],
    data: Path,
    split: str,
    out: Path,
    listener: Listener,
    *,
    effort: Effort = _USUAL,
    overrides: Mapping[str, object] | None = None,
    device: torch.device | None = None,
    workers: int = 2,
    command: str = "",
) -> Results:
    """Accuracy and costs of all entrants on one split; ``out`` receives ``results.json``.

    ``split`` may be empty: val2017 or val, whichever the dataset has. What an entrant detected is kept in
    ``out/accuracy/``, so that the same benchmark goes on after an interruption without detecting it again;
    times are always measured anew, all in one go. ``overrides`` change settings of all entrants that have
    settings, such as ``{"data.eval_short_side": 480}``.

    Raises:
        DetrkitError: The data, an entrant or the device is at fault.
    """
    split = choose_split(data, split, ("val2017", "val"))
    catalog, on = read_split(data, split), device or torch.device("cpu")
    same = Conditions(catalog, data, split, out, overrides or {}, on, workers, effort)
    contestants = open_all(entrants, same)
    out.mkdir(parents=True, exist_ok=True)

    reference, accuracies = _accuracies(contestants, same, listener)
    costs = _costs(contestants, same, listener)
    memories = _memories(contestants, same, listener)
    speeds = _speeds(contestants, same, listener)
    training = _training(contestants, same, listener)  # last, since it changes running statistics
    rows = []
    for entrant, opened in contestants:
        memory = memories.get(entrant.name)
        row = Row(
            name=entrant.name,
            kind=kind_of(entrant.network),
            source=source_of(entrant),
            image_size=_image_size(opened, same),
            accuracy=accuracies.get(entrant.name),
            cost=costs.get(entrant.name),
            speed=_of(entrant.name, speeds),
            memory=memory,
            training=_of(entrant.name, training),
            notes=tuple(notes_on(entrant, memory)),
        )
        rows.append(row)
    results = Results(
        command=command,
        data=str(data),
        split=split,
        images=len(catalog),
        objects=int(num_objects(catalog).sum()),
        classes=len(catalog.categories),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        device=str(on),
        machine=_machine(contestants),
        effort=effort,
        reference=reference,
        rows=tuple(rows),
        notes=tuple(notes_on_all(rows)),
    )
    write_results(results, out)
    return results


def _accuracies(
    contestants: Sequence[Contestant], same: Conditions, listener: Listener
) -> tuple[str | None, dict[str, Accuracy]]:
    """The name of the first that has an accuracy, and the accuracy of all that have one."""
    name, reference = None, None
    found: dict[str, Accuracy] = {}
    for one in contestants:
        judged = judge_entrant(one, same, listener)
        if judged is not None:
            resampled = resample(judged)
            found[one.entrant.name] = accuracy_of(judged, resampled, reference)
            if reference is None:
                name, reference = one.entrant.name, resampled
    return name, found


def _costs(contestants: Sequence[Contestant], same: Conditions, listener: Listener) -> dict[str, Cost]:
    """What every network is."""
    found = {}
    for (name, network, _), opened in contestants:
        if network is not None and opened is not None:
            listener(Counting(name))
            found[name] = cost_of(network, opened, same.catalog, same.effort.sizes)
    return found


def _memories(contestants: Sequence[Contestant], same: Conditions, listener: Listener) -> dict[str, Memory]:
    """What all networks take that can be opened in another process."""
    networks = {
        name: network
        for (name, network, _), _ in contestants
        if same.effort.memory and isinstance(network, Weights | Untrained)
    }
    if not networks:
        return {}
    listener(Remembering())
    return dict(zip(networks, measure_memory(list(networks.values()), same), strict=True))


def _speeds(contestants: Sequence[Contestant], same: Conditions, listener: Listener) -> dict[Key, Speed]:
    """The speed of every network in every precision."""
    if not same.effort.turns:
        return {}
    clock, looks = device_clock(same.device), list[Look]()
    for entrant, opened in contestants:
        match opened:
            case Opened(detector, _):
                for precision in same.effort.precisions:
                    looks.append(look_of(entrant.name, detector, precision, same.catalog, clock))
            case Session():
                looks.append(look_of_session(entrant.name, opened, same.catalog, _usual_size(same), clock))
            case None:
                pass
    return measure_speed(looks, len(same.catalog), same.effort, clock, listener)


def _training(contestants: Sequence[Contestant], same: Conditions, listener: Listener) -> dict[Key, Spread]:
    """Training images per second of all that can be trained."""
    batch = same.effort.training_batch
    if not batch or not same.effort.turns:
        return {}
    steps = {
        entrant.name: training_step(opened, same.catalog, batch, same.device)
        for entrant, opened in contestants
        if isinstance(opened, Opened)
    }
    return measure_training(steps, same.effort, device_clock(same.device), listener)


def _image_size(opened: Opened | Session | None, same: Conditions) -> str:
    match opened:
        case Opened(detector, _):
            return described(detector.image_size)
        case Session():
            return described_size(opened, _usual_size(same))
        case None:
            return ""


def _usual_size(same: Conditions) -> ImageSize:
    """That of ONNX files which fix none: DETR's, or what is overridden."""
    data = parse({}, "the benchmark", same.overrides).data
    return ImageSize(data.eval_short_side, data.max_size)


_Value = TypeVar("_Value")


def _of(name: str, found: Mapping[Key, _Value]) -> dict[str, _Value]:
    """What was found of an entrant, by precision."""
    return {precision: value for (of, precision), value in found.items() if of == name}


def _machine(contestants: Sequence[Contestant]) -> dict[str, str]:
    """The machine and the versions of all that computed."""
    runtimes = {one.opened.runtime for one in contestants if isinstance(one.opened, Session)}
    versions = {"torchvision": version("torchvision"), "onnxruntime": ", ".join(runtimes)}
    return describe_machine() | {name: stated for name, stated in versions.items() if stated}
