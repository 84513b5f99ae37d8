"""Scores of every SNV of a place as tracks: a bigWig a scorer for genome browsers, and Zarr arrays of all.

Read from the merged scores of a saturated set, scorer by scorer and part by part; memory is that of a part's
bases and one shard of an array. A run that is killed goes on after its last finished scorer.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.files import (
    FileError,
    Stamp,
    atomic_path,
    hash_json,
    hash_path,
    read_json,
    read_table,
    write_json,
)
from megabase.logs import progress
from megabase.scoring.accounting import SPLIT, Split
from megabase.scoring.dense import Largest, Positions, ShardedArray, zarr_package
from megabase.scoring.keys import raw_matrix
from megabase.scoring.parts import SCORES, read_blocks, scorer_parts
from megabase.scoring.summary import is_effect
from megabase.spec import ALPHABET, file_name
from megabase.tracks.bigwig import RunWriter

KIND = "saturation"
ARRAYS = "scores.zarr"


@dataclass(frozen=True)
class Source:
    """Merged scores of a saturated set, and the variants that it was split into."""

    scores: Path
    split: Split

    @cached_property
    def info(self) -> dict[str, Any]:
        """`scores.json`."""
        return read_json(self.scores / "scores.json", SCORES)

    @property
    def lengths(self) -> dict[str, int]:
        """Bases of each chromosome, in genome order: all that a bigWig wants to know of a genome."""
        return self.info["contigs"]

    @cached_property
    def order(self) -> dict[str, int]:
        """Rank of each chromosome."""
        return {name: rank for rank, name in enumerate(self.lengths)}

    @cached_property
    def bases(self) -> int:
        """Bases that are scored."""
        return sum(self.split.chunks.values()) // 3

    @cached_property
    def genes(self) -> pl.DataFrame:
        """Genes that scores are of: gene_id, gene_name; their rows are what arrays number."""
        table = read_table(self.scores / "genes.parquet", SCORES)
        return table.unique("gene_id", maintain_order=True).select("gene_id", "gene_name")

    def positions(self) -> Iterator[Positions]:
        """Bases of each part."""
        first = 0
        for name in self.split.chunks:
            found = Positions.of(self.split.table(name), self.order, first, self.split.folder / name)
            yield found
            first += len(found.position)

    def parts(self, scorer: str) -> list[Path]:
        """Parts of a scorer; FileError unless there is one for each chunk of the split."""
        files = scorer_parts(self.scores, scorer)
        if len(files) != len(self.split.chunks):
            raise FileError(
                f"{self.scores / file_name(scorer)}: {len(files)} parts, the split has "
                f"{len(self.split.chunks)} chunks; merge the scores of this split again"
            )
        return files


def write_saturation(
    scores: str | Path, split: str | Path, output_dir: str | Path, *, config_hash: str = ""
) -> None:
    """Write the tracks of the merged `scores` of a saturated set, whose `split.json` is `split`.

    `{scorer}.bw`: at each base the raw score of the largest |quantile| (|raw| where not calibrated) over its
    three alternates, all tracks and genes; of scorers that tell an effect. `scores.zarr`: for each scorer
    `raw`, and `quantile` if calibrated, float32 [bases, 4, tracks], alternates in the order ACGT, NaN at the
    reference base; of a gene scorer those of the gene of the largest effect, and `gene` int32 [bases, 4] its
    number (-1: none). FileError if the set is not saturated, if scores and split are not of each other, or
    where zarr is missing.
    """
    output_dir, source = Path(output_dir), Source(Path(scores), Split(split))
    zarr = zarr_package(output_dir)
    if "saturated" not in read_json(split, SPLIT):
        raise FileError(
            f"{split}: the set does not hold every SNV; wanted one with `saturate` in its settings"
        )
    if source.info["scored"] != 3 * source.bases:
        raise FileError(
            f"{scores}: {source.info['scored']} variants scored, {3 * source.bases} in {split}; merge the "
            "scores of this split again"
        )
    inputs = {"scores": hash_path(source.scores / "scores.json"), "split": hash_path(split)}
    stamp = Stamp(KIND, config_hash, inputs)
    parts = _part_folder(output_dir, stamp)
    root = _open_arrays(zarr, parts, source, stamp)
    scorers = source.info["scorers"]
    with progress(len(scorers), f"saturation {output_dir.name}", "scorers") as bar:
        for scorer in scorers:
            done = parts / f".{file_name(scorer['name'])}.done"
            if not done.is_file():
                _write_scorer(root, parts, source, scorer)
                with atomic_path(done) as temporary:
                    temporary.touch()
            bar.advance()
    _write_index(parts, source, stamp)
    for done in parts.glob(".*.done"):
        done.unlink()
    with atomic_path(output_dir) as temporary:
        os.replace(parts, temporary)


def _part_folder(output_dir: Path, stamp: Stamp) -> Path:
    """Folder of finished scorers; those of other inputs are removed, and what a kill left while renaming."""
    folder = output_dir.parent / f".parts-{output_dir.name}-{hash_json(stamp.as_dict())[:16]}"
    for pattern in (f".parts-{output_dir.name}-????????????????", f".tmp-????????-{output_dir.name}"):
        for old in output_dir.parent.glob(pattern):
            if old != folder:
                shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _open_arrays(zarr: Any, folder: Path, source: Source, stamp: Stamp) -> Any:
    """The group of all arrays; made, with the coordinates of its rows, unless a run before did so."""
    path, done = folder / ARRAYS, folder / ".coordinates.done"
    if done.is_file():
        return zarr.open_group(str(path), mode="r+")
    shutil.rmtree(path, ignore_errors=True)
    root = zarr.create_group(str(path), zarr_format=3)
    axes, types = ("base",), {"chromosome": "int32", "position": "int64", "reference": "uint8"}
    arrays = {name: ShardedArray(root, name, (source.bases,), kind, 0, axes) for name, kind in types.items()}
    counts = np.zeros(len(source.order), np.int64)
    for part in source.positions():
        at = part.first + np.arange(len(part.position))
        for name, values in zip(types, (part.chrom, part.position, part.reference), strict=True):
            arrays[name].put(at, values)
        counts += np.bincount(part.chrom, minlength=len(counts))
    for array in arrays.values():
        array.flush()
    ends = np.cumsum(counts).tolist()
    rows = zip(source.lengths.items(), ends, counts.tolist(), strict=True)
    root.attrs.update({
        "megabase": stamp.as_dict(),
        "model": source.info["model"], "organism": source.info["organism"], "window": source.info["window"],
        "coordinates": "position is 0-based; chromosome and reference number the lists here",
        "alternates": list(ALPHABET),
        "chromosomes": [{"name": name, "length": length, "first_base": end - count, "bases": count}
                        for (name, length), end, count in rows],
        "genes": source.genes.to_dicts(),
    })  # fmt: skip
    with atomic_path(done) as temporary:
        temporary.touch()
    return root


def _write_scorer(root: Any, folder: Path, source: Source, scorer: Mapping[str, Any]) -> None:
    """The arrays of one scorer, and its bigWig if it tells an effect."""
    name, files = scorer["name"], source.parts(scorer["name"])
    tracks = _track_rows(source.scores, name)
    shutil.rmtree(folder / ARRAYS / file_name(name), ignore_errors=True)
    about = {key: value for key, value in scorer.items() if key not in ("rows", "variants", "spread")}
    group = root.create_group(file_name(name), attributes={"scorer": about, "tracks": tracks})
    shape, axes = (source.bases, 4, len(tracks)), ("base", "alternate", "track")
    columns = ["raw", *(["quantile"] if scorer["calibrated"] else [])]
    arrays = {c: ShardedArray(group, c, shape, "float32", math.nan, axes) for c in columns}
    if scorer["genes"]:
        arrays["gene"] = ShardedArray(group, "gene", shape[:2], "int32", -1, axes[:2])
    numbers = {gene: number for number, gene in enumerate(source.genes["gene_id"])}
    path = folder / f"{file_name(name)}.bw"
    path.unlink(missing_ok=True)
    with RunWriter(path, source) if is_effect(scorer) else nullcontext() as browser:
        for part, file in zip(source.positions(), files, strict=True):
            largest = Largest(len(part.position))
            for rows in read_blocks(file, SCORES):
                at, alt = part.rows_at(rows, source.order, file)
                chosen = largest.add(rows, at, alt)
                values = {column: raw_matrix(rows, column)[chosen] for column in columns}
                if scorer["genes"]:
                    gene = rows["gene_id"].gather(chosen)
                    values["gene"] = gene.replace_strict(
                        numbers, default=-1, return_dtype=pl.Int32
                    ).to_numpy()
                for column, array in arrays.items():
                    array.put(part.first + at[chosen], values[column], alt[chosen])
            if browser is not None:
                _add_runs(browser, source, part, largest.by_base())
    for array in arrays.values():
        array.flush()


def _add_runs(browser: RunWriter, source: Source, part: Positions, values: np.ndarray) -> None:
    """Append the values of a part's bases, one stretch of neighbouring bases after the other."""
    names = list(source.order)
    starts = np.flatnonzero(np.diff(part.keys, prepend=-2) != 1)
    for start, end in pairwise([*starts.tolist(), len(values)]):
        browser.add(names[part.chrom[start]], int(part.position[start]), values[start:end])


