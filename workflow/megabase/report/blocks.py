"""The pieces of the page: sections made of paragraphs, tables, cards and figures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from megabase.style import DPI, png


@dataclass(frozen=True)
class Text:
    """Paragraphs; with `listed`, one bullet each."""

    lines: Sequence[str]
    listed: bool = False
    kind: str = "text"


@dataclass(frozen=True)
class Card:
    """One headline number: what, the number, and what to compare it with; `behind` if that is no less."""

    title: str
    value: str
    note: str = ""
    behind: bool = False


@dataclass(frozen=True)
class Cards:
    """A row of headline numbers."""

    cards: Sequence[Card]
    title: str = ""
    kind: str = "cards"


@dataclass(frozen=True)
class Table:
    """A table of ready text; `numeric` columns are aligned right, `strong` are the bold (row, column)."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numeric: frozenset[int] = frozenset()
    strong: frozenset[tuple[int, int]] = frozenset()
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A figure under its file name, with what it shows."""

    name: str
    caption: str
    data: bytes
    kind: str = "picture"

    @property
    def width(self) -> int:
        """Width on the page in pixels: a figure's letters are as large as those of its neighbours."""
        return round(int.from_bytes(self.data[16:20], "big") * 100 / DPI)  # the PNG header tells its width

    @property
    def uri(self) -> str:
        """The figure inside the page."""
        return "data:image/png;base64," + base64.b64encode(self.data).decode()


@dataclass(frozen=True)
class PageSection:
    """A section of the page."""

    anchor: str
    title: str
    blocks: list[Any] = field(default_factory=list)


def picture(name: str, figure: Figure, caption: str) -> Picture:
    """A figure as a block."""
    return Picture(name, caption, png(figure))


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """A whole number with thousands separated; a dash where there is none."""
    return "–" if value is None else f"{int(value):,}"


def with_interval(value: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    """`0.712 [0.680, 0.745]`, as much of it as there is."""
    if value is None or low is None or high is None:
        return number(value, digits)
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def plural(n: int, one: str, many: str = "") -> str:
    """`1 gene`, `2 genes`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def text_rows(rows: Iterable[Sequence[Any]]) -> list[list[str]]:
    """Cells as text; none becomes empty."""
    return [["" if cell is None else str(cell) for cell in row] for row in rows]
