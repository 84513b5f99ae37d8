"""Every variant read is scored or rejected exactly once: the check of a merge, in the memory of one chunk.

The chunks of a split are runs of one list in genome order. So a variant that is there twice either stands
beside itself, at one place, or makes the order go back; and what is missing shows as a chunk that differs
from the table that `split_variants` wrote for it. Counts of the split (`split.json`) close the sum with those
that were rejected, or left out by `max_variants`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from megabase.files import FileError, read_json, read_table
from megabase.scoring.keys import row_keys
from megabase.spec import VARIANT_COLUMNS

SPLIT = "split"
_AGAIN = "split the variants again"


class Split:
    """What `split_variants` wrote: how many alleles it read, and the table of each chunk."""

    def __init__(self, path: str | Path) -> None:
        """`path` of `split.json`; FileError if its counts do not sum up."""
        self.folder = Path(path).parent
        info = read_json(path, SPLIT)
        self.alleles, self.rejected, self.left_out = info["alleles"], info["rejected"], info["left_out"]
        self.chunks: dict[str, int] = {c["name"]: c["variants"] for c in info["chunks"]}
        dealt = sum(self.chunks.values())
        if dealt + self.left_out + self.rejected != self.alleles:
            raise FileError(
                f"{path}: {self.alleles} alleles read, {dealt} in chunks, {self.left_out} left out, "
                f"{self.rejected} rejected, which is another sum; {_AGAIN}"
            )

    def check_names(self, names: list[str]) -> None:
        """FileError unless the chunks scored are those of the split, each once and in its order."""
        if names == list(self.chunks):
            return
        missing = [name for name in self.chunks if name not in names]
        if missing:
            table = self.table(missing[0])
            such = f", such as variant {table['variant_id'][0]}" if table.height else ""
            raise FileError(
                f"chunk {missing[0]} of the split is not there: {self.chunks[missing[0]]} variants are not "
                f"scored{such}; score the chunk and merge again"
            )
        wrong = next((n for n in names if n not in self.chunks or names.count(n) > 1), names[0])
        raise FileError(
            f"chunk {wrong} is unknown to the split, there twice or out of order; give the chunks of "
            f"{self.folder}, each once and in order"
        )

    def table(self, name: str) -> pl.DataFrame:
        """Variants of a chunk; FileError if they are not as many as were written."""
        path = self.folder / f"{name}.parquet"
        table = read_table(path, "variants").select(VARIANT_COLUMNS)
        if table.height != self.chunks[name]:
            raise FileError(f"{path}: {table.height} variants, {self.chunks[name]} were written; {_AGAIN}")
        return table

    def check_chunk(self, name: str, scored: pl.DataFrame) -> None:
        """FileError, naming the first variant that differs, unless all variants of a chunk were scored."""
        wanted = self.table(name)
        if scored.select(VARIANT_COLUMNS).equals(wanted):
            return
        found, given = scored["variant_id"], wanted["variant_id"]
        for what, here, there in (("is not scored", given, found), ("was not asked for", found, given)):
            if odd := here.filter(~here.is_in(there.implode())).to_list():
                raise FileError(f"chunk {name}: variant {odd[0]} {what}; score the chunk again")
        pairs = zip(scored.rows(), wanted.rows(), strict=False)
        odd = next((a[0] for a, b in pairs if a != b), given[-1] if len(given) else None)
        raise FileError(f"chunk {name}: variant {odd} is another, or elsewhere, in the split; score it again")


class Ledger:
    """Sees the variants of each chunk once, in order; counts those that are scored."""

    def __init__(self, contigs: Mapping[str, int], split: Split | None) -> None:
        self._rank = {name: i for i, name in enumerate(contigs)}
        self._split = split
        self._last = (-1, "")  # place of the last variant, as one number, and its name
        self._at_last: set[str] = set()  # all variants of that place
        self.scored = 0

    def add(self, variants: pl.DataFrame, chunk: Path) -> None:
        """Count the variants of the next chunk; FileError if one is there twice, unknown or out of order."""
        unknown = set(variants["chrom"].unique()) - set(self._rank)
        if unknown:
            raise FileError(f"{chunk}: variants on {min(unknown)}, no contig of the scored genome; {_AGAIN}")
        if variants.height:
            self._check_order(variants, chunk)
        if self._split is not None:
            self._split.check_chunk(chunk.name, variants)
        self.scored += variants.height

    def _check_order(self, variants: pl.DataFrame, chunk: Path) -> None:
        ids = variants["variant_id"]
        rank = variants["chrom"].replace_strict(self._rank, return_dtype=pl.Int64)
        places = (rank * (1 << 40) + variants["position"]).to_numpy()
        back = np.flatnonzero(np.diff(places, prepend=self._last[0]) < 0)
        if len(back):
            before = ids[int(back[0]) - 1] if back[0] else self._last[1]
            raise FileError(
                f"{chunk}: variant {ids[int(back[0])]} comes after {before}: out of genome order, or there "
                "twice; give the chunks of one split, each once and in order"
            )
        start = ids.filter(places == self._last[0])
        doubled = [*ids.filter(ids.is_duplicated()), *(v for v in start if v in self._at_last)]
        if doubled:
            raise FileError(f"{chunk}: variant {doubled[0]} is there twice; {_AGAIN}")
        kept = self._at_last if places[-1] == self._last[0] else set()
        self._at_last = kept | set(ids.filter(places == places[-1]))
        self._last = (int(places[-1]), ids[-1])

    def close(self, rejected: int) -> None:
        """FileError unless all chunks and rejected rows sum up to what the split counted."""
        if self._split is None:
            return
        written = self._split.rejected
        if rejected != written:
            raise FileError(f"{self._split.folder}: {rejected} rejected rows of {written} written; {_AGAIN}")
        wanted = self._split.alleles - self._split.left_out
        if self.scored + rejected != wanted:
            raise FileError(f"{self.scored} scored and {rejected} rejected of {wanted} variants; {_AGAIN}")


class RowChecker:
    """Sees the rows of a scorer and a chunk in order: each once, and together by variant in their order.

    A scorer without genes has one row a variant; one with genes any number, each gene (or junction) once.
    """

    def __init__(self, scorer: Mapping, variants: pl.Series, keys: np.ndarray, chunk: Path) -> None:
        """variants: the variant_ids of the chunk; keys: `text_keys_of` them."""
        self._name, self._genes, self._chunk = scorer["name"], scorer["genes"], chunk
        self._variants, self._keys = pl.DataFrame({"variant_id": variants}).with_row_index(), keys
        self._rows = self._with_rows = 0
        self._last = -1, set[int]()  # the last variant that has rows, and the keys of its rows

    def add(self, rows: pl.DataFrame) -> np.ndarray:
        """`row_keys` of the next rows; FileError for one of an unknown variant, misplaced or doubled."""
        start, self._rows = self._rows, self._rows + rows.height
        if self._genes:
            return self._check_genes(rows) if rows.height else self._keys[:0]
        wanted, found = self._variants["variant_id"][start : self._rows], rows["variant_id"]
        if not found.equals(wanted):
            pairs = zip(found, wanted, strict=False)
            odd = next((f"{a} in place of {b}" for a, b in pairs if a != b), found[-1])
            self._refuse(f"has a row of variant {odd}, wanted each variant exactly once, in order")
        return row_keys(rows, self._keys[start : self._rows])

    def _check_genes(self, rows: pl.DataFrame) -> np.ndarray:
        ids = rows["variant_id"]
        at = rows.select("variant_id").join(
            self._variants, on="variant_id", how="left", maintain_order="left"
        )
        if at["index"].null_count():
            self._refuse(f"has scores of unknown variant {ids.filter(at['index'].is_null())[0]}")
        at, (last, before) = at["index"].to_numpy().astype(np.int64), self._last
        steps, keys = np.diff(at, prepend=last), row_keys(rows, self._keys[at])
        if (steps < 0).any():
            self._refuse(f"has rows of variant {ids[int(np.argmax(steps < 0))]} out of place")
        if (doubled := pl.Series(keys).is_duplicated()).any() or not before.isdisjoint(
            keys[at == last].tolist()
        ):
            self._refuse(f"has a row of variant {ids[doubled.arg_max() or 0]} twice")
        self._with_rows += int((steps > 0).sum())
        kept = before if at[-1] == last else set()
        self._last = int(at[-1]), kept | set(keys[at == at[-1]].tolist())
        return keys

    def close(self, counts: dict[str, int]) -> None:
        """Add to the counts of the scorer; FileError if a variant is missing."""
        if not self._genes:
            self._with_rows = self._rows
            if self._rows < self._variants.height:
                self._refuse(
                    f"has {self._rows} rows for {self._variants.height} variants, none of variant "
                    f"{self._variants['variant_id'][self._rows]}"
                )
        counts["rows"] += self._rows
        counts["variants"] += self._with_rows

    def _refuse(self, problem: str) -> None:
        raise FileError(f"{self._chunk}: {self._name} {problem}; delete the chunk and score it again")
