"""Track tables of a published checkpoint: its metadata, one text protocol buffer an organism, as our rows.

The metadata lists every channel of every head in order, also the padding (entries called `Padding`), which
our tables leave out and `megabase.channels.Channels` puts back. Splice junctions are listed once a biosample;
their head has a + half and a - half. Source: the metadata files of the published model, in whose words
`OUTPUT_TYPE_RNA_SEQ` is our `rna_seq`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from megabase.channels import TrackRows, rows_by_output
from megabase.files import FileError
from megabase.predictors.textproto import Message, read_textproto
from megabase.spec import OUTPUTS, TRACK_COLUMNS, Kind, OutputType, SiteClass
from megabase.tracks.table import with_strand

PADDING = "padding"
STRANDS = {"STRAND_POSITIVE": "+", "STRAND_NEGATIVE": "-", "STRAND_UNSTRANDED": "."}
_OPPOSITE = {"+": "-", "-": "+"}
_ACCESSION = re.compile(r"\b(ENCSR\d{3}[A-Z]{3}|4DNFI[A-Z0-9]{7})\b")
_TARGETS = ("histone_mark_code", "transcription_factor_code")


@dataclass(frozen=True, slots=True)
class PublishedTracks:
    """What a metadata file tells of one organism.

    widths: channels of every head, padding counted. tracks: rows of TRACK_COLUMNS by output type, without
    padding, in channel order; splice sites have our rows of the five classes.
    """

    widths: dict[OutputType, int]
    tracks: TrackRows


def read_metadata(path: str | Path, organism: str) -> PublishedTracks:
    """Track tables of a metadata file (text protocol buffer, plain or gzip), as those of `organism`.

    `strand_partner` is the channel of the same name on the other strand, counted as in the rows (itself
    without one). Names get their strand behind them, as those of our own tracks do. FileError where padding
    does not stand where `Channels` expects it, strand halves differ, names repeat, or a mean is not positive.
    """
    widths: dict[OutputType, int] = {}
    rows: list[dict[str, Any]] = []
    for block in read_textproto(path).get("output_metadata", []):
        output, entries = _output_of(block, path)
        if output in widths:
            raise FileError(f"{path}: lists {output} twice")
        widths[output] = len(entries)
        found = [_row(entry, output, organism, path) for entry in entries if not _is_padding(entry)]
        _check_order(output, [not _is_padding(entry) for entry in entries], found, path)
        rows += _with_partners(found, output, path)
    if not widths:
        raise FileError(f"{path}: has no output_metadata; wanted the published metadata of one organism")
    return PublishedTracks(widths, rows_by_output(rows, sites=OutputType.SPLICE_SITES in widths))


def is_metadata(path: str | Path) -> bool:
    """Whether a file is published metadata by its name: `.textproto` or `.textproto.gz`."""
    return Path(path).name.removesuffix(".gz").endswith((".textproto", ".txtpb"))


def track_table(path: str | Path, organism: str) -> pl.DataFrame:
    """TRACK_COLUMNS of the measured tracks of a metadata file, in channel order (`read_metadata`)."""
    rows = [row for found in read_metadata(path, organism).tracks.values() for row in found]
    measured = [{key: row.get(key) for key in TRACK_COLUMNS} for row in rows]
    table = pl.DataFrame(measured, infer_schema_length=None)
    return table.filter(pl.col("output_type") != str(OutputType.SPLICE_SITES))


def _output_of(block: Message, path: str | Path) -> tuple[OutputType, list[Message]]:
    """Output type of a block and its entries, one a channel."""
    name = str(_one(block, "output_type", "")).removeprefix("OUTPUT_TYPE_").lower()
    if name not in set(OutputType):
        raise FileError(f"{path}: output type {name!r} is unknown; known: {', '.join(OutputType)}")
    listed = {key: [m for part in block.get(key, []) for m in part.get("metadata", [])] for key in _LISTS}
    if name == OutputType.SPLICE_JUNCTIONS:
        entries = listed["junctions"]
        return OutputType(name), [e | {"strand": [strand]} for strand in _BY_HALVES for e in entries]
    return OutputType(name), listed["tracks"]


_LISTS = ("tracks", "junctions")
_BY_HALVES = ("STRAND_POSITIVE", "STRAND_NEGATIVE")


def _one(message: Message, key: str, default: Any = None) -> Any:
    """The last value of a field, as protocol buffers have it for fields that are not repeated."""
    return message[key][-1] if message.get(key) else default


def _is_padding(entry: Message) -> bool:
    return str(_one(entry, "name", "")).lower() == PADDING


def _row(entry: Message, output: OutputType, organism: str, path: str | Path) -> dict[str, Any]:
    """The row of TRACK_COLUMNS of a metadata entry; partners are given later."""
    name, strand = str(_one(entry, "name", "")), STRANDS.get(_one(entry, "strand"))
    if not name or strand is None:
        raise FileError(
            f"{path}: {output} track {name!r} has strand {_one(entry, 'strand')!r}; every track needs a name "
            f"and one of {', '.join(STRANDS)}"
        )
    sample = _one(entry, "biosample", {})
    mean = _one(entry, "nonzero_mean")
    if mean is not None and not (isinstance(mean, int | float) and 0 < mean < math.inf):
        raise FileError(f"{path}: {output} track {name!r} has nonzero_mean {mean}; wanted a positive number")
    return dict.fromkeys(TRACK_COLUMNS) | {
        "name": with_strand(name, strand), "output_type": output.value, "organism": organism,
        "strand": strand, "ontology_curie": _curie(_one(entry, "ontology_term", {})),
        "biosample_name": _one(sample, "name"), "biosample_type": _words(_one(sample, "type")),
        "life_stage": _one(sample, "stage"), "assay": _one(entry, "assay"),
        "target": next((_one(entry, key) for key in _TARGETS if key in entry), None),
        "data_source": _one(entry, "data_source"), "nonzero_mean": mean if mean is None else float(mean),
        "accessions": ",".join(_ACCESSION.findall(name)) or None,
    }  # fmt: skip


def _curie(term: Message) -> str | None:
    """`UBERON:0000317` of a term's type and number; None without one."""
    if "id" not in term or "ontology_type" not in term:
        return None
    return f"{_one(term, 'ontology_type').removeprefix('ONTOLOGY_TYPE_')}:{_one(term, 'id'):07d}"


