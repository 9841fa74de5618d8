"""A report of whatever a run left: it renders, and says what is missing and why."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from detrkit.errors import DetrkitError
from detrkit.report.content import Document, Drawings, Heading, Missing, Table, Text
from detrkit.report.page import to_html
from detrkit.report.record import read_run
from detrkit.report.write import make_report

SECTIONS = [
    "overview",
    "diagnosis",
    "training",
    "validation",
    "precision-recall",
    "iou",
    "errors",
    "calibration",
    "images",
    "attention",
    "queries",
    "classes",
    "settings",
]


def missing(document: Document) -> dict[str, list[str]]:
    return {
        section.name: [block.text for block in section.blocks if isinstance(block, Missing)]
        for section in document.sections
    }


def test_a_whole_run_has_every_section_and_lacks_only_what_needs_its_images(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    document = make_report([write_run(tmp_path)])
    assert [section.name for section in document.sections] == SECTIONS
    lacking = missing(document)
    pictured = {name: lacking.pop(name) for name in ("images", "attention", "queries")}
    (no_train,) = lacking.pop("diagnosis")
    assert "train" in no_train
    assert not any(lacking.values()), lacking
    assert all("1.png" in words[0] or "cannot be shown" in words[0] for words in pictured.values())
    assert to_html(document).count("<svg") > 20


def test_a_run_killed_in_the_middle_of_a_line_before_any_validation_says_where_its_log_ends(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = write_run(tmp_path, epochs=1)
    lines = (run / "log.jsonl").read_text().splitlines()[:7]
    (run / "log.jsonl").write_text("\n".join([*lines, '{"event": "step", "step": 8, "lo']))
    shutil.rmtree(run / "evaluation")
    lacking = missing(make_report([run]))
    assert "no validation yet" in lacking["overview"][0]
    assert "ends at step 7" in lacking["overview"][0]
    assert '{"event": "step", "step": 8, "lo' in lacking["overview"][0]
    assert lacking["training"] == []
    for name in ("validation", "precision-recall", "iou", "errors", "calibration", "classes"):
        assert "o validation yet" in lacking[name][0]


def test_a_run_that_failed_before_its_first_step_still_has_a_page(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = write_run(tmp_path)
    shutil.rmtree(run / "evaluation")
    (run / "log.jsonl").unlink()
    (run / "run.json").write_text("{ not json")
    document = make_report([run])
    assert "log.jsonl is not there" in missing(document)["training"][0]
    assert [section.name for section in document.sections] == SECTIONS
    to_html(document)


def test_a_run_that_diverged_has_its_curves_as_far_as_they_are_numbers(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = write_run(tmp_path, epochs=1, finished=False)
    text = (run / "log.jsonl").read_text()
    text = text.replace('"loss": 2.0', '"loss": NaN').replace('"loss": 10.0', '"loss": Infinity')
    (run / "log.jsonl").write_text(text)
    document = make_report([run], images=False)
    (loss,) = re.findall(r'aria-label="(Loss over epochs: [^"]*)"', to_html(document))
    assert loss == "Loss over epochs: Loss goes from 20 to 2.22, lowest 2.22, highest 20."


def test_one_epoch_is_a_point_and_not_an_empty_chart(write_run: Callable[..., Path], tmp_path: Path) -> None:
    document = make_report([write_run(tmp_path, epochs=1)], images=False)
    charts = [
        drawing
        for section in document.sections
        if section.name == "validation"
        for block in section.blocks
        if isinstance(block, Drawings)
        for drawing in block.drawings
    ]
    assert charts
    for chart in charts:
        assert "once" in chart.alternative
        assert "<use " in chart.svg  # the mark


def test_without_detections_every_section_about_them_says_so(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    lacking = missing(make_report([write_run(tmp_path, found=False)], images=False))
    for name in ("precision-recall", "iou", "errors", "calibration"):
        assert lacking[name] == ["Nothing was found in any of the 12 images: there are no detections."]


def test_one_class_needs_no_charts_by_class(write_run: Callable[..., Path], tmp_path: Path) -> None:
    document = make_report([write_run(tmp_path, classes=1)], images=False)
    (curves,) = (section for section in document.sections if section.name == "precision-recall")
    assert Heading("By class") not in curves.blocks
    (table,) = (block for section in document.sections for block in section.blocks if _of_classes(block))
    assert len(table.rows) == 1
    assert table.caption.startswith("The only class")


def test_1203_classes_are_all_in_the_table_and_the_charts_say_how_many_they_leave_out(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    document = make_report([write_run(tmp_path, classes=1203)], images=False)
    (table,) = (block for section in document.sections for block in section.blocks if _of_classes(block))
    assert len(table.rows) == 1203
    texts = [
        block.text for section in document.sections for block in section.blocks if isinstance(block, Text)
    ]
    objects = len({line["category_id"] for line in _annotations(tmp_path)})
    assert any(f"the other {objects - 24:,} are in precision_recall.npz" in text for text in texts)
    html = to_html(document)
    assert len(html) < 5e6
    assert "1,178 others are not drawn" in html


def test_an_analysis_that_lies_in_the_folder_stands_in_for_data_that_is_gone(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    from detrkit.data.formats.recognise import read_split
    from detrkit.evaluation.analysis import analyse, write
    from detrkit.evaluation.coco import read_results
    from detrkit.evaluation.judged import judge

    run = write_run(tmp_path)
    with_data = make_report([run], images=False)
    catalog = read_split(tmp_path / "data", "val")
    judged = judge(catalog, read_results(run / "evaluation" / "detections.json", catalog))
    write(run / "evaluation", judged, analyse(judged))
    shutil.rmtree(tmp_path / "data")
    without = make_report([run], images=True)
    lacking = missing(without)
    assert "--data DIR" in lacking["images"][0]
    for name in ("precision-recall", "iou", "errors", "calibration", "classes"):
        before, after = (
            next(section for section in document.sections if section.name == name)
            for document in (with_data, without)
        )
        assert before == after


def test_gone_data_without_an_analysis_is_said_with_the_folder(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = write_run(tmp_path)
    shutil.rmtree(tmp_path / "data")
    assert str(tmp_path / "data") in missing(make_report([run]))["iou"][0]


def test_what_evaluate_left_is_reported_without_a_run(write_run: Callable[..., Path], tmp_path: Path) -> None:
    results = (write_run(tmp_path) / "evaluation").rename(tmp_path / "results")
    lacking = missing(make_report([results], tmp_path / "data", images=False))
    assert "log.jsonl is not there" in lacking["training"][0]
    for name in ("overview", "validation", "precision-recall", "iou", "errors", "calibration", "classes"):
        assert lacking[name] == []


def test_what_is_no_run_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match=re.escape(str(tmp_path / "no"))):
        read_run(tmp_path / "no")
    with pytest.raises(DetrkitError, match="holds no run"):
        read_run(tmp_path)


def _of_classes(block: object) -> bool:
    return isinstance(block, Table) and block.sortable


def _annotations(root: Path) -> list[dict]:
    return json.loads((root / "data" / "annotations" / "instances_val.json").read_text())["annotations"]


def test_the_diagnosis_of_a_run_stands_in_its_report(write_run: Callable[..., Path], tmp_path: Path) -> None:
    run = write_run(tmp_path)
    log = (run / "log.jsonl").read_text().replace('"data_seconds": 0.1', '"data_seconds": 0.4')
    (run / "log.jsonl").write_text(log)
    (section,) = (one for one in make_report([run], images=False).sections if one.name == "diagnosis")
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    (row,) = (row for row in table.rows if row[0] == "Training waits for images")
    assert row[1] == "cost"
    assert "80% of a step" in str(row[3])
    assert "--set data.workers" in str(row[4])
