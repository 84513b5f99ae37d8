"""The VCF view of scores: one record a variant, the largest effect of each modality in INFO fields.

The largest effect is the one of the largest |quantile|, of the largest |raw| among equals or where nothing
is calibrated. Positions become 1-based here. Written chunk by chunk, so the variants must come in genome
order. Structural variants are written as VCF does, `<DEL>` with its END. The active scorers say where an
element is active, not what a variant does: left out. Characters that VCF reserves are percent-encoded
(VCF 4.3, 1.2), spaces too, since VCF 4.2 forbids them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl

from megabase import __version__
from megabase.scoring.keys import SPREAD, raw_matrix

_EFFECT_SCHEMA = {
    "variant_id": pl.String, "raw": pl.Float32, "quantile": pl.Float32, "spread": pl.Float32,
    "channel": pl.Int64, "gene": pl.String,
}  # fmt: skip
LINES = 20_000  # records of the VCF whose text is in memory at a time
_TBI_BASES = 1 << 29  # no contig of a .tbi index may be longer; a .csi index takes any
_RESERVED = re.compile(r"[%:;=,\s]")
_SPAN = r"^<(\w+):END=(\d+)>$"  # `megabase.structural`
_STRUCTURAL = (
    '##ALT=<ID=DEL,Description="Deletion of the bases POS + 1 to END">',
    '##ALT=<ID=DUP,Description="Tandem duplication of the bases POS + 1 to END">',
    '##ALT=<ID=INV,Description="Inversion of the bases POS + 1 to END">',
    '##ALT=<ID=HAP,Description="All alleles of a haplotype in POS to END">',
    '##INFO=<ID=END,Number=1,Type=Integer,Description="Last base of a structural variant">',
    '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="Type of structural variant">',
)


def is_effect(scorer: Mapping) -> bool:
    """Whether a scorer tells what a variant changes (the active ones do not)."""
    return not str(scorer["aggregation"]).startswith("active")


def largest_effects(table: pl.DataFrame) -> pl.DataFrame:
    """The row and track of the largest effect of each variant.

    table: rows of one scorer with `raw`, `quantile` and, where it is known, `spread`. Columns variant_id,
    raw, quantile, spread, channel, gene. Variants whose scores are all NaN are left out.
    """
    return largest_of([_effects(table)]).select(list(_EFFECT_SCHEMA))


def _effects(table: pl.DataFrame) -> pl.DataFrame:
    """The largest track of each row that has a score, and how large: `first`, among equals `second`."""
    raw, quantile = raw_matrix(table), raw_matrix(table, "quantile")
    if not raw.size:
        return pl.DataFrame(schema=_EFFECT_SCHEMA | {"first": pl.Float32, "second": pl.Float32})
    channel, first, second = largest_tracks(table)
    at = (np.arange(len(raw)), channel)
    spread = (
        raw_matrix(table, SPREAD)[at] if SPREAD in table.columns else np.full(len(raw), np.nan, np.float32)
    )
    gene = pl.col("gene_name").fill_null(pl.col("gene_id")).alias("gene")
    rows = table.select("variant_id", gene).with_columns(
        pl.Series("raw", raw[at]), pl.Series("quantile", quantile[at], nan_to_null=True),
        pl.Series("spread", spread, nan_to_null=True), pl.Series("channel", channel.astype(np.int64)),
        pl.Series("first", first), pl.Series("second", second),
    )  # fmt: skip
    return rows.filter(pl.col("raw").is_not_nan())


def largest_tracks(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(track, first, second) [rows]: the largest track of each row, and how large: by |quantile|, by |raw|.

    A row that has no score has the `first` -1.
    """
    raw, quantile = raw_matrix(table), raw_matrix(table, "quantile")
    size = np.nan_to_num(np.abs(raw), nan=-1.0, posinf=np.finfo(np.float32).max)
    first = np.where(np.isnan(raw), -1.0, np.nan_to_num(np.abs(quantile), nan=0.0))
    second = np.where(first == first.max(1, keepdims=True), size, -2.0)
    channel = second.argmax(1)
    at = (np.arange(len(raw)), channel)
    return channel, first[at], second[at]


