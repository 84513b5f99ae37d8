"""Predictions to files that browsers and other tools read: bigWig, .cool, Parquet.

Files hold what lies in a region of the + strand and on the chromosome; 0-based half-open inside, as the
formats have it. A file is one channel (and one allele), its name tells the channel, the track and its strand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import cooler
import numpy as np
import pandas as pd
import polars as pl

from megabase.genome import Genome, Interval
from megabase.predict.arrays import Prediction
from megabase.spec import PAIR, Kind, OutputType
from megabase.tracks.bigwig import RunWriter
from megabase.tracks.contacts import copy_undated
from megabase.tracks.table import STRAND_FILES

LEAST_COUNT = 1e-3  # junctions predicted below this on every allele are not written
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
Alleles = Mapping[str, Mapping[OutputType, Prediction]]


def write_predictions(alleles: Alleles, genome: Genome, region: Interval, folder: Path) -> pl.DataFrame:
    """Write predictions by allele (`ref` and `alt`, or one named ``) of a region into an existing folder.

    bigWigs and .cool as `{output type}/{channel}.{track}.{strand}[.{allele}].{bw,cool}`; junctions as
    `splice_junctions` (see `junction_table`). Returns the track table: `channel`, TRACK_COLUMNS and
    `{allele}_file` (or `file`), null where the track is in the table of junctions.
    """
    parts = []
    for output in next(iter(alleles.values())):
        found = {allele: predictions[output] for allele, predictions in alleles.items()}
        table = next(iter(found.values())).tracks
        for allele, prediction in found.items():
            names = _write_output(prediction, allele, genome, region, folder)
            column = f"{allele}_file" if allele else "file"
            table = table.with_columns(pl.Series(column, names, dtype=pl.String))
        parts.append(table)
    return pl.concat(parts)


def _write_output(
    prediction: Prediction, allele: str, genome: Genome, region: Interval, folder: Path
) -> list[str | None]:
    """Write the files of one output type; their names by track, relative to the folder."""
    if prediction.kind is Kind.JUNCTIONS:
        return [None] * prediction.tracks.height
    suffix, write = ("cool", write_contacts) if prediction.kind is Kind.CONTACTS else ("bw", write_bigwig)
    (folder / prediction.output_type).mkdir(exist_ok=True)
    names = []
    for place, row in enumerate(prediction.tracks.iter_rows(named=True)):
        strand = row["strand"] or "."
        track = _UNSAFE.sub("_", (row["name"] or "").removesuffix(strand)).strip("_.") or "track"
        parts = [f"{row['channel']:04d}", track, STRAND_FILES[strand], *([allele] if allele else [])]
        names.append(f"{prediction.output_type}/{'.'.join(parts)}.{suffix}")
        write(prediction, place, genome, region, folder / names[-1])
    return names


def on_chromosome(region: Interval, genome: Genome) -> tuple[int, int]:
    """First base of the region on its chromosome and one past the last."""
    return max(region.start, 0), min(region.end, genome.lengths[region.chrom])


def write_bigwig(prediction: Prediction, place: int, genome: Genome, region: Interval, path: Path) -> None:
    """Write one track of a prediction; a value of 128 bp, a sum, becomes its mean over each of its bases."""
    start, end = on_chromosome(region, genome)
    part = prediction.crop(start, end)
    size = prediction.resolution
    values = np.repeat(part.values[:, place] / np.float32(size), size)
    with RunWriter(path, genome) as writer:
        writer.add(region.chrom, start, values[start - part.interval.start : end - part.interval.start])


def write_contacts(prediction: Prediction, place: int, genome: Genome, region: Interval, path: Path) -> None:
    """Write the bins that the region touches of one contact map as a .cool (pixel column `value`).

    Its bins are those of the prediction, on the whole chromosome. Where they do not begin at a multiple of
    2,048, the chromosome's first bin is shorter and the file has no uniform bin size.
    """
    start, end = on_chromosome(region, genome)
    part, length = prediction.crop(start, end), genome.lengths[region.chrom]
    edges = np.unique([0, *range(part.interval.start % PAIR, length, PAIR), length])
    bins = pd.DataFrame({"chrom": region.chrom, "start": edges[:-1], "end": edges[1:]})
    first = int(np.searchsorted(edges, max(part.interval.start, 0)))
    i, j = np.triu_indices(len(part.values))
    pixels = {"bin1_id": first + i, "bin2_id": first + j, "value": part.values[i, j, place].astype(float)}
    options = {"columns": ["value"], "dtypes": {"value": np.float64}, "ordered": True}
    dated = path.with_suffix(".dated")
    cooler.create_cooler(str(dated), bins, pd.DataFrame(pixels), symmetric_upper=True, **options)
    copy_undated(dated, path)
    dated.unlink()


def junction_table(alleles: Alleles, region: Interval) -> pl.DataFrame | None:
    """Junctions with both sites in the region, a row a junction and track, by place, then channel.

    Columns: chrom, donor, acceptor, strand, channel, name, ontology_curie, biosample_name and `value`, or
    `ref` and `alt`. Rows below `LEAST_COUNT` on every allele are left out. None where none were asked for.
    """
    output = OutputType.SPLICE_JUNCTIONS
    found = {allele: p[output].crop(region.start, region.end) for allele, p in alleles.items() if output in p}
    if not found:
        return None
    first = next(iter(found.values()))
    values = {allele or "value": p.values for allele, p in found.items()}
    largest = np.max([np.nan_to_num(v, nan=-1.0) for v in values.values()], axis=0)
    rows, channels = np.nonzero(largest >= LEAST_COUNT)
    tracks = first.tracks.select("channel", "name", "ontology_curie", "biosample_name")
    numbers = [pl.Series(name, v[rows, channels]) for name, v in values.items()]
    return pl.concat([first.junctions[rows], tracks[channels]], how="horizontal").with_columns(numbers)