def _words(kind: str | None) -> str | None:
    """`primary cell` of `BIOSAMPLE_TYPE_PRIMARY_CELL`."""
    return kind.removeprefix("BIOSAMPLE_TYPE_").lower().replace("_", " ") if kind else None


def _check_order(
    output: OutputType, real: Sequence[bool], rows: Sequence[dict[str, Any]], path: str | Path
) -> None:
    """FileError unless the real channels stand where `Channels` looks for them.

    That is in front, or in front of each half, + before -, of the same names; splice sites are the classes of
    `SiteClass`, of which the last (no site) counts as padding.
    """
    kind = OUTPUTS[output].kind
    halves = 2 if kind in (Kind.USAGE, Kind.JUNCTIONS) else 1
    width, count = len(real) // halves, len(rows) // halves
    wanted = ([True] * count + [False] * (width - count)) * halves
    if list(real) != wanted:
        raise FileError(
            f"{path}: {output} has padding before or between its tracks; wanted it behind them"
            + (", in each half" if halves == 2 else "")
        )
    names = [row["name"] for row in rows]
    if kind is Kind.SITES and names != [f"{n[:-1]} {n[-1]}" for n in SiteClass.NAMES[: SiteClass.NONE]]:
        raise FileError(f"{path}: splice_sites are {names}; wanted {', '.join(SiteClass.NAMES)}")
    if halves == 2:
        plus, minus = rows[:count], rows[count:]
        pairs = [(a["name"][:-1], a["strand"], b["strand"]) for a, b in zip(plus, minus, strict=True)]
        if pairs != [(b["name"][:-1], "+", "-") for b in minus]:
            raise FileError(
                f"{path}: {output}: the second half must be the - strand of the first half's tracks"
            )


def _with_partners(
    rows: Sequence[dict[str, Any]], output: OutputType, path: str | Path
) -> list[dict[str, Any]]:
    """The rows with `strand_partner`; FileError if two have one name."""
    index = {row["name"]: number for number, row in enumerate(rows)}
    if len(index) < len(rows):
        names = [row["name"] for row in rows]
        twice = next(name for name in names if names.count(name) > 1)
        raise FileError(f"{path}: two {output} tracks are called {twice!r}")
    return [row | {"strand_partner": index.get(_partner(row), index[row["name"]])} for row in rows]


def _partner(row: dict[str, Any]) -> str:
    """Name of the same track on the other strand; its own if unstranded."""
    strand = row["strand"]
    return row["name"] if strand == "." else row["name"][: -len(strand)] + _OPPOSITE[strand]
