"""Whether a chunk, a model, a genome and its genes belong together; asked before anything is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.builds import MAX_MISMATCHES
from megabase.files import FileError, hash_path, table_stamp
from megabase.genome import Genome
from megabase.sequence import decode

MAX_CHECKED = 1_000  # variants of a chunk whose REF is looked up


def check_belonging(
    chunk: str | Path, variants: pl.DataFrame, genome: Genome, genes: str | Path | None, predictor: Any
) -> None:
    """FileError that tells which of them is of another organism or genome than the rest.

    variants: the table of the chunk; its REF alleles were those of the genome that it was split on. genes: a
    folder of `prepare_genes`, or None. predictor: meets the `Predictor` protocol.
    """
    if genome.organism not in predictor.organisms:
        raise FileError(
            f"{genome.folder}: genome {genome.name} is of organism {genome.organism}, model {predictor.name} "
            f"was made for {', '.join(predictor.organisms)}; score with a model of that organism"
        )
    _check_references(chunk, variants, genome)
    if genes is None or not (path := Path(genes) / "genes.parquet").exists():
        return
    made_on = table_stamp(path, "genes").inputs.get("sequence.json")
    if made_on not in (None, hash_path(genome.folder / "sequence.json")):
        raise FileError(
            f"{path}: made for another genome than {genome.name} in {genome.folder}; run prepare-genes again"
        )


def _check_references(chunk: str | Path, variants: pl.DataFrame, genome: Genome) -> None:
    """FileError if most REF alleles, of up to MAX_CHECKED variants, are not the genome's."""
    if not variants.height:
        return
    places = np.unique(np.linspace(0, variants.height - 1, MAX_CHECKED).astype(int))
    rows = variants[places].select("chrom", "position", "ref").rows()
    differing = [row for row in rows if _bases(genome, *row) != row[2]]
    if len(differing) > MAX_MISMATCHES * len(rows):
        chrom, position, ref = differing[0]
        raise FileError(
            f"{chunk}: {len(differing):,} of {len(rows):,} variants have a REF that is not that of genome "
            f"{genome.name}, as {ref[:40]} at {chrom}:{position + 1}: the chunk was split on another genome; "
            "split the variants again on this one"
        )


def _bases(genome: Genome, chrom: str, position: int, ref: str) -> str | None:
    known = chrom in genome.lengths
    return decode(genome.codes(chrom, position, position + len(ref))) if known else None
