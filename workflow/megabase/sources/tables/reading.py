"""Files of published tables: text, Parquet, Feather or archives of them; only wanted columns are read.

Text is read a block at a time: memory is that of the wanted columns of the rows that are kept.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from megabase.files import FileError

BLOCK = 1 << 25  # bytes of text that are parsed at a time
Names = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Part:
    """One file of a source, or one member of its archive: its name for messages, and what can be read."""

    name: str
    data: Path | io.BytesIO


def parts_of(path: str | Path, suffix: str = "") -> Iterator[Part]:
    """The file itself or, of a .tar, its members that end in `suffix`, in the order of their names."""
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path}: not found")
    if ".tar" not in path.suffixes and path.suffix != ".tgz":
        yield Part(str(path), path)
        return
    try:
        with tarfile.open(path) as archive:
            members = {m.name: m for m in archive.getmembers() if m.isfile() and m.name.endswith(suffix)}
            if not members:
                raise FileError(f"{path}: has no member that ends in {suffix}; it is another archive")
            for name in sorted(members):
                handle = archive.extractfile(members[name])
                yield Part(f"{path}:{name}", io.BytesIO(handle.read() if handle else b""))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise FileError(f"{path}: cannot be read as an archive ({error}); fetch it again") from error


def pick(
    part: Part, names: Names, what: str, *, hidden: Sequence[str] = (), least: tuple[str, float] | None = None
) -> pl.DataFrame:
    """The columns of a table by our names, and `row`, the 1-based number of each in the file.

    names: by our name the possible names in the file, of which the first that is there counts. One that ends
    in `?` may be missing: its column is then null. hidden: columns of the file that are never read. least:
    (our name, number): rows whose number there is smaller are no part of the result. FileError names the
    columns that are missing, and those that were found.
    """
    header = [name for name in column_names(part) if name not in hidden]
    chosen = _chosen(names, header, part, what)
    tables, rows = [], 0
    for block in _blocks(part, sorted({name for name in chosen.values() if name is not None})):
        taken = {
            ours: pl.lit(None, pl.String) if theirs is None else pl.col(theirs)
            for ours, theirs in chosen.items()
        }
        table = block.select(**taken).with_row_index("row", offset=rows + 1).cast({"row": pl.Int64})
        rows += block.height
        if least is not None:
            small = pl.col(least[0]).cast(pl.Float64, strict=False) < least[1]
            table = table.filter(~small.fill_null(False))
        tables.append(table)
    return pl.concat(tables)


def _chosen(names: Names, header: Sequence[str], part: Part, what: str) -> dict[str, str | None]:
    """The file's name of each of our columns, None where an optional one is missing."""
    chosen: dict[str, str | None] = {}
    missing = []
    for ours, theirs in names.items():
        options = [theirs] if isinstance(theirs, str) else list(theirs)
        chosen[ours] = next((o.rstrip("?") for o in options if o.rstrip("?") in header), None)
        if chosen[ours] is None and not options[-1].endswith("?"):
            missing.append(" or ".join(options))
    if missing:
        raise FileError(
            f"{part.name}: no column {', '.join(missing)}; found {', '.join(header)}; wanted {what}"
        )
    return chosen


def column_names(part: Part) -> list[str]:
    """Names of the columns of a table; no value is read."""
    kind = _kind(part)
    try:
        if kind == "parquet":
            return list(pl.read_parquet_schema(part.data))
        if kind == "feather":
            return list(pl.read_ipc_schema(part.data))
        with _text(part) as lines:
            return _header(lines.readline())
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise _unreadable(part, error) from error


def _blocks(part: Part, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The wanted columns, all rows of Parquet and Feather, of text a block of strings at a time."""
    kind = _kind(part)
    try:
        if kind == "parquet":
            yield pl.read_parquet(part.data, columns=columns)
        elif kind == "feather":
            yield pl.read_ipc(part.data, columns=columns)
        else:
            yield from _text_blocks(part, columns)
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise _unreadable(part, error) from error


def _text_blocks(part: Part, columns: list[str]) -> Iterator[pl.DataFrame]:
    with _text(part) as lines:
        header = _header(lines.readline())
        rest, first = b"", True
        while True:
            block = lines.read(BLOCK)
            whole, rest = _whole_lines(rest + block, last=not block)
            if whole or first:
                yield parse_text(("\t".join(header) + "\n").encode() + whole).select(columns)
                first = False
            if not block:
                return


def _whole_lines(text: bytes, *, last: bool) -> tuple[bytes, bytes]:
    """(whole lines, the beginning of one that is not whole yet)."""
    cut = len(text) if last else text.rfind(b"\n") + 1
    return text[:cut], text[cut:]


def parse_text(text: bytes, **options: bool) -> pl.DataFrame:
    """A tab-separated table of strings; `NA` and nothing are null."""
    return pl.read_csv(
        text, separator="\t", infer_schema_length=0, quote_char=None, null_values=["NA", ""], **options
    )


def read_headless(part: Part, columns: Sequence[str]) -> pl.DataFrame:
    """A text table without a header, its first columns by these names; FileError if it has fewer."""
    try:
        with _text(part) as lines:
            table = parse_text(lines.read(), has_header=False)
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise _unreadable(part, error) from error
    if table.width < len(columns):
        raise FileError(f"{part.name}: {table.width} columns, wanted {', '.join(columns)}, without a header")
    return table.select(**{name: pl.col(table.columns[n]) for n, name in enumerate(columns)})


def _header(line: bytes) -> list[str]:
    return line.decode("utf-8-sig", "replace").rstrip("\r\n").split("\t")


def _kind(part: Part) -> str:
    first = _first_bytes(part.data)
    if first.startswith(b"PAR1"):
        return "parquet"
    return "feather" if first.startswith((b"ARROW1", b"FEA1")) else "text"


def _first_bytes(data: Path | io.BytesIO) -> bytes:
    if isinstance(data, Path):
        with data.open("rb") as handle:
            return handle.read(8)
    data.seek(0)
    first = data.read(8)
    data.seek(0)
    return first


def _text(part: Part) -> IO[bytes]:
    """The text of a file, plain or gzip (bgzip too), from its beginning."""
    packed = _first_bytes(part.data).startswith(b"\x1f\x8b")
    if isinstance(part.data, Path):
        return gzip.open(part.data) if packed else part.data.open("rb")  # type: ignore[return-value]
    plain = io.BytesIO(part.data.getvalue())
    return gzip.GzipFile(fileobj=plain) if packed else plain  # type: ignore[return-value]


def _unreadable(part: Part, error: Exception) -> FileError:
    return FileError(f"{part.name}: cannot be read as a table ({str(error).splitlines()[0]}); fetch it again")