def _track_rows(scores: Path, scorer: str) -> list[dict[str, Any]]:
    """Rows of the track table of a scorer, in channel order, without what is unknown."""
    table = read_table(scores / "tracks.parquet", SCORES).filter(pl.col("scorer") == scorer).sort("channel")
    unknown = (None, math.inf, -math.inf)
    return [
        {key: value for key, value in row.items() if value not in unknown and value == value}
        for row in table.drop("scorer").iter_rows(named=True)
    ]


def _write_index(folder: Path, source: Source, stamp: Stamp) -> None:
    """`saturation.json` and `README.md`: what each file holds."""
    listed = [
        {"name": s["name"], "signed": s["signed"], "calibrated": s["calibrated"], "genes": s["genes"],
         "bigwig": f"{file_name(s['name'])}.bw" if is_effect(s) else None,
         "arrays": f"{ARRAYS}/{file_name(s['name'])}"}
        for s in source.info["scorers"]
    ]  # fmt: skip
    about = {key: source.info[key] for key in ("model", "organism", "window", "contigs")}
    write_json(about | {"bases": source.bases, "scorers": listed}, folder / "saturation.json", stamp)
    lines = [
        f"# Every SNV of {source.bases:,} bases, scored by {about['model']}", "",
        "Each bigWig is one track for a genome browser: at each base the raw score of the largest effect",
        "over its three alternates, all tracks and genes. The largest is that of the largest |quantile|, of",
        "the largest |raw score| where the scorer is not calibrated. A base without scores has no value.", "",
        "| bigWig | scorer | sign | chosen by |", "|---|---|---|---|",
    ]  # fmt: skip
    for row in listed:
        if row["bigwig"]:
            sign = "direction" if row["signed"] else "none"
            by = "quantile" if row["calibrated"] else "raw score"
            lines.append(f"| `{row['bigwig']}` | `{row['name']}` | {sign} | {by} |")
    lines += [
        "", f"`{ARRAYS}` (Zarr 3) holds all scores: in the group of each scorer `raw` and, if calibrated,",
        "`quantile` [bases, 4, tracks], alternates in the order ACGT, NaN at the reference base. The",
        "attributes of the group list its tracks. `gene` numbers the gene of a score in the list `genes` of",
        "the root's attributes. `chromosome`, `position` (0-based) and `reference` tell where a base lies.",
    ]  # fmt: skip
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
