"""Noise ceiling of the demo's tracks: the noise-free rule against the drawn track, at 128 bp.

    python benchmarks/demo_ceilings.py results

Reads the normalized tracks of a finished demo (seed 0) and derives the rule's expectation from the sequence
again. Prints a Markdown table over the first cell type of `alpha`: Pearson r on its last chromosome of the
rule with the track (no model can do better), and the held-out r of the student and of the 5-mer ridge
baseline.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from megabase.files import read_tsv
from megabase.shards import ShardStore, densify
from megabase.simulate import DemoSize, signals
from megabase.simulate.genomes import new_genome
from megabase.simulate.state import State, derive_state
from megabase.spec import OutputType

CELL = 0
TOKEN = 128


def by_token(track: np.ndarray) -> np.ndarray:
    """Sums over 128 bases."""
    whole = len(track) // TOKEN * TOKEN
    return track[:whole].reshape(-1, TOKEN).sum(axis=1)


def spread_blocks(blocks: np.ndarray, size: int) -> np.ndarray:
    """Values of `signals.BIN` bases each, base by base."""
    track = np.repeat(blocks, signals.BIN)
    return np.pad(track, (0, size - len(track)))


def starts(state: State, chrom: str, assay: str, strand: str) -> np.ndarray:
    """Expected transcription starts base by base."""
    track = np.zeros(len(state.genome.chromosomes[chrom]))
    positions, rates = signals.initiation(state, chrom, CELL, assay)[strand]
    track[positions] = rates
    return track


def coverage(state: State, chrom: str, assay: str, strand: str) -> np.ndarray:
    """Expected RNA coverage base by base."""
    track = np.zeros(len(state.genome.chromosomes[chrom]))
    for start, end, value in zip(*signals.rna_runs(state, chrom, CELL, assay, strand), strict=True):
        track[start:end] += value
    return track


def expectation(state: State, chrom: str, row: dict) -> np.ndarray:
    """The rule's expectation of the track of a row of the track table."""
    output, strand = OutputType(row["output_type"]), row["strand"]
    size = len(state.genome.chromosomes[chrom])
    rules: dict[OutputType, Callable[[], np.ndarray]] = {
        OutputType.DNASE: lambda: signals.cut_rate(state, chrom, CELL, "dnase"),
        OutputType.ATAC: lambda: signals.cut_rate(state, chrom, CELL, "atac"),
        OutputType.CAGE: lambda: starts(state, chrom, "cage", strand),
        OutputType.PROCAP: lambda: starts(state, chrom, "procap", strand),
        OutputType.RNA_SEQ: lambda: coverage(state, chrom, row["assay"], "+-" if strand == "." else strand),
    }
    if output in rules:
        return rules[output]()
    return spread_blocks(signals.fold_change(state, chrom, CELL, row["target"]), size)


def held_out(results: Path, model: str, output: str, track: str) -> float | None:
    """Held-out Pearson r at 128 bp of one track."""
    table = read_tsv(results / "evaluation" / model / "alpha.tsv", "evaluation").filter(
        pl.col("output_type") == output, pl.col("track") == track,
        pl.col("metric") == "pearson", pl.col("resolution") == TOKEN, pl.col("split") == "test",
    )  # fmt: skip
    return table["value"][0] if table.height else None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    results = parser.parse_args().results
    store = ShardStore.open(results / "shards" / "alpha")
    chrom, size = list(store.lengths.items())[-1]
    state = derive_state(new_genome(0, "alpha", DemoSize().alpha))
    cell = store.tracks["ontology_curie"][0]
    print("| track | ceiling | student | 5-mer ridge |\n|---|---|---|---|")
    for output in store.tracks["output_type"].unique(maintain_order=True):
        rows = store.tracks.filter(pl.col("output_type") == output).to_dicts()
        if OutputType(output) in (
            OutputType.CONTACT_MAPS, OutputType.SPLICE_SITE_USAGE, OutputType.SPLICE_JUNCTIONS
        ):  # fmt: skip
            continue
        dense = densify(store.runs(OutputType(output), chrom, 0, size), size)
        for channel, row in enumerate(rows):
            if row["ontology_curie"] != cell or row["strand"] == "-":
                continue
            seen = by_token(torch.nan_to_num(dense[:, channel]).numpy().astype(np.float64))
            ceiling = np.corrcoef(by_token(expectation(state, chrom, row)), seen)[0, 1]
            models = [held_out(results, m, output, row["name"]) for m in ("student-seed0", "baseline-kmer")]
            shown = " | ".join("–" if value is None else f"{value:.2f}" for value in models)
            print(f"| {row['name'].removeprefix(cell).strip()} | {ceiling:.2f} | {shown} |")


if __name__ == "__main__":
    main()
