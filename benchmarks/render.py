"""The table of all records, written between two marks in docs/results.md."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from harness import RESULTS, ROOT


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=RESULTS, help="of JSON records")
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "results.md")
    options = parser.parse_args()
    records = [json.loads(path.read_text("utf-8")) for path in sorted(options.folder.glob("*.json"))]
    page = options.into.read_text("utf-8")
    options.into.write_text(place(render(records), page, "benchmarks"), "utf-8")


def place(text: str, page: str, mark: str) -> str:
    """The page with the text between its marks of that name, for which a section is added if it has none."""
    start, end = f"<!-- {mark}:start -->", f"<!-- {mark}:end -->"
    if start not in page:
        page = f"{page.rstrip()}\n\n## {mark.capitalize()}\n\n{start}\n{end}\n"
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}"


def render(records: list[dict[str, Any]]) -> str:
    """A table of figures, and one of where each is from."""
    lines = [
        "| figure | asked | measured (quartiles) | detrkit | peer | record |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_figure(row, record["name"]) for record in records for row in record["rows"]]
    lines += ["", "| record | command | commit | date | machine |", "|---|---|---|---|---|"]
    lines += [_origin(record) for record in records]
    return "\n".join(lines)


def _figure(row: dict[str, Any], name: str) -> str:
    """One row; in bold where it falls short of what was asked."""
    median, low, high = (row["measured"][key] for key in ("median", "low", "high"))
    target, unit = row["target"], row["unit"]
    measured = f"{median:.3g} {unit}".rstrip()
    if target is None:
        asked = "-"
    else:
        asked = f"{'at most' if row['at_most'] else 'at least'} {target:g} {unit}".rstrip()
        short = median > target if row["at_most"] else median < target
        measured = f"**{measured}**" if short else measured
    figures = [row["figure"], asked, f"{measured} ({low:.3g} to {high:.3g})", row["ours"], row["peer"], name]
    return f"| {' | '.join(figures)} |"


def _origin(record: dict[str, Any]) -> str:
    machine = record["machine"]
    computed = machine["device"] if machine["device"] != "cpu" else f"{machine['threads']} threads"
    described = (
        f"{machine['processor']}, {machine['cores']} cores ({', '.join(machine['flags'])}), {computed}"
    )
    origin = [
        record["name"],
        f"`{record['command']}`",
        record["commit"],
        record["date"],
        f"{described}; torch {machine['torch']}",
    ]
    return f"| {' | '.join(origin)} |"


if __name__ == "__main__":
    main()
