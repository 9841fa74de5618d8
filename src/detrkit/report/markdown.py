"""The report in Markdown, with its charts and pictures as files beside it."""

from pathlib import Path
from typing import assert_never

from detrkit.report.content import (
    Block,
    Document,
    Drawings,
    Facts,
    Figures,
    Heading,
    Missing,
    Pictures,
    Table,
    Text,
    show,
)

_STYLE = Path(__file__).with_name("style.css")


def write_markdown(document: Document, path: Path) -> None:
    """Write the report to ``path``; what is drawn goes to the folder ``NAME_files`` beside it."""
    folder = path.with_name(f"{path.stem}_files")
    lines = [f"# {escaped(document.title)}", "", escaped(document.summary), ""]
    for section in document.sections:
        lines += [f"## {escaped(section.title)}", ""]
        for block in section.blocks:
            lines += [*_lines(block, folder), ""]
    path.write_text("\n".join(lines), "utf-8", errors="backslashreplace")


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    for sign in "\\`*_[]<>|#$":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _lines(block: Block, folder: Path) -> list[str]:
    match block:
        case Text(text):
            return [escaped(text)]
        case Missing(text):
            return [f"> {escaped(text)}"]
        case Heading(text):
            return [f"### {escaped(text)}"]
        case Facts(rows):
            return [f"- {escaped(name)}: {escaped(value)}" for name, value in rows]
        case Figures(figures):
            return [f"- **{escaped(one.value)}** {escaped(f'{one.name} {one.remark}')}" for one in figures]
        case Table():
            return _table(block)
        case Drawings(drawings):
            return [
                line
                for one in drawings
                for line in _drawn(folder, f"{one.name}.svg", _alone(one.svg), one.title, one.alternative)
            ]
        case Pictures(pictures):
            return [
                line
                for one in pictures
                for line in _drawn(folder, f"{one.name}.jpg", one.jpeg, one.caption, one.alternative)
            ]
    assert_never(block)


def _table(table: Table) -> list[str]:
    heads = [escaped(column.name) for column in table.columns]
    rules = ["---" if column.kind == "text" else "---:" for column in table.columns]
    rows = [
        [escaped(show(value, column.kind)) for value, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]
    return [escaped(table.caption), "", *(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))]


def _drawn(folder: Path, name: str, content: bytes, title: str, alternative: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return [f"**{escaped(title)}**", "", f"![{escaped(alternative)}](<{folder.name}/{name}>)", ""]


def _alone(svg: str) -> bytes:
    """A drawing as a file of its own: with the page's colours, in both themes."""
    colours = _STYLE.read_text("utf-8").partition("*,")[0]
    return svg.replace(">", f">\n<style>{colours}</style>", 1).encode(errors="backslashreplace")