def largest_of(blocks: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The largest effect of each variant, of rows that may hold several a variant."""
    rows = pl.concat(blocks)
    if not rows["variant_id"].is_duplicated().any():
        return rows
    return rows.sort("first", "second", descending=True, maintain_order=True).unique(
        "variant_id", keep="first", maintain_order=True
    )


def aligned(variants: pl.Series, blocks: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The largest effect of each of the variants in their order; nulls where one has none."""
    found = largest_of(blocks)
    if found.height == len(variants) and found["variant_id"].equals(variants):
        return found
    return pl.DataFrame({"variant_id": variants}).join(
        found, on="variant_id", how="left", maintain_order="left"
    )


class SummaryWriter:
    """Writes the largest effects chunk by chunk as a bgzipped VCF, then its index.

    path: `.vcf.gz`, in a folder that appears as a whole. scorers: descriptions with `calibrated`. spread:
    names of the scorers whose uncertainty is known. about: header lines `##{key}={value}`.
    """

    def __init__(
        self,
        path: str | Path,
        contigs: Mapping[str, int],
        scorers: Sequence[Mapping],
        tracks: pl.DataFrame,
        spread: Sequence[str] = (),
        about: Mapping[str, object] | None = None,
    ) -> None:
        import pysam

        self.path, self._contigs, self._spread = Path(path), contigs, set(spread)
        self.scorers = [s for s in scorers if is_effect(s)]
        self._of_genes = {s["name"] for s in self.scorers if s["genes"]}
        self._labels = {s["name"]: _labels(tracks, s["name"]) for s in self.scorers}
        self._blocks: dict[str, list[pl.DataFrame]] = {}
        self._worker = ThreadPoolExecutor(1)  # the text of a chunk is made while the next one is merged
        self._pending: Future | None = None
        self._file = pysam.BGZFile(str(self.path), "w3")  # level 6: 15% smaller, 2.4 times the time
        self._file.write(self._header(about or {}).encode())

    def add_scores(self, rows: pl.DataFrame, scorer: str) -> None:
        """Add merged rows of one scorer of the chunk that `add_variants` will name."""
        if scorer in self._labels:
            found = _effects(rows)
            several = scorer in self._of_genes
            self._blocks.setdefault(scorer, []).append(largest_of([found]) if several else found)

    def add_variants(self, variants: pl.DataFrame) -> None:
        """Write the records of a chunk: its variants, and the effects added since the last one."""
        if self._pending is not None:
            self._pending.result()  # one chunk waits at most, and an error is told
        self._pending = self._worker.submit(self._write, variants, self._blocks)
        self._blocks = {}

    def _write(self, variants: pl.DataFrame, effects: Mapping[str, list[pl.DataFrame]]) -> None:
        found = {name: aligned(variants["variant_id"], blocks) for name, blocks in effects.items()}
        for start in range(0, variants.height, LINES):
            here = slice(start, start + LINES)
            info = [found[s["name"]][here].select(self._info(s)) for s in self.scorers if s["name"] in found]
            self._file.write(_records(variants[here], info))

    def close(self) -> None:
        """End the file and index it: `.tbi`, or `.csi` where a contig is too long for it."""
        import pysam

        self.abandon()
        if self._pending is not None:
            self._pending.result()
        long = max(self._contigs.values(), default=0) > _TBI_BASES
        pysam.tabix_index(str(self.path), preset="vcf", force=True, csi=long)

    def abandon(self) -> None:
        """Close the file, as after a merge that failed; what is written of it is left."""
        self._worker.shutdown()
        self._file.close()

    def _header(self, about: Mapping[str, object]) -> str:
        """Header lines: format, source, contigs with lengths, one declaration a field."""
        lines = ["##fileformat=VCFv4.3", f"##source=megabase-{__version__}"]
        lines += [f"##{key}={value}" for key, value in about.items()]
        lines += ['##FILTER=<ID=PASS,Description="All filters passed">']
        lines += [f"##contig=<ID={name},length={length}>" for name, length in self._contigs.items()]
        lines += _STRUCTURAL
        for scorer in self.scorers:
            name = scorer["name"]
            field, what = info_name(name), f"largest effect by {name}"
            if scorer["calibrated"]:
                lines += [
                    _declare(field, "Float", f"Raw score of the {what}"),
                    _declare(f"{field}_Q", "Float", f"Quantile of the {what} among background variants"),
                ]
            else:
                lines.append(
                    _declare(field, "Float", f"Raw score of the {what}; not calibrated, no quantile")
                )
            if name in self._spread:
                spread = f"Standard deviation over the ensemble of the score of the {what}"
                lines.append(_declare(f"{field}_SD", "Float", spread))
            lines.append(_declare(f"{field}_TRACK", "String", f"Track|biosample of the {what}"))
            if scorer["genes"]:
                lines.append(_declare(f"{field}_GENE", "String", f"Gene of the {what}"))
        return "\n".join(lines) + "\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"

    def _info(self, scorer: Mapping) -> pl.Expr:
        """INFO fields of one scorer, as a column of its name."""
        name, field = scorer["name"], info_name(scorer["name"])
        track = pl.col("channel").replace_strict(
            dict(enumerate(self._labels[name])), return_dtype=pl.String, default=None
        )
        parts = [_field(field, _number("raw")), _field(f"{field}_Q", _number("quantile"))]
        if name in self._spread:
            parts.append(_field(f"{field}_SD", _number("spread")))
        parts.append(_field(f"{field}_TRACK", track))
        if scorer["genes"]:
            parts.append(_field(f"{field}_GENE", _escaped(pl.col("gene"))))
        text = pl.concat_str(parts, separator=";", ignore_nulls=True)
        return pl.when(pl.col("raw").is_not_null()).then(text).alias(name)


def _field(name: str, value: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit(f"{name}="), value)  # null where the value is


def _number(column: str) -> pl.Expr:
    """A float32 column as text, six digits."""
    return pl.col(column).round_sig_figs(6).cast(pl.String)


def _records(variants: pl.DataFrame, info: Sequence[pl.DataFrame]) -> bytes:
    """Lines of a VCF: variants, and the INFO fields of each scorer, null where it has none."""
    alt = pl.col("alt")
    lines = variants.select(
        "chrom", pl.col("position") + 1, pl.col("source_id").fill_null("."), "ref",
        alt.str.replace(_SPAN, "<$1>"), pl.lit(".").alias("quality"), pl.lit("PASS").alias("filter"),
    )  # fmt: skip
    span = alt.str.extract_groups(_SPAN).struct
    event = variants.select(
        pl.when(alt.str.contains(_SPAN))
        .then(pl.concat_str(pl.lit("END="), span.field("2"), pl.lit(";SVTYPE="), span.field("1")))
        .when(alt.str.contains(r"[\[\].]"))
        .then(pl.lit("SVTYPE=BND"))
        .alias("event")
    )
    joined = pl.concat([event, *info], how="horizontal").select(
        pl.concat_str(pl.all(), separator=";", ignore_nulls=True).alias("info")
    )
    filled = pl.when(pl.col("info") == "").then(pl.lit(".")).otherwise("info").alias("info")
    lines = pl.concat([lines, joined.select(filled)], how="horizontal")
    text = BytesIO()
    lines.write_csv(text, separator="\t", include_header=False, quote_style="never")
    return text.getvalue()


def info_name(scorer: str) -> str:
    """INFO key of a scorer: upper case, letters, digits and underscores only."""
    return "MB_" + re.sub(r"[^A-Z0-9_]", "_", scorer.upper())


def _declare(name: str, kind: str, what: str) -> str:
    return f'##INFO=<ID={name},Number=1,Type={kind},Description="{what}">'


def escape(text: str) -> str:
    """Text without the characters that VCF reserves: percent-encoded, as `urllib.parse.unquote` reads it."""
    return _RESERVED.sub(lambda m: "".join(f"%{byte:02X}" for byte in m.group().encode()), text)


def _escaped(column: pl.Expr) -> pl.Expr:
    """A text column, escaped; its texts are few (genes), so each is looked at once."""

    def escape_all(texts: pl.Series) -> pl.Series:
        known = {text: escape(text) for text in texts.unique().drop_nulls()}
        return texts.replace_strict(known, return_dtype=pl.String, default=None) if known else texts

    return column.map_batches(escape_all, return_dtype=pl.String)


def _labels(tracks: pl.DataFrame, scorer: str) -> list[str]:
    rows = tracks.filter(pl.col("scorer") == scorer).sort("channel")
    names = rows.select("name", "biosample_name").iter_rows()
    return [escape(f"{name}|{biosample}" if biosample else str(name)) for name, biosample in names]
