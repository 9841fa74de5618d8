"""The shared reader of TOML agrees with Python's, but for keys of more parts than settings have."""

import os
import tomllib
from pathlib import Path

import pytest

from detrkit.settings.toml import DEEPEST, LONGEST, NotTomlError, parse_toml, read_toml

DOTS = "a." * 40 + "a"
DEEP = ".".join("a" * (DEEPEST + 1))


@pytest.mark.parametrize(
    "text",
    [
        f"a = '{DOTS}'",
        f'a = "{DOTS}"',
        f'"{DOTS}" = 1',
        f"a = '''\n{DOTS}\n'''",
        f'a = """\n{DOTS} "" \\" {DOTS}"""""',
        f'a = "\\"{DOTS}"',
        f"a = 1 # {DOTS}",
        f"# it's {DOTS}\na = 1",
        "a = [" + "1.5,2.5, " * 100 + "]",
        "a = [" + "1.5\n,\n" * 100 + "]",
        "a = [2024-01-01T07:32:00.999, 1.0]",
        ".".join("a" * DEEPEST) + " = 1",
        "[" + " . ".join("abcdefgh") + "]\nb.c = 1.5",
        'a."b.b.b.b.b.b.b.b.b.b".c = 1',
    ],
)
def test_what_is_no_deep_key_is_read_as_by_python(text: str) -> None:
    assert parse_toml(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    "start",
    [
        "",
        "b = 1.5\n",
        "b = {",
        "[",
        "[[",
        'b = ""\n',
        'b = """a"""\n',
        'c = ["""a"""", {',
        'c = ["""a""""", {',
        "c = ['''a'''', {",
        "c = ['''a''''', {",
        'c = ["""\\"""", {',
        "c = ['\\', {",
        'c = ["\\\\", {',
        'b = "#"\n',
        "b = '''\n#'''\n",
        "b = 1 # \"\"\" '''\n",
        "b = \"'''\"\n",
        'b = \'"""\'\n',
    ],
)
@pytest.mark.parametrize(
    "key", [DEEP, DEEP.replace(".", " \t. "), DEEP.replace("a", "'a.b'"), DEEP[:-1] + '""']
)
def test_a_deep_key_is_found_behind_whatever_stands_before_it(start: str, key: str) -> None:
    end = {"[": "]", "[[": "]]"}.get(
        start, " = 1" + ("}" if "{" in start else "") + ("]" if "[" in start else "")
    )
    tomllib.loads(start + key + end)  # it would be read
    with pytest.raises(NotTomlError, match=f"a key has more than {DEEPEST} parts"):
        parse_toml(start + key + end)


@pytest.mark.parametrize("text", ["a", "a = 1\na = 2", "a = " + "[" * 100_000, "a = " + "1" * 5000, "a = '"])
def test_every_fault_is_of_one_kind(text: str) -> None:
    with pytest.raises(NotTomlError):
        parse_toml(text)


def test_a_text_or_file_is_only_so_long(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("a = 1\n" + "#" * (LONGEST - 6))
    assert read_toml(file) == {"a": 1}
    file.write_text("a = 1\n" + "#" * (LONGEST - 5))
    with pytest.raises(OSError, match="1,048,577 bytes, but no more than 1,048,576"):
        read_toml(file)
    with pytest.raises(NotTomlError, match="1,048,577 characters"):
        parse_toml("#" * (LONGEST + 1))


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_what_never_ends_is_not_begun(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_toml(tmp_path / name)
