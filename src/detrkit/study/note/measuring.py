"""What the detectors of a note cost, measured side by side."""

from accelerate import PartialState

from detrkit.benchmark.benchmark import benchmark
from detrkit.benchmark.entrant import Entrant, Weights
from detrkit.study.note.work import Work

FOLDER = "benchmark"


def benchmark_all(work: Work) -> list[str]:
    """The names of those that were measured; the figures are in the folder's own file.

    Those that differ in their weights alone cost the same, so one of them stands for all.
    """
    evaluated = work.result("evaluation")
    measured = [
        name for name in work.plan.of("smaller", "larger", "decoder", "classical") if name in evaluated
    ]
    entrants = [
        Entrant(name, Weights(work.folder(name)), work.folder(name) / "evaluation/detections.json")
        for name in measured
    ]
    benchmark(
        entrants,
        work.data,
        work.plan.data.val_split,
        work.out / FOLDER,
        work.listener,
        effort=work.plan.effort,
        device=PartialState().device,
        command=work.plan.command,
    )
    return measured
