"""What a run's detections were, judged again on its data where that is at hand."""

from pathlib import Path
from typing import NamedTuple

from detrkit.data.formats.recognise import choose_split, read_split
from detrkit.errors import DetrkitError
from detrkit.evaluation.analysis import Analysis, analyse, write
from detrkit.evaluation.coco import read_results
from detrkit.evaluation.judged import Judged, judge
from detrkit.files import is_folder
from detrkit.report.record import Record


class Evidence(NamedTuple):
    """A run with its detections as judged and their analysis; where these are None, ``why`` says so."""

    record: Record
    judged: Judged | None
    analysis: Analysis | None
    why: str = ""

    def keep(self) -> None:
        """Leave the analysis beside the detections, for whoever has no data to judge them on."""
        if self.judged is not None and self.analysis is not None:
            write(self.record.results, self.judged, self.analysis)


def gather(record: Record, data: Path | None = None) -> Evidence:
    """The run with its detections judged on ``data``, or on the folder that ``run.json`` names.

    Where that is not to be had, the analysis that lies in the folder stays as it is, or stays missing for
    this reason.
    """
    try:
        judged = _judged(record, data)
    except (DetrkitError, OSError) as error:
        why = record.why.get("analysis.json")
        added = {"analysis.json": f"{why}, and {error}"} if why else {}
        return Evidence(record._replace(why=record.why | added), None, None, str(error))
    analysis = analyse(judged)
    return Evidence(
        record._replace(
            metrics=judged.metrics.to_dict(), analysis=analysis.to_dict(), curves=analysis.curves._asdict()
        ),
        judged,
        analysis,
    )


def _judged(record: Record, data: Path | None) -> Judged:
    detections = record.results / "detections.json"
    if not detections.is_file():
        raise DetrkitError(f"{detections} is not there.")
    folder = data or (Path(record.header["data"]) if "data" in record.header else None)
    split = (record.header.get("splits") or {}).get("val")
    if split is None and record.experiment is not None:
        split = record.experiment.data.val_split
    if folder is None:
        raise DetrkitError("run.json does not say which data it was: name its folder with --data DIR.")
    if not is_folder(folder):
        raise DetrkitError(f"the data is no longer in {folder}: name its folder with --data DIR.")
    catalog = read_split(folder, split or choose_split(folder, "", ("val2017", "val")))
    return judge(catalog, read_results(detections, catalog))
