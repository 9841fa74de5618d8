"""Who takes part in a benchmark: detectors by their weights or recipes, and others' by files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detrkit.errors import DetrkitError
from detrkit.settings.recipes import recipe_names
from detrkit.weights import torchvision


class Weights(NamedTuple):
    """A run folder, or what else ``inference.load`` reads: a file, a folder, or a name of torchvision's."""

    path: Path


class Untrained(NamedTuple):
    """A recipe's name or file, with random weights: what it costs can be measured, but not what it can."""

    recipe: str


class Exported(NamedTuple):
    """An ONNX file, of which only the speed is measured: what its outputs mean is not known."""

    path: Path


Network = Weights | Untrained | Exported


class Entrant(NamedTuple):
    """One of those compared; ``name`` is its own.

    Its accuracy is that of the COCO results in ``detections`` where these are given, and otherwise of what
    its network finds. Without a ``network`` it has no costs.
    """

    name: str
    network: Network | None
    detections: Path | None = None


def read_entrants(texts: Sequence[str]) -> list[Entrant]:
    """Who is meant: run folders, files of weights, recipes, ``.onnx`` files, ``.json`` files of COCO results.

    ``NAME=`` before one names it; a network and a file of results of the same NAME are one entrant. Others
    are called as their file or folder is.

    Raises:
        DetrkitError: One of them is not there, or a name is given twice.
    """
    given = [_named(text) for text in texts]
    names = _told_apart([(name, source) for name, source in given])
    entrants: dict[str, Entrant] = {}
    for name, (_, source) in zip(names, given, strict=True):
        new = _entrant(name, source)
        entrants[name] = _joined(entrants[name], new) if name in entrants else new
    return list(entrants.values())


_Source = Network | Path


def _named(text: str) -> tuple[str, _Source]:
    """The name before ``=``, empty if there is none, and what is meant."""
    name, equals, rest = text.partition("=")
    if equals and not Path(text).exists():
        if not name.strip():
            raise DetrkitError(f"'{text}' has no name before the =: write it as NAME=PATH.")
        return name.strip(), _source(rest)
    return "", _source(text)


def _source(text: str) -> _Source:
    path = Path(text)
    if text in recipe_names() or path.suffix == ".toml":
        return Untrained(text)
    if torchvision.is_named(path):
        return Weights(path)
    if not path.exists():
        raise DetrkitError(
            f"there is no {text}: name a run folder, a file of weights (.safetensors, .pth), weights that "
            "torchvision publishes, a .json file of COCO results, an .onnx file, or a recipe "
            f"({', '.join(recipe_names())})."
        )
    match path.suffix:
        case ".json":
            return path
        case ".onnx":
            return Exported(path)
        case _:
            return Weights(path)


def _entrant(name: str, source: _Source) -> Entrant:
    return Entrant(name, None, source) if isinstance(source, Path) else Entrant(name, source)


def _joined(one: Entrant, other: Entrant) -> Entrant:
    """A network and its results as one."""
    networks = [entrant.network for entrant in (one, other) if entrant.network is not None]
    results = [entrant.detections for entrant in (one, other) if entrant.detections is not None]
    if len(networks) != 1 or len(results) != 1:
        raise DetrkitError(
            f"the name {one.name} is given to two that are not a network and its .json file of COCO results: "
            "give each its own NAME=."
        )
    return Entrant(one.name, networks[0], results[0])


def _told_apart(given: Sequence[tuple[str, _Source]]) -> list[str]:
    """Names that differ, but for those given: of the same file name, with the folder's, or a number."""
    short = [name or _parts(source)[-1] for name, source in given]
    longer = [name or "/".join(_parts(source)) for name, source in given]
    numbered = [name or f"{short[place]} ({place + 1})" for place, (name, _) in enumerate(given)]
    for candidates in (short, longer):
        own = [name for name, (given_name, _) in zip(candidates, given, strict=True) if not given_name]
        if all(candidates.count(name) == 1 for name in own):
            return candidates
    return numbered


def _parts(source: _Source) -> tuple[str, ...]:
    """The last two names that tell what it is."""
    match source:
        case Untrained(recipe):
            return (Path(recipe).stem if recipe.endswith(".toml") else recipe,)
        case Weights(path) | Exported(path):
            pass
        case Path() as path:
            pass
    if torchvision.is_named(path):
        return (path.name.removesuffix(".COCO_V1").removesuffix("_Weights"),)
    path = path.resolve()
    if path.name in ("model.safetensors", "detections.json"):
        path = path.parent
        path = path.parent if path.name == "evaluation" else path
    last = path.stem if path.suffix in (".safetensors", ".pth", ".pt", ".json", ".onnx") else path.name
    return (path.parent.name, last)
