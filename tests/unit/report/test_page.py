"""What everyone can read: names of pictures, order of headings, contrast, and no text taken for code."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from detrkit.report.page import to_html
from detrkit.report.write import make_report

_VOID = {"meta", "link", "img", "br", "input"}


class Outline(HTMLParser):
    """Every element with its attributes, its parents' names, and the text in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), list(self._open)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), list(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]


@pytest.fixture(scope="module")
def html(write_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return to_html(make_report([write_run(tmp_path_factory.mktemp("page"))], images=False))


@pytest.fixture(scope="module")
def outline(html: str) -> Outline:
    return Outline(html)


def test_the_page_has_a_language_a_title_one_main_heading_and_a_way_past_the_contents(
    outline: Outline,
) -> None:
    assert outline.all("html") == [{"lang": "en"}]
    assert [text for tag, text in outline.texts if tag == "title"] == ["Report of run"]
    assert len(outline.all("h1")) == 1
    ids = {attributes.get("id") for _, attributes, _ in outline.elements}
    links = [link["href"] for link in outline.all("a")]
    assert links[0] == "#content"
    assert all(link is not None and link[1:] in ids for link in links)


def test_headings_go_down_one_level_at_a_time(outline: Outline) -> None:
    levels = [int(tag[1]) for tag, _, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_picture_says_in_figures_what_is_to_be_seen(outline: Outline) -> None:
    drawings = outline.all("svg")
    assert len(drawings) > 20
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert re.search(r"\d", drawing["aria-label"] or "")
    assert all(picture["alt"] for picture in outline.all("img"))


def test_tables_have_captions_scopes_and_buttons_that_sort(outline: Outline) -> None:
    assert len(outline.all("table")) == len(outline.all("caption")) > 3
    assert all(heading["scope"] in ("col", "row") for heading in outline.all("th"))
    sorted_by = [heading for heading in outline.all("th") if "aria-sort" in heading]
    buttons = [parents for tag, _, parents in outline.elements if tag == "button"]
    assert len(sorted_by) == len(buttons) > 5
    assert all(parents[-1] == "th" for parents in buttons)


def test_no_two_elements_have_the_same_id(outline: Outline) -> None:
    ids = [attributes["id"] for _, attributes, _ in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_nothing_is_asked_of_the_network(html: str, outline: Outline) -> None:
    for _, attributes, _ in outline.elements:
        for name in ("src", "href", "srcset", "action"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:")), value
    assert re.findall(r"url\((?!#)", html) == []
    assert "@import" not in html


def test_names_of_classes_are_text_whatever_they_hold(html: str, outline: Outline) -> None:
    assert len(outline.all("script")) == 1
    shown = [text for _, text in outline.texts]
    for name in ("<script>alert(1)</script>", '$x^2$ & "co"', "кошка | 猫"):
        assert shown.count(name) >= 2  # in the table of classes, and over its curve
    assert any("<fast>" in text for text in shown)


def test_charts_have_no_colour_of_their_own_and_formulas_stay_text(html: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert drawings
    for drawing in drawings:
        colours = set(re.findall(r"(?:fill|stroke): ?(#[0-9a-f]{3,6})", drawing))
        assert colours == set(), colours
    matrix = next(drawing for drawing in drawings if "Confusion matrix" in drawing)
    assert "$x^2$" in matrix


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(html: str, scheme: str) -> None:
    """Contrast as WCAG 2.2 defines it: 4.5 for text, 3 for lines."""
    light, dark = re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark))
    for text in ("ink", "muted", "link"):
        for behind in ("paper", "raised"):
            assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    for number in range(1, 7):
        assert contrast(colours[f"line-{number}"], colours["paper"]) >= 3, number
    from detrkit.report.drawing import CELL_MOST

    fullest = mixed(colours["cell"], colours["paper"], CELL_MOST)
    assert contrast(colours["ink"], fullest) >= 4.5


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in bytes.fromhex(colour[1:]))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def mixed(over: str, under: str, opacity: float) -> str:
    channels = zip(bytes.fromhex(over[1:]), bytes.fromhex(under[1:]), strict=True)
    return "#" + bytes(round(opacity * a + (1 - opacity) * b) for a, b in channels).hex()
