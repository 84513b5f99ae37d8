"""A reader of protocol buffers in their text form, for files whose schema is not at hand.

Fields keep their order of appearance and are always lists, because without a schema one cannot tell a single
value from a repeated one that occurs once. Source of the grammar: protobuf.dev, text format specification.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

from megabase.files import FileError

Message = dict[str, list[Any]]  # values are str (also enum names), int, float, bool or Message

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)|(?P<line>\n)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[A-Za-z0-9_.+-]+)|(?P<mark>[{}<>\[\]:;,])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.S
)
_LETTERS = {
    b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v",
    b"\\": b"\\", b"'": b"'", b'"': b'"', b"?": b"?",
}  # fmt: skip
_CLOSING = {"{": "}", "<": ">"}
_TRUTH = {"true": True, "false": False}
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|\d+)")
_FLOAT = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[fF]?|inf|nan)")
DEEPEST = 64  # messages within each other; deeper is a broken file


def read_textproto(path: str | Path) -> Message:
    """The message in a file, plain or gzip; FileError names the file, and the line that cannot be read."""
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path}: not found; wanted a protocol buffer in text form (.textproto)")
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: not a text file, plain or gzip ({error}); fetch it again") from error
    return parse_textproto(text, path)


def parse_textproto(text: str, source: str | Path = "text") -> Message:
    """The message in a text; FileError with `source` and the line where it breaks the format."""
    return _message(_Tokens(text, source), closing=None, depth=0)


class _Tokens:
    """Tokens of a text with their lines; `kind` and `text` are those of the current one."""

    def __init__(self, text: str, source: str | Path) -> None:
        self.source = source
        self._found = list(_split(text, source))
        self._next = 0
        self.advance()

    def advance(self) -> str:
        """Go to the next token; returns the text of the one that is left."""
        left = self.text if self._next else ""
        self.kind, self.text, self.line = self._found[self._next]
        self._next = min(self._next + 1, len(self._found) - 1)
        return left

    def skip(self, marks: str) -> bool:
        """Go past one of these marks, if the current token is one."""
        if self.kind != "mark" or self.text not in marks:
            return False
        self.advance()
        return True

    def error(self, wanted: str) -> FileError:
        found = "the end of the file" if self.kind == "end" else repr(self.text)
        return FileError(f"{self.source}: line {self.line}: found {found}, wanted {wanted}")


def _split(text: str, source: str | Path) -> list[tuple[str, str, int]]:
    """(kind, text, line) of every token, and one of kind `end`."""
    tokens, line, position = [], 1, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise FileError(f"{source}: line {line}: {text[position : position + 20]!r} is not text format")
        if match.lastgroup == "line":
            line += 1
        elif match.lastgroup != "space":
            tokens.append((str(match.lastgroup), match[0], line))
        position = match.end()
    return [*tokens, ("end", "", line)]


def _message(tokens: _Tokens, closing: str | None, depth: int) -> Message:
    """Fields up to the closing bracket, which is passed; without one, up to the end of the text."""
    if depth > DEEPEST:
        raise tokens.error(f"at most {DEEPEST} messages within each other")
    fields: Message = {}
    while not (tokens.kind == "mark" and tokens.text == closing):
        if tokens.kind == "end" and closing is None:
            return fields
        if tokens.kind != "word":
            raise tokens.error(f"a field name{f' or {closing!r}' if closing else ''}")
        values = fields.setdefault(tokens.advance(), [])
        colon = tokens.skip(":")
        if tokens.skip("["):
            values += _several(tokens, depth)
        else:
            values.append(_value(tokens, depth, scalar=colon))
        tokens.skip(";,")
    tokens.advance()
    return fields


def _several(tokens: _Tokens, depth: int) -> list[Any]:
    """Values of a list, after its opening bracket."""
    values: list[Any] = []
    while not tokens.skip("]"):
        if values and not tokens.skip(","):
            raise tokens.error("',' or ']'")
        values.append(_value(tokens, depth, scalar=True))
    return values


def _value(tokens: _Tokens, depth: int, *, scalar: bool) -> Any:
    """A message, a string or a word. scalar: a colon was met, without which only a message may follow."""
    if tokens.kind == "mark" and tokens.text in _CLOSING:
        return _message(tokens, _CLOSING[tokens.advance()], depth + 1)
    if not scalar:
        raise tokens.error("':' or a message")
    if tokens.kind == "string":
        return _string(tokens)
    if tokens.kind == "word":
        return _word(tokens.advance())
    raise tokens.error("a value")


def _string(tokens: _Tokens) -> str:
    """Adjacent strings are one; escapes stand for bytes of UTF-8."""
    data, line = b"", tokens.line
    while tokens.kind == "string":
        try:
            data += _ESCAPE.sub(_unescaped, tokens.text[1:-1].encode())
        except (KeyError, ValueError, OverflowError) as error:
            raise tokens.error("a string with known escapes") from error
        tokens.advance()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{tokens.source}: line {line}: a string that is not UTF-8") from error


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, byte, short, long, letter = match.groups()
    if letter is not None:
        return _LETTERS[letter]
    if octal or byte:
        return bytes([int(octal, 8) if octal else int(byte, 16)])
    return chr(int(short or long, 16)).encode()


def _word(text: str) -> Any:
    """A number or truth value, else the name of an enum's value."""
    if _INTEGER.fullmatch(text):
        return int(text, 16 if "x" in text.lower() else 10)
    if _FLOAT.fullmatch(text):
        return float(text.rstrip("fF") if text[-2:].lower() != "nf" else text)
    return _TRUTH.get(text, text)
