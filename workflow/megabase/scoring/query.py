"""Reading scores back: rows of a variant, region, gene or biosample, in long (tidy) form.

A tidy row is one variant (x gene, x junction) and one track. A query opens the parts and row groups that hold
its place alone, and nothing that starts slowly, so it takes a fraction of a second whatever the size of the
store. Without a place all parts are read, block by block.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_path, read_json, read_table
from megabase.genome import parse_region
from megabase.scoring.keys import JUNCTION_KEYS, SPREAD, VARIANT_KEYS, raw_matrix
from megabase.scoring.parts import SCORES, read_blocks
from megabase.scoring.places import Place, gene_places, is_gene, parts_at

TRACK_KEYS = ("name", "strand", "ontology_curie", "biosample_name", "assay", "target")
TOGETHER = 32  # parts read at once
BLOCK_ROWS = 200_000  # tidy rows in memory at a time
_VARIANT = re.compile(
    r"(?P<chrom>.+?):(?P<position>[\d,]*\d):(?P<ref>[A-Za-z]+):(?P<alt>.+?)(?P<haplotype>@[12])?"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which scores are asked for; all conditions given hold.

    variant: `chrom:position:ref:alt`, 1-based, with `@1` or `@2` of that haplotype alone. region:
    `chrom:start-end`, 1-based and closed, as people and browsers write it. gene: name, or id with or without
    its version. biosample: its name or ontology term, whatever the case. scorer: its name. min_quantile:
    least |quantile|.
    """

    variant: str | None = None
    region: str | None = None
    gene: str | None = None
    biosample: str | None = None
    scorer: str | None = None
    min_quantile: float | None = None

    @classmethod
    def at(cls, place: str, **more: Any) -> Wanted:
        """What is asked for at a place, which is a variant, a region, or empty."""
        kind = "region" if re.fullmatch(r".+:[\d,]+-[\d,]+", place) else "variant"
        return cls(**({kind: place} if place else {}) | more)

    def places(self, folder: Path, contigs: list[str]) -> list[Place] | None:
        """Where its rows lie; None: anywhere. ValueError for a place that is not one, or not on a contig."""
        if self.variant:
            chrom, position, ref, _ = parse_variant(self.variant)
            return [Place(_known(chrom, contigs), position, position + len(ref))]
        if self.region:
            place = parse_region(self.region)
            return [Place(_known(place.chrom, contigs), place.start, place.end)]
        return gene_places(folder, self.gene) if self.gene else None

    def condition(self) -> pl.Expr:
        """Which rows of a place are meant."""
        found = pl.lit(True)
        if self.variant:
            _, position, ref, alt = parse_variant(self.variant)
            found &= (pl.col("position") == position) & (pl.col("ref") == ref) & (pl.col("alt") == alt)
            if haplotype := _VARIANT.fullmatch(self.variant)["haplotype"]:
                found &= pl.col("variant_id").str.ends_with(haplotype)
        if self.variant and self.region:
            place = parse_region(self.region)
            found &= Place(place.chrom, place.start, place.end).condition(1 << 40)
        return found & is_gene(self.gene) if self.gene else found


def query(
    scores_dir: str | Path, wanted: Wanted, output: str | Path | None = None, *, limit: int | None = None
) -> int:
    """Write the rows wanted as TSV to a file (kind `tidy`), or print them; returns how many there are.

    `#` lines above the header tell where the rows come from, and which scorers have no quantiles. FileError
    for a scorer that the scores lack, ValueError for a place that is not one.
    """
    folder = Path(scores_dir)
    if output is None:
        return _print_tsv(folder, wanted, limit)
    with atomic_path(output) as temporary, temporary.open("wb") as handle:
        inputs = {"scores": hash_path(folder / "scores.json")}
        handle.write(f"#megabase {json.dumps(Stamp('tidy', inputs=inputs).as_dict())}\n".encode())
        return _write_tsv(folder, wanted, handle, limit)


