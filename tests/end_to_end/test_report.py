"""The report of a real run, as a person opens it: in a browser, wide and narrow, light and dark."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from detrkit.cli.main import app

SECTIONS = [
    "overview",
    "diagnosis",
    "training",
    "validation",
    "precision-recall",
    "iou",
    "errors",
    "calibration",
]
SECTIONS += ["images", "attention", "queries", "classes", "settings"]


@pytest.fixture(scope="module")
def page(shared: Path, small_detr: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two steps of training on COCO's images, without its live page's marks."""
    run = tmp_path_factory.mktemp("report") / "run"
    settings = small_detr | {
        "train.max_steps": 2,
        "data.batch_size": 2,
    }
    assignments = [word for name, value in settings.items() for word in ("--set", f"{name}={toml(value)}")]
    data = str(shared / "coco-mini")
    trained = CliRunner().invoke(
        app, ["train", "detr_r50", "--data", data, "--out", str(run), *assignments], catch_exceptions=False
    )
    assert trained.exit_code == 0, trained.output
    live = (run / "report.html").read_text("utf-8")
    assert "2 runs" not in live
    assert re.findall(r'<section id="([\w-]+)"', live)[0] == "overview"
    done = CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return run / "report.html"


def toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.slow
def test_the_page_of_a_real_run_is_small_and_has_every_section(page: Path) -> None:
    html = page.read_text("utf-8")
    assert page.stat().st_size < 5e6
    assert re.findall(r'<section id="([\w-]+)"', html) == SECTIONS
    assert html.count('<img src="data:image/jpeg;base64,') >= 10


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_opens_without_complaint_and_nothing_sticks_out(
    page: Path, browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    browser.open(page, width, scheme)
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    stuck_out = browser.evaluate(
        "[...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll, svg') && "
        "one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"
    )
    assert stuck_out == []
    painted = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert painted == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    shown = browser.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert shown
    browser.screenshot(tmp_path / f"report-{width}-{scheme}.png")


@pytest.mark.slow
def test_a_heading_sorts_the_table_of_classes_up_and_down(page: Path, browser: Any) -> None:
    browser.open(page, 1280, "light")
    assert browser.errors == []

    def pressed(column: int) -> tuple[str, list[str]]:
        cell = f"document.querySelector('#classes th:nth-child({column})')"
        browser.evaluate(f"{cell}.querySelector('button').click()")
        rows = "[...document.querySelectorAll('#classes tbody tr')]"
        order = browser.evaluate(f"{cell}.getAttribute('aria-sort')")
        return order, browser.evaluate(f"{rows}.map(row => row.cells[{column - 1}].textContent)")

    order, names = pressed(1)
    assert (order, names) == ("ascending", sorted(names))
    assert len(names) == 80
    order, names = pressed(1)
    assert (order, names) == ("descending", sorted(names, reverse=True))
    order, counts = pressed(2)
    figures = [int(count.replace(",", "")) for count in counts]
    assert (order, figures) == ("descending", sorted(figures, reverse=True))
    order, counts = pressed(2)
    figures = [int(count.replace(",", "")) for count in counts]
    assert (order, figures) == ("ascending", sorted(figures))


@pytest.mark.slow
def test_it_can_be_read_without_scripts(page: Path, browser: Any) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, 1280, "light")
        text = browser.call("DOM.getOuterHTML", nodeId=browser.call("DOM.getDocument")["root"]["nodeId"])
        assert re.findall(r'<section id="([\w-]+)"', text["outerHTML"]) == SECTIONS
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
