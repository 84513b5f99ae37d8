"""The uncertainty of a score: how far the members of an ensemble differ in it.

An ensemble's chunks hold a column `spread` beside `raw`: the standard deviation of each score over the
members, in the units of the score. A single model has none of its own; its scores may be given that of an
ensemble which scored the same variants, row by row (variant, gene, junction). A row that the ensemble lacks,
such as a junction that it does not see, has NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from megabase.files import FileError, hash_path, read_json, read_table
from megabase.scoring.keys import SPREAD, matrix_column, raw_matrix, row_keys
from megabase.scoring.parts import CHUNK
from megabase.spec import file_name


class Spreads:
    """Where the spread of the scores of a merge comes from: their own chunks, an ensemble's, or nowhere."""

    def __init__(self, folder: Path | None, chunks: Sequence[Path], infos: Sequence[Mapping]) -> None:
        """folder: of the ensemble's chunks, named as those of the scores. FileError if they do not fit."""
        self._folder, self._chunks = folder, chunks
        self._own = {name for info in infos for name in info.get("spread", ())}
        self._joined: set[str] = set()
        self.model = infos[0]["model"]
        if folder is None:
            return
        others = [read_json(folder / chunk.name / "chunk.json", CHUNK) for chunk in chunks]
        for chunk, other, info in zip(chunks, others, infos, strict=True):
            for key in ("organism", "window", "variants"):
                if other[key] != info[key]:
                    raise FileError(
                        f"{folder / chunk.name}: {key} {other[key]}, the scores of {chunk} have {info[key]}; "
                        "score both models alike"
                    )
        self._joined = {name for other in others for name in other.get("spread", ())} - self._own
        if not (self._joined or self._own):
            raise FileError(
                f"{folder}: {others[0]['model']} tells no spread of its scores; wanted an ensemble, name one "
                "under scoring.uncertainty"
            )
        self.model = others[0]["model"]
        self._check_tracks()

    def has(self, scorer: str) -> bool:
        """Whether the spread of a scorer's scores is known."""
        return scorer in self._own or scorer in self._joined

    def hashes(self) -> dict[str, str]:
        """`{role: hash}` of the ensemble's chunks."""
        if self._folder is None:
            return {}
        files = [self._folder / chunk.name / "chunk.json" for chunk in self._chunks]
        return {f"uncertainty-{i:05d}": hash_path(file) for i, file in enumerate(files)}

    def open(self, chunk: Path, scorer: str) -> ChunkSpread:
        """The spread of a scorer's rows in a chunk."""
        if scorer not in self._joined:
            return ChunkSpread(self.has(scorer), None)
        return ChunkSpread(
            True, read_table(self._folder / chunk.name / f"{file_name(scorer)}.parquet", CHUNK)
        )

    def _check_tracks(self) -> None:
        """FileError unless both models have the same tracks in the scorers whose spread is joined."""
        columns = ["scorer", "channel", "name", "strand"]
        first = [folder / self._chunks[0].name for folder in (self._folder, self._chunks[0].parent)]
        tables = [
            read_table(path / "tracks.parquet", CHUNK)
            .select(columns)
            .filter(pl.col("scorer").is_in(list(self._joined)))
            .sort("scorer", "channel")
            for path in first
        ]
        if not tables[0].equals(tables[1]):
            raise FileError(
                f"{first[0]}: its tracks are not those of {first[1]}; wanted models of one training"
            )


class ChunkSpread:
    """The spread of one scorer in one chunk: of its own rows, or of an ensemble's."""

    def __init__(self, known: bool, other: pl.DataFrame | None) -> None:
        self._known, self._joins = known, other is not None
        if other is not None:
            keys = row_keys(other)
            order = np.argsort(keys, kind="stable")
            self._keys = keys[order]
            self._values = raw_matrix(other, SPREAD)[order] if SPREAD in other.columns else None

    def join(self, rows: pl.DataFrame, keys: np.ndarray) -> pl.DataFrame:
        """Rows, of these `row_keys`, with the column `spread` where it is known."""
        if not self._known or (SPREAD in rows.columns and not self._joins):
            return rows
        width = rows.schema["raw"].size
        values = self._found(keys, width) if self._joins else None
        return rows.with_columns(matrix_column(SPREAD, values, width))

    def _found(self, wanted: np.ndarray, width: int) -> np.ndarray:
        """Spread float32 [N, tracks] of the rows of these keys; NaN where there is none."""
        found = np.full((len(wanted), width), np.nan, np.float32)
        if self._values is not None and len(self._values):
            at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
            same = self._keys[at] == wanted
            found[same] = self._values[at[same]]
        return found