def query_scores(scores_dir: str | Path, wanted: Wanted | None = None, **conditions: Any) -> pl.DataFrame:
    """Tidy rows wanted, in the order of the scorers and variants; errors as of `query`.

    The conditions may be given by name (`variant=`, `gene=`, ...) instead; without any, all rows are meant.
    """
    return pl.concat([empty_tidy(), *tidy_blocks(Path(scores_dir), wanted or Wanted(**conditions))])


def _print_tsv(folder: Path, wanted: Wanted, limit: int | None) -> int:
    """Print the rows; a reader that has enough of them, such as `head`, ends the command without an error."""
    try:
        written = _write_tsv(folder, wanted, sys.stdout.buffer, limit)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing it fails once more
        return 0
    return written


def _write_tsv(folder: Path, wanted: Wanted, handle: BinaryIO, limit: int | None) -> int:
    blocks = tidy_blocks(folder, wanted)
    for line in notes(folder, wanted):
        handle.write(f"#{line}\n".encode())
    handle.write(empty_tidy().write_csv(separator="\t").encode())
    written = 0
    for block in blocks:
        block = block if limit is None else block.head(limit - written)
        handle.write(block.write_csv(separator="\t", include_header=False).encode())
        written += block.height
        if written == limit:
            break
    return written


def notes(folder: Path, wanted: Wanted) -> list[str]:
    """What a reader of the rows must know: scorers without quantiles, and why a variant has no score."""
    info, found = read_json(folder / "scores.json", SCORES), []
    asked = [s for s in info["scorers"] if wanted.scorer in (None, s["name"])]
    if plain := [s["name"] for s in asked if not s["calibrated"]]:
        found.append(f"not calibrated, no quantiles: {', '.join(plain)}")
    path = folder / "rejected.parquet"
    if wanted.variant and path.is_file():
        _, position, ref, alt = parse_variant(wanted.variant)
        rows = pl.scan_parquet(path).filter(
            pl.col("position") == position, pl.col("ref") == ref, pl.col("alt") == alt
        )
        for chrom, reason, detail in rows.select("chrom", "reason", "detail").collect().iter_rows():
            found.append(f"rejected: {chrom}:{position + 1}:{ref}:{alt}: {reason} ({detail})")
    return found


def parse_variant(text: str) -> tuple[str, int, str, str]:
    """Chromosome, 0-based position, REF and ALT of a `variant_id`; ValueError if it is not one.

    Bases in any case; ALT may be any text, as of a structural variant. What names a haplotype (`@1`) is left
    out.
    """
    match = _VARIANT.fullmatch(text)
    if match is None:
        raise ValueError(f"variant {text!r}; wanted chrom:position:ref:alt, 1-based position")
    alt = match["alt"].upper() if match["alt"].isalpha() else match["alt"]
    return match["chrom"], int(match["position"].replace(",", "")) - 1, match["ref"].upper(), alt


def _known(chrom: str, contigs: list[str]) -> str:
    """The chromosome; ValueError if no variant can lie on it."""
    if contigs and chrom not in contigs:
        listed = ", ".join(contigs[:3]) + (", ..." if len(contigs) > 3 else "")
        raise ValueError(f"{chrom} is not a contig of these scores, wanted one of {listed}")
    return chrom


def empty_tidy() -> pl.DataFrame:
    """A tidy table without rows: its columns and types."""
    text = dict.fromkeys(("scorer", "variant_id", "chrom"), pl.String)
    schema = text | {"position": pl.Int64, "ref": pl.String, "alt": pl.String}
    schema |= dict.fromkeys(("gene_id", "gene_name", "gene_strand"), pl.String)
    schema |= dict.fromkeys(JUNCTION_KEYS, pl.Int64) | {"output_type": pl.String}
    schema |= dict.fromkeys([f"track_{k}" if k in ("name", "strand") else k for k in TRACK_KEYS], pl.String)
    numbers = dict.fromkeys(("raw", "quantile", SPREAD), pl.Float32)
    return pl.DataFrame(schema=schema | numbers | {"representation": pl.Float32})


