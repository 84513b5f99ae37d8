"""The files of a chunk of scores, and of its finished batches: tables of the rows that an engine gives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from megabase.files import Stamp, read_table, write_json, write_table
from megabase.representation import represented
from megabase.scoring.composite import COMPOSITE
from megabase.scoring.keys import GENE_KEYS, JUNCTION_KEYS, SPREAD, VARIANT_KEYS
from megabase.scoring.parts import CHUNK, write_part
from megabase.scoring.scorers import Part, Scorer, file_name, scorer_tracks
from megabase.spec import REPRESENTATION_COLUMNS, TRACK_COLUMNS

if TYPE_CHECKING:
    from megabase.scoring.engine import Engine, Rows

_ROW_SCHEMA = {
    "variant_id": pl.String, "chrom": pl.String, "position": pl.Int64, "ref": pl.String, "alt": pl.String,
    "gene_id": pl.String, "gene_name": pl.String, "strand": pl.String,
    "junction_start": pl.Int64, "junction_end": pl.Int64,
}  # fmt: skip


def batch_table(variants: pl.DataFrame, scored: list[dict[str, Rows]]) -> pl.DataFrame:
    """All rows of a batch, of all scorers: `scorer`, the keys, `raw` and `spread` as lists of any length."""
    keys = list(variants.select(VARIANT_KEYS).iter_rows())
    rows, raw, spread = [], [], []
    for key, by_scorer in zip(keys, scored, strict=True):
        for name, result in by_scorer.items():
            spans = result.junctions.tolist() if result.junctions is not None else None
            for i, gene in enumerate(result.genes):
                who = (gene.gene_id, gene.gene_name, gene.strand) if gene else (None, None, None)
                rows.append((name, *key, *who, *(spans[i] if spans else (None, None))))
            raw += list(result.raw.numpy())
            known = getattr(result, SPREAD, None)
            spread += [None] * len(result.genes) if known is None else list(known.numpy())
    schema = {"scorer": pl.String, **_ROW_SCHEMA}
    values = [_lists("raw", raw), _lists(SPREAD, spread)]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(values)


def _lists(name: str, values: Sequence[np.ndarray | None]) -> pl.Series:
    lists = [None if v is None else pl.Series(v, dtype=pl.Float32) for v in values]
    return pl.Series(name, lists, dtype=pl.List(pl.Float32))


def write_chunk(
    folder: Path, engine: Engine, table: pl.DataFrame, parts: Sequence[Path], stamp: Stamp
) -> None:
    """Write the files of a chunk folder from its finished batches, one of which is in memory at a time."""
    tracks = represented(engine.tracks)
    channels = {s.name: scorer_tracks(s, tracks) for s in engine.scorers}
    columns = {s.name: (_keys(s), len(channels[s.name])) for s in engine.scorers}
    if getattr(engine, "with_composite", False):
        columns[COMPOSITE] = [*VARIANT_KEYS, *GENE_KEYS], 1
    with_spread = _scorers_with_spread(parts)
    with ExitStack() as files:
        paths = {name: folder / f"{file_name(name)}.parquet" for name in columns}
        writers = {name: files.enter_context(write_part(path, stamp)) for name, path in paths.items()}
        for rows in chain([empty_rows()], (read_table(part, CHUNK) for part in parts)):
            for name, (keys, width) in columns.items():
                lists = ["raw", SPREAD] if name in with_spread else ["raw"]
                found = rows.filter(pl.col("scorer") == name)
                writers[name].write(found.select(*keys, *(pl.col(c).list.to_array(width) for c in lists)))
    write_table(table, folder / "variants.parquet", stamp)
    write_table(track_table(engine.scorers, channels, engine.organism), folder / "tracks.parquet", stamp)
    info = {
        "model": engine.predictor.name,
        "organism": engine.organism,
        "window": engine.settings.window,
        "variants": table.height,
        "contigs": engine.genome.lengths,
        "scorers": [s.as_dict() for s in engine.scorers],
    }
    if with_spread:
        # scorers whose rows tell how far the members of an ensemble differ
        info["spread"] = [name for name in columns if name in with_spread]
    write_json(info, folder / "chunk.json", stamp)


def empty_rows() -> pl.DataFrame:
    """A batch table without rows."""
    lists = dict.fromkeys(("raw", SPREAD), pl.List(pl.Float32))
    return pl.DataFrame(schema={"scorer": pl.String, **_ROW_SCHEMA, **lists})


def _keys(scorer: Scorer) -> list[str]:
    junctions = JUNCTION_KEYS if scorer.part is Part.JUNCTIONS else ()
    return [*VARIANT_KEYS, *GENE_KEYS, *junctions]


def _scorers_with_spread(parts: Sequence[Path]) -> set[str]:
    """Names of the scorers of which a batch has rows with a spread."""
    found: set[str] = set()
    for part in parts:
        known = pl.scan_parquet(part).filter(pl.col(SPREAD).is_not_null()).select("scorer").unique()
        found.update(known.collect()["scorer"])
    return found


def track_table(scorers: Sequence[Scorer], channels: dict[str, list[dict]], organism: str) -> pl.DataFrame:
    """Rows of all scorers in channel order: `scorer`, `channel`, TRACK_COLUMNS, REPRESENTATION_COLUMNS."""
    rows = [
        row | {"scorer": s.name, "channel": i, "organism": organism}
        for s in scorers
        for i, row in enumerate(channels[s.name])
    ]
    columns = ["scorer", "channel", *TRACK_COLUMNS, *REPRESENTATION_COLUMNS]
    frame = pl.DataFrame([{c: row.get(c) for c in columns} for row in rows], infer_schema_length=None)
    kinds = dict.fromkeys(["channel", *REPRESENTATION_COLUMNS], pl.Int64) | {"representation": pl.Float64}
    return frame.select(columns).cast(kinds)
