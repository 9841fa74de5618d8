"""The lines of a log, each of which is what its event says, and a word about the others."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from detrkit.monitoring.entries import KINDS, Line
from detrkit.reading import parse_json, require_file, require_kind

_LONGEST = 1 << 24
"""Bytes of a line: a validation of 1,203 classes has 0.3 million."""

_MOST = 1 << 40
"""Bytes of a log, which is as long as its run."""


class Log(NamedTuple):
    """A log's lines, and a sentence about those that were left out, which is empty where there are none."""

    lines: list[dict[str, Any]]
    left_out: str


def read_lines(path: Path) -> Log:
    """What a log has; an OSError where it is no file. The last line may be cut short, as by a kill."""
    require_file(path, _MOST)
    lines: list[dict[str, Any]] = []
    odd, first = 0, ""
    with path.open("rb") as file:
        for number, text in enumerate(_texts(file), start=1):
            try:
                lines.append(parse_line(text))
            except ValueError as error:
                if text.endswith(b"\n") and text.strip():
                    odd, first = odd + 1, first or f"line {number} ({error})"
    return Log(lines, f"{path}: lines left out: {odd:,}, from {first} on" if odd else "")


def parse_line(text: bytes) -> dict[str, Any]:
    """A line's values; a ValueError where it is no event, or has not what its event has."""
    line = parse_json(text, Line)
    if line["event"] in KINDS:
        require_kind(line, KINDS[line["event"]])
    return line


def _texts(file: IO[bytes]) -> Iterator[bytes]:
    """The lines; of one that is too long, the beginning, as if it ended there."""
    while text := file.readline(_LONGEST):
        yield text + b"\n" if len(text) == _LONGEST else text
        while not text.endswith(b"\n") and text:
            text = file.readline(_LONGEST)