def tidy_blocks(folder: Path, wanted: Wanted) -> Iterator[pl.DataFrame]:
    """Tidy rows wanted, a block at a time; a question that cannot be answered is refused before the first."""
    info = read_json(folder / "scores.json", SCORES)
    tracks = read_table(folder / "tracks.parquet", SCORES)
    names = [wanted.scorer] if wanted.scorer else [s["name"] for s in info["scorers"]]
    places = wanted.places(folder, list(info.get("contigs", {})))
    chosen = {name: tracks_of(tracks, name, wanted.biosample) for name in names}
    found = parts_at(folder, names, places)
    asked = [(name, part, here & wanted.condition()) for name, part, here in found if chosen[name].height]
    tables = _everywhere(asked) if places is None else _at_places(asked)
    return (
        block for name, table in tables for block in _tidy(table, chosen[name], name, wanted.min_quantile)
    )


def _everywhere(parts: Sequence[tuple[str, Path, pl.Expr]]) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rows of each part that meet its condition, block by block: many may."""
    for scorer, part, condition in parts:
        yield from ((scorer, block.filter(condition)) for block in read_blocks(part, SCORES))


def _at_places(parts: Sequence[tuple[str, Path, pl.Expr]]) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rows of each part that meet its condition, which are few; some parts are read at once."""
    for some in (parts[start : start + TOGETHER] for start in range(0, len(parts), TOGETHER)):
        tables = pl.collect_all(pl.scan_parquet(part).filter(here) for _, part, here in some)
        yield from zip((scorer for scorer, *_ in some), tables, strict=True)


def tracks_of(tracks: pl.DataFrame, scorer: str, biosample: str | None) -> pl.DataFrame:
    """Rows of the track table of a scorer, of a biosample (name or ontology term) if one is given."""
    rows = tracks.filter(pl.col("scorer") == scorer).sort("channel")
    if biosample is None:
        return rows
    wanted = biosample.lower()
    columns = ("biosample_name", "ontology_curie")
    return rows.filter(
        pl.any_horizontal(pl.col(c).cast(pl.String).str.to_lowercase() == wanted for c in columns)
    )


def _tidy(
    table: pl.DataFrame, tracks: pl.DataFrame, scorer: str, min_quantile: float | None
) -> Iterator[pl.DataFrame]:
    """Long form of the rows of a scorer for the channels of `tracks`, a block at a time."""
    width, channels = table.schema["raw"].size, tracks["channel"].to_numpy()
    if len(channels) and channels.max() >= width:
        raise FileError(f"scorer {scorer} has {width} tracks, the track table lists more; merge again")
    step = max(1, BLOCK_ROWS // max(len(channels), 1))
    for start in range(0, table.height, step):
        rows = _long(table[start : start + step], tracks, channels, scorer)
        yield rows if min_quantile is None else rows.filter(pl.col("quantile").abs() >= min_quantile)


def _long(table: pl.DataFrame, tracks: pl.DataFrame, channels: np.ndarray, scorer: str) -> pl.DataFrame:
    k = len(channels)
    index = pl.int_range(table.height * k, eager=True)
    repeated, tiled = index // k, index % k  # of rows, of tracks
    keys = table.select(
        pl.lit(scorer).alias("scorer"), *VARIANT_KEYS, "gene_id", "gene_name",
        pl.col("strand").alias("gene_strand"),
        *(pl.col(c) if c in table.columns else pl.lit(None, dtype=pl.Int64).alias(c) for c in JUNCTION_KEYS),
    )[repeated]  # fmt: skip
    represented = pl.col("representation") if "representation" in tracks.columns else pl.lit(None)
    named = tracks.select(
        "output_type", pl.col("name").alias("track_name"), pl.col("strand").alias("track_strand"),
        *(pl.col(c).cast(pl.String) for c in TRACK_KEYS[2:]),
        represented.cast(pl.Float32).alias("representation"),
    )[tiled]  # fmt: skip
    values = [
        pl.Series(c, raw_matrix(table, c)[:, channels].reshape(-1), dtype=pl.Float32, nan_to_null=True)
        if c in table.columns
        else pl.lit(None, dtype=pl.Float32).alias(c)
        for c in ("raw", "quantile", SPREAD)
    ]
    found = pl.concat([keys, named], how="horizontal").with_columns(values)
    return found.select(empty_tidy().columns)
