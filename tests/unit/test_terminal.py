"""Names of others command no terminal: what is printed of them is text alone."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from unicodedata import bidirectional, category

import pytest
from rich.progress import track
from rich.table import Table
from rich.text import Text

import detrkit
from detrkit.cli.say import say, say_json
from detrkit.errors import printable
from detrkit.terminal import open_console, words

EVIL = "\x1b]0;evil\x07\x1b[31m\r\x9b2J\u202e\udcff"
SHOWN = r"\x1b]0;evil\x07\x1b[31m\r\x9b2J\u202e\udcff"


def test_no_character_but_these_is_escaped() -> None:
    """Unicode's own tables say which are controls, surrogates, or change the direction of what follows."""
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for sign in map(chr, [*range(0x3000), *range(0xD000, 0xE800), 0x1F600]):
        commands = category(sign) in ("Cc", "Cs") and sign not in "\t\n"
        if commands or bidirectional(sign) in turning:
            assert printable(sign).encode("ascii").decode("unicode_escape") == sign
        else:
            assert printable(sign) == sign


def test_a_text_keeps_all_else() -> None:
    assert printable(f"a\n\tß{EVIL}") == f"a\n\tß{SHOWN}"


def test_what_commands_print(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL)
    say(EVIL, err=True)
    assert capsys.readouterr() == (f"{SHOWN}\n", f"{SHOWN}\n")


def test_json_is_read_back_to_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({EVIL: [EVIL, "\n\x7f", "ß"]})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {EVIL: [EVIL, "\n\x7f", "ß"]}
    assert printable(printed) == printed
    assert "ß" in printed


def of_a_table(name: str) -> Table:
    table = Table(name, title=name, caption=name)
    table.add_row(name)
    table.add_row(words(name))
    return table


@pytest.mark.parametrize("make", [str, Text, words, of_a_table])
def test_what_a_console_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make: Callable
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    console = open_console()
    console.print(make(EVIL.replace("[31m", "")))
    printed = capsys.readouterr().out
    assert printable(printed) == printed
    assert printed.count(r"\x1b]0;evil") == (5 if make is of_a_table else 1)


def test_columns_with_escapes_stand_below_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    open_console().print(of_a_table("\x1b\x1b"))
    lines = [line for line in capsys.readouterr().out.splitlines() if re.match("[┃│]", line)]
    assert len({len(line) for line in lines}) == 1


def test_what_rich_says_to_a_terminal_still_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TERM": "xterm", "FORCE_COLOR": "1", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    console = open_console()
    console.print(words("a", "bold"))
    assert list(track([1, 2], EVIL, console=console)) == [1, 2]
    printed = capsys.readouterr().out
    assert "\x1b[1ma\x1b[0m" in printed
    assert "\x1b[?25l" in printed  # the cursor is hidden
    assert "\x1b]0" not in printed
    assert r"\x1b]0" in printed


def test_nothing_is_printed_in_another_way() -> None:
    for file in Path(detrkit.__file__).parent.rglob("*.py"):
        text = file.read_text()
        other = re.findall(r"typer\.echo\(|(?<![\w.(])Console\(", text)
        if "rich.text" in text:
            other += re.findall(r"(?<![\w.])Text\(", text)
        assert len(other) == {"say.py": 2, "terminal.py": 1}.get(file.name, 0), (file, other)
