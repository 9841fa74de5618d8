"""What every reader of json from anybody relies on."""

import os
from pathlib import Path
from typing import Any, TypedDict

import pytest

from detrkit.files import is_file, is_folder
from detrkit.reading import Count, Finite, parse_json, read_json, reason, require_file


class Kind(TypedDict):
    number: Count
    share: Finite


def test_a_value_of_the_kind_comes_back_as_it_stands() -> None:
    text = b'{"number": 3, "share": 1, "more": [null, "\\ud83d\\udc08"]}'
    found = parse_json(text, Kind)
    assert found == {"number": 3, "share": 1, "more": [None, "🐈"]}
    assert isinstance(found["share"], int)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"number": "3", "share": 1}', "$.number"),
        (b'{"number": true, "share": 1}', "$.number"),
        (b'{"number": 9007199254740993, "share": 1}', "$.number"),  # 2**53 + 1, which no float holds
        (b'{"number": 3}', "share"),
        (b'{"number": 3, "share": NaN}', "$.share"),
        (b'{"number": 3, "share": 1e31}', "$.share"),
        (b'{"number": 3, "share": ' + b"9" * 5000 + b"}", "digits"),
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "array"),
        (b"", "Expecting value"),
        (b"\xff", "utf-8"),
    ],
)
def test_another_value_is_refused_with_its_place(text: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(text, Kind)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_halves_of_surrogate_pairs_are_escaped_in_names_and_values() -> None:
    found = parse_json(b'{"\\udcff": ["\\ud800 x", {"a": "\\uDC00"}]}', Any)
    assert found == {"\\udcff": ["\\ud800 x", {"a": "\\udc00"}]}


def test_no_more_is_read_than_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    assert read_json(path, list[int], 6) == [1, 2]
    with pytest.raises(OSError, match="it has 6 bytes, where at most 5 are expected"):
        read_json(path, list[int], 5)


def test_what_is_no_file_is_told_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "regular"),
        (tmp_path, "regular"),
        (tmp_path / "no", "not there"),
    ):
        with pytest.raises(OSError, match=words):
            require_file(path)
    with pytest.raises(OSError, match="too long"):
        require_file(tmp_path / ("x" * 5000))


def test_a_folder_is_one_whatever_its_name(tmp_path: Path) -> None:
    assert is_folder(tmp_path)
    assert is_file(Path(__file__))
    nothing = list(map(Path, ("x" * 5000, "a\0b", "\ud800", "/dev/null")))
    assert not any(map(is_folder, nothing))
    assert not any(map(is_file, nothing))


def test_a_reason_has_its_beginning_and_its_end() -> None:
    found = reason(ValueError("begins " + "x" * 5000 + " ends"))
    assert found.startswith("begins")
    assert found.endswith("ends")
    assert len(found) == 201
    assert reason(EOFError()) == "EOFError"
