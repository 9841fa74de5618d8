"""How good entrants are on the same images: COCO's figures, and how sure one can be of a difference."""

import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from detrkit.benchmark.contestant import Conditions, Contestant
from detrkit.benchmark.entrant import Weights
from detrkit.benchmark.events import Detecting, Known, Listener
from detrkit.benchmark.opened import Opened, weight_files
from detrkit.benchmark.results import Accuracy, Against, ClassAccuracy
from detrkit.detectors.detector import Detector
from detrkit.evaluation.bootstrap import Difference, Resampled, difference_of, interval_of
from detrkit.evaluation.coco import Result, read_results, to_results, write_results
from detrkit.evaluation.judged import Judged, judge
from detrkit.inference.evaluate import detect_split


def accuracy_of(judged: Judged, resampled: Resampled, reference: Resampled | None) -> Accuracy:
    """An entrant's figures, and its AP against that of the ``reference``, unless it is that itself."""
    known = interval_of(resampled)
    figures = judged.metrics.to_dict()
    per_class = figures.pop("per_class")
    wanted = ClassAccuracy.__dataclass_fields__
    return Accuracy(
        figures=figures,
        low=known.low,
        high=known.high,
        against=None if reference is None else _against(difference_of(resampled, reference)),
        per_class={
            name: ClassAccuracy(**{field: of_class[field] for field in wanted})
            for name, of_class in per_class.items()
        },
        detections=len(judged.found.scores),
    )


def judge_entrant(contestant: Contestant, same: Conditions, listener: Listener) -> Judged | None:
    """What COCO's evaluation says of an entrant's detections; None where it has none that mean anything.

    What its network found is kept, and found again only if the weights, the settings or the split have
    changed since.
    """
    entrant, opened = contestant
    if entrant.detections is not None:
        results, kept = read_results(entrant.detections, same.catalog), True
    elif isinstance(entrant.network, Weights) and isinstance(opened, Opened):
        made_from = {"weights": _digest(entrant.network.path), "split": same.catalog.digest()}
        made_from |= {"settings": json.loads(json.dumps(dict(same.overrides))), "detrkit": version("detrkit")}
        place = same.out / "accuracy" / quote(entrant.name, safe=" ()")
        kept = _kept(place, made_from)
        if not kept:
            found = _detect(entrant.name, opened.detector, same, listener)
            _keep(place, list(found), made_from)
        results = read_results(place / _DETECTIONS, same.catalog)
    else:
        return None
    judged = judge(same.catalog, results)
    listener(Known(entrant.name, judged.metrics.AP, kept))
    return judged


_DETECTIONS, _MADE_FROM = "detections.json", "made_from.json"


def _detect(name: str, detector: Detector, same: Conditions, listener: Listener) -> Iterator[Result]:
    images = len(same.catalog)
    listener(Detecting(name, 0, images))
    found = detect_split(detector, same.catalog, workers=same.workers)
    for done, (image_id, detections) in enumerate(found, start=1):
        yield from to_results(same.catalog, image_id, detections)
        listener(Detecting(name, done, images))


def _kept(place: Path, made_from: dict[str, Any]) -> bool:
    """Whether the detections that are there were made from the same."""
    try:
        return json.loads((place / _MADE_FROM).read_text("utf-8")) == made_from
    except (OSError, ValueError):
        return False


def _keep(place: Path, results: list[Result], made_from: dict[str, Any]) -> None:
    """Write the detections, and last what they were made from, without which they do not count."""
    place.mkdir(parents=True, exist_ok=True)
    (place / _MADE_FROM).unlink(missing_ok=True)
    write_results(place / _DETECTIONS, results)
    unfinished = place / f".{_MADE_FROM}.unfinished"
    unfinished.write_text(json.dumps(made_from, indent=1) + "\n", "utf-8")
    unfinished.replace(place / _MADE_FROM)


def _digest(path: Path) -> str:
    """SHA-256 of a file of weights, of those in a folder with their configuration, or of a name."""
    total = hashlib.sha256(b"" if path.exists() else str(path).encode())
    for file in [*weight_files(path), *sorted(path.glob("config.json"))]:
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()


def _against(found: Difference) -> Against:
    return Against(found.value, found.low, found.high, found.above)
