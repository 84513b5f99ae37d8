"""A variant set in chunks: every accepted variant in one of those that jobs score, the others with a reason.

Memory is that of the densest stretch of the genome and of one chunk, whatever the size of the VCF.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from megabase.builds import same_assembly
from megabase.files import Stamp, hash_inputs, sole_writer, write_json, write_table
from megabase.genome import Genome
from megabase.haplotypes import Unphased, of_sample
from megabase.logs import LOGGER
from megabase.packing import Packing, chunk_bounds
from megabase.records import ACCEPTED_SCHEMA, REJECTED_SCHEMA
from megabase.saturation import WHOLE_GENOME, split_saturation
from megabase.seeds import generator
from megabase.spool import Spool, subset
from megabase.variants import read_variants

Blocks = Callable[[], Iterable[pl.DataFrame]]


def split_variants(
    source: str | Path,
    genome: str | Path,
    outputs: Sequence[str | Path],
    rejected: str | Path,
    *,
    max_allele: int,
    window: int | None = None,
    max_variants: int | None = None,
    sample: str | None = None,
    haplotypes: bool = False,
    unphased: Unphased = "reject",
    regions: str | Path | None = None,
    saturate: str | None = None,
    seed: int = 0,
    config_hash: str = "",
    packing: Packing | None = None,
) -> tuple[int, int]:
    """Write the accepted variants of a VCF as one table per path of `outputs`, and the `rejected` table.

    source: the VCF or, with `saturate`, the BED of which every SNV is written; for `saturate="genome"` it is
    the genome, and not read (`split_saturation`).

    `split.json` beside `rejected` counts them, so that a merge can check that none is lost.

    Variants are sorted by genome order, position and place in the file, and dealt in contiguous chunks of
    equal estimated cost (`megabase.packing`; some are empty where there is too little to do). `max_variants`
    keeps a seeded subset of the accepted ones. sample, haplotypes, unphased, regions: `haplotypes.of_sample`,
    for which a person's variants are held in memory. Returns the numbers of variants written and of rows
    rejected.
    """
    store, rejected = Genome.open(genome), Path(rejected)
    packing = packing or Packing()
    if saturate is not None:
        written = split_saturation(
            source, store, outputs, rejected, whole=saturate == WHOLE_GENOME, packing=packing,
            config_hash=config_hash,
        )  # fmt: skip
        return written, 0
    read = read_variants(source, store, max_allele=max_allele, window=window, unique=sample is not None)
    parts: Iterable[tuple[pl.DataFrame, pl.DataFrame]] = same_assembly(read, source, store)
    if sample is not None:
        parts = of_sample(parts, source, store, sample, unphased if haplotypes else None, regions)
    inputs = hash_inputs([source, Path(genome) / "sequence.json"])
    stamp = partial(Stamp, config_hash=config_hash, inputs=inputs)
    with sole_writer(rejected), Spool(rejected.with_name(".spool"), store.order) as spool:
        refused = _collect(parts, spool)
        blocks, kept = _chosen(spool, max_variants, seed)
        bounds = chunk_bounds(blocks, len(outputs), packing)
        tables = dealt(blocks(), bounds)
        for path, table in zip(outputs, tables, strict=True):
            write_table(table, path, stamp("variants"))
        write_table(refused, rejected, stamp("rejected"))
        sizes = zip(outputs, bounds[:-1], bounds[1:], strict=True)
        counts = {
            "alleles": spool.height + refused.height,
            "left_out": spool.height - kept,  # by max_variants
            "rejected": refused.height,
            "chunks": [{"name": Path(path).stem, "variants": end - start} for path, start, end in sizes],
        }
        write_json(counts, rejected.with_name("split.json"), stamp("split"))
    LOGGER.info("variants: %d accepted, %d written, %d rejected", spool.height, kept, refused.height)
    for reason, count in refused["reason"].value_counts().sort("reason").iter_rows():
        LOGGER.info("variants: %d rejected for %s", count, reason)
    return kept, refused.height


def _collect(parts: Iterable[tuple[pl.DataFrame, pl.DataFrame]], spool: Spool) -> pl.DataFrame:
    """Spool and sort the accepted rows; the rejected ones in the order of the file."""
    refused = [pl.DataFrame(schema=REJECTED_SCHEMA)]
    for accepted, others in parts:
        spool.add(accepted)
        refused.append(others)
    refused.append(spool.sort())
    return pl.concat(refused).sort("record", maintain_order=True)


def _chosen(spool: Spool, max_variants: int | None, seed: int) -> tuple[Blocks, int]:
    """The sorted variants that are kept, as blocks to go through several times, and how many they are."""
    if max_variants is None or spool.height <= max_variants:
        return spool.blocks, spool.height
    drawn = generator(seed, "split_variants").choice(spool.height, size=max_variants, replace=False)
    rows = np.sort(drawn)
    return lambda: subset(spool.blocks(), rows), max_variants


def dealt(blocks: Iterable[pl.DataFrame], bounds: Sequence[int]) -> Iterator[pl.DataFrame]:
    """The rows of each chunk, of blocks in order; bounds: rows at which chunks begin and end."""
    source, start = iter(blocks), bounds[0]
    held = [next(source, pl.DataFrame(schema=ACCEPTED_SCHEMA))]
    for end in bounds[1:]:
        rows = sum(table.height for table in held)
        while rows < end - start:
            held.append(next(source))
            rows += held[-1].height
        together = pl.concat(held)
        yield together[: end - start].rechunk()  # or the bytes of a table would tell of the blocks
        held, start = [together[end - start :]], end
