"""Text protocol buffers: fields in order, values by kind, and the line of what is broken."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabase.files import FileError
from megabase.predictors.textproto import parse_textproto, read_textproto

TEXT = r"""
# a comment
name: "T-cell \"x\" \303\244"  # two bytes of one letter
kind: KIND_TISSUE
inner { id: 84 flag: true; ratio: 0.5 }
inner < id: -7, ratio: 1e-3f >
list: [1, 2.5, WORD]
more: { empty {} text: 'a' "b"
 'c' }
"""


def test_every_kind_of_value() -> None:
    assert parse_textproto(TEXT) == {
        "name": ['T-cell "x" ä'],
        "kind": ["KIND_TISSUE"],
        "inner": [{"id": [84], "flag": [True], "ratio": [0.5]}, {"id": [-7], "ratio": [0.001]}],
        "list": [1, 2.5, "WORD"],
        "more": [{"empty": [{}], "text": ["abc"]}],
    }
    assert parse_textproto("") == {}


@pytest.mark.parametrize(
    ("word", "value"),
    [("0x1F", 31), ("+3", 3), (".5", 0.5), ("2.", 2.0), ("-inf", -math.inf), ("1.5F", 1.5), ("false", False),
     ("inf_x", "inf_x"), ("E5", "E5")],
)  # fmt: skip
def test_words(word: str, value: Any) -> None:
    found = parse_textproto(f"a: {word}")["a"][0]
    assert found == value and type(found) is type(value)


def test_nan() -> None:
    assert math.isnan(parse_textproto("a: nan")["a"][0])


@given(st.text())
def test_any_text_survives(text: str) -> None:
    escaped = "".join(f"\\{byte:03o}" for byte in text.encode())
    assert parse_textproto(f'a: "{escaped}"') == {"a": [text]}


MESSAGES = st.recursive(
    st.builds(dict),
    lambda inner: st.dictionaries(
        st.from_regex(r"[a-z][a-z_]{0,5}", fullmatch=True),
        st.lists(st.integers() | st.booleans() | st.floats(allow_nan=False) | inner, min_size=1, max_size=3),
        max_size=3,
    ),
    max_leaves=12,
)


def written(message: dict[str, list[Any]]) -> str:
    """The text form of a message."""
    lines = [
        f"{name} {{ {written(value)} }}" if isinstance(value, dict) else f"{name}: {str(value).lower()}"
        for name, values in message.items()
        for value in values
    ]
    return "\n".join(lines)


@given(MESSAGES)
def test_any_message_comes_back(message: dict[str, list[Any]]) -> None:
    assert parse_textproto(written(message)) == message


@pytest.mark.parametrize(
    ("text", "told"),
    [("a {\n b: 1\n", "line 3: found the end of the file, wanted a field name or '}'"),
     ("a: 1\n}", "line 2: found '}', wanted a field name"),
     ("a 1", "line 1: found '1', wanted ':' or a message"),
     ("a:\n}", "line 2: found '}', wanted a value"),
     ("a: [1 2]", "found '2', wanted ',' or ']'"),
     ('a: "open\nb: 1', "line 1: '\"open"),
     ('a: "\\q"', "known escapes"),
     ('a: "\\377"', "UTF-8"),
     ("a: @", "line 1: '@'"),
     ("a {" * 100, "at most 64 messages")],
)  # fmt: skip
def test_broken_text_is_told_by_line(text: str, told: str) -> None:
    with pytest.raises(FileError) as error:
        parse_textproto(text, "tracks.textproto")
    assert told in str(error.value) and str(error.value).startswith("tracks.textproto: line")


def test_files(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.textproto", tmp_path / "a.textproto.gz"
    plain.write_text(TEXT, encoding="utf-8")
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert read_textproto(plain) == read_textproto(packed) == parse_textproto(TEXT)
    packed.write_bytes(gzip.compress(TEXT.encode())[:-20])
    with pytest.raises(FileError, match="not a text file, plain or gzip"):
        read_textproto(packed)
    with pytest.raises(FileError, match="not found"):
        read_textproto(tmp_path / "none")
