"""What is said about an entrant, and about a whole comparison, besides the figures."""

from collections.abc import Iterator, Sequence
from typing import assert_never

from detrkit.benchmark.entrant import Entrant, Exported, Network, Untrained, Weights
from detrkit.benchmark.results import Kind, Memory, Row


def kind_of(network: Network | None) -> Kind:
    """What is known of an entrant."""
    match network:
        case Weights():
            return "weights"
        case Untrained():
            return "recipe"
        case Exported():
            return "onnx"
        case None:
            return "detections"
        case _:
            assert_never(network)


def source_of(entrant: Entrant) -> str:
    """The files or the recipe that it comes from."""
    match entrant.network:
        case Weights(path) | Exported(path):
            network = str(path)
        case Untrained(recipe):
            network = f"recipe {recipe}"
        case None:
            network = ""
        case _:
            assert_never(entrant.network)
    return " and ".join(filter(None, [network, str(entrant.detections or "")]))


def notes_on(entrant: Entrant, memory: Memory | None) -> Iterator[str]:
    """What is special about how it was measured."""
    match entrant.network:
        case Untrained():
            if entrant.detections is None:
                yield "random weights, whose accuracy would mean nothing and is not measured"
            yield "random weights: where work depends on what is found, costs are not those of trained ones"
        case Exported():
            yield "an ONNX file, of which the speed alone is measured: its outputs are not interpreted"
        case None:
            yield "a file of COCO results, of which the accuracy alone is known"
        case Weights():
            pass
        case _:
            assert_never(entrant.network)
    if entrant.network is not None and entrant.detections is not None:
        yield "its accuracy is that of the file of COCO results"
    if memory is not None and memory.failed:
        yield f"some of its memory is not known: {memory.failed}"


def notes_on_all(rows: Sequence[Row]) -> Iterator[str]:
    """What limits the comparison as a whole."""
    sizes = {row.image_size for row in rows if row.image_size}
    if len(sizes) > 1:
        each = "; ".join(f"{row.name} {row.image_size}" for row in rows if row.image_size)
        yield (
            f"The entrants do not see the same pixels: shorter sides are {each}. "
            "--set data.eval_short_side=.. and --set data.max_size=.. make them the same."
        )
