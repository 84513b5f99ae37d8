"""The VCF view of scores: one record a variant, the largest effect of each modality in INFO fields.

The largest effect is the one of the largest |quantile|, of the largest |raw| among equals or where nothing
is calibrated. Positions become 1-based here. The active scorers say where an element is active, not what a
variant does, and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from megabase import __version__
from megabase.files import FileError, atomic_path
from megabase.scoring.chunks import VARIANT_KEYS, raw_matrix

_EFFECT_SCHEMA = {
    "variant_id": pl.String, "raw": pl.Float32, "quantile": pl.Float32, "channel": pl.Int64,
    "gene": pl.String,
}  # fmt: skip


def is_effect(scorer: Mapping) -> bool:
    """Whether a scorer tells what a variant changes (the active ones do not)."""
    return not str(scorer["aggregation"]).startswith("active")


def largest_effects(table: pl.DataFrame) -> pl.DataFrame:
    """The row and track of the largest effect of each variant: variant_id, raw, quantile, channel, gene.

    table: rows of one scorer with `raw` and `quantile`. Variants whose scores are all NaN are left out.
    """
    raw, quantile = raw_matrix(table), raw_matrix(table, "quantile")
    if not raw.size:
        return pl.DataFrame(schema=_EFFECT_SCHEMA)
    size = np.nan_to_num(np.abs(raw), nan=-1.0, posinf=np.finfo(np.float32).max)
    first = np.where(np.isnan(raw), -1.0, np.nan_to_num(np.abs(quantile), nan=0.0))
    second = np.where(first == first.max(1, keepdims=True), size, -2.0)
    channel = second.argmax(1)
    at = (np.arange(len(raw)), channel)
    gene = pl.col("gene_name").fill_null(pl.col("gene_id")).alias("gene")
    rows = table.select("variant_id", gene).with_columns(
        pl.Series("raw", raw[at]), pl.Series("quantile", quantile[at], nan_to_null=True),
        pl.Series("channel", channel.astype(np.int64)),
        pl.Series("first", first[at]), pl.Series("second", second[at]),
    )  # fmt: skip
    best = rows.filter(pl.col("raw").is_not_nan()).sort(
        "first", "second", descending=True, maintain_order=True
    )
    return best.unique("variant_id", keep="first", maintain_order=True).select(list(_EFFECT_SCHEMA))


class Summary:
    """Collects the largest effects chunk by chunk and writes them as a bgzipped, indexed VCF."""

    def __init__(self, contigs: Mapping[str, int], scorers: Sequence[Mapping], tracks: pl.DataFrame) -> None:
        self.contigs = contigs
        self.scorers = [s for s in scorers if is_effect(s)]
        self._labels = {s["name"]: _labels(tracks, s["name"]) for s in self.scorers}
        self._variants: list[pl.DataFrame] = []
        self._effects: dict[str, list[pl.DataFrame]] = {s["name"]: [] for s in self.scorers}

    def add_variants(self, variants: pl.DataFrame) -> None:
        """Add the variants of a chunk (columns of `VARIANT_KEYS` and `source_id`)."""
        self._variants.append(variants.select(*VARIANT_KEYS, "source_id"))

    def add_scores(self, table: pl.DataFrame, scorer: str) -> None:
        """Add the merged rows of one scorer in a chunk."""
        if scorer in self._effects:
            self._effects[scorer].append(largest_effects(table))

    def write(self, path: str | Path) -> None:
        """Write `path` (bgzip) and its `.tbi`, records in the order of the contigs."""
        import pysam

        table = self._joined()
        with atomic_path(path) as temporary:
            with pysam.BGZFile(str(temporary), "wb") as handle:
                handle.write(self._header().encode())
                for row in table.iter_rows(named=True):
                    handle.write(self._record(row).encode())
        pysam.tabix_index(str(path), preset="vcf", force=True)

    def _joined(self) -> pl.DataFrame:
        """One row a variant in genome order, effect columns `{scorer}/raw` and so on."""
        table = pl.concat(self._variants)
        unknown = set(table["chrom"].unique()) - set(self.contigs)
        if unknown:
            raise FileError(f"variants on {min(unknown)}, which is not a contig of the scored genome")
        order = pl.col("chrom").replace_strict(
            {name: i for i, name in enumerate(self.contigs)}, return_dtype=pl.Int64, default=None
        )
        table = table.sort(order, "position", "ref", "alt", maintain_order=True)
        for name, effects in self._effects.items():
            renamed = pl.concat(effects).rename(
                {c: f"{name}/{c}" for c in _EFFECT_SCHEMA if c != "variant_id"}
            )
            table = table.join(renamed, on="variant_id", how="left", maintain_order="left")
        return table

    def _header(self) -> str:
        """Header lines: format, source, contigs with lengths, one declaration a field."""
        lines = ["##fileformat=VCFv4.2", f"##source=megabase-{__version__}"]
        lines += ['##FILTER=<ID=PASS,Description="All filters passed">']
        lines += [f"##contig=<ID={name},length={length}>" for name, length in self.contigs.items()]
        for scorer in self.scorers:
            field, what = info_name(scorer["name"]), f"largest effect by {scorer['name']}"
            lines += [
                _declare(field, "Float", f"Raw score of the {what}"),
                _declare(f"{field}_Q", "Float", f"Quantile of the {what} among common variants"),
                _declare(f"{field}_TRACK", "String", f"Track|biosample of the {what}"),
            ]
            if scorer["genes"]:
                lines.append(_declare(f"{field}_GENE", "String", f"Gene of the {what}"))
        return "\n".join(lines) + "\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"

    def _record(self, row: dict) -> str:
        fields = []
        for scorer in self.scorers:
            name, field = scorer["name"], info_name(scorer["name"])
            if row[f"{name}/raw"] is None:
                continue
            fields.append(f"{field}={row[f'{name}/raw']:.6g}")
            if row[f"{name}/quantile"] is not None:
                fields.append(f"{field}_Q={row[f'{name}/quantile']:.6g}")
            fields.append(f"{field}_TRACK={self._labels[name][row[f'{name}/channel']]}")
            if scorer["genes"] and row[f"{name}/gene"]:
                fields.append(f"{field}_GENE={_escape(row[f'{name}/gene'])}")
        identifier = _escape(row["source_id"] or ".")
        place = f"{row['chrom']}\t{row['position'] + 1}\t{identifier}\t{row['ref']}\t{row['alt']}"
        return f"{place}\t.\tPASS\t{';'.join(fields) or '.'}\n"


def info_name(scorer: str) -> str:
    """INFO key of a scorer: upper case, letters, digits and underscores only."""
    return "MB_" + re.sub(r"[^A-Z0-9_]", "_", scorer.upper())


def _declare(name: str, kind: str, what: str) -> str:
    return f'##INFO=<ID={name},Number=1,Type={kind},Description="{what}">'


def _escape(text: str) -> str:
    """Text without the characters that VCF reserves, percent-encoded; spaces become underscores."""
    return re.sub(r"[%;=,\t\r\n]", lambda m: f"%{ord(m.group()):02X}", text).replace(" ", "_")


def _labels(tracks: pl.DataFrame, scorer: str) -> list[str]:
    rows = tracks.filter(pl.col("scorer") == scorer).sort("channel")
    names = rows.select("name", "biosample_name").iter_rows()
    return [_escape(f"{name}|{biosample}" if biosample else str(name)) for name, biosample in names]
