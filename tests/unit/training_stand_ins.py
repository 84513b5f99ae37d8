"""Two tiny organisms with every kind of data, stored as the pipeline stores them, for the training tests."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import cooler
import numpy as np
import pandas as pd
import polars as pl
from track_stand_ins import write_bigwig

from megabase.files import Stamp, write_json, write_table
from megabase.genes import prepare_genes
from megabase.genome import prepare_genome
from megabase.seeds import generator
from megabase.sequence import decode, encode
from megabase.settings.data import FoldScheme, FoldSettings, ShardSettings
from megabase.settings.training import ModelSettings, TrainSettings
from megabase.shards import write_shards
from megabase.spec import TRACK_COLUMNS
from megabase.tracks import list_tracks

WINDOW, LENGTH, MARGIN = 2048, 16_384, 512
MOTIF = encode("ACGTTGCAAC")
ORGANISMS = ("human", "mouse")
TRACKS = {
    "human": [("rna_seq", "liver rna +", "+"), ("rna_seq", "liver rna -", "-"), ("rna_seq", "brain rna", "."),
              ("atac", "liver atac", "."), ("dnase", "liver dnase", "."), ("chip_tf", "liver CTCF", ".")],
    "mouse": [("rna_seq", "liver rna", "."), ("atac", "liver atac", "."), ("atac", "brain atac", ".")],
}  # fmt: skip
BIOSAMPLES = ("brain", "liver")
# one gene a strand in every 4,096 bp: exons relative to the stretch
EXONS = {"+": [(200, 300), (500, 600), (900, 1000)], "-": [(2300, 2400), (2600, 2700), (3000, 3100)]}


def train_settings(**changes: Any) -> TrainSettings:
    """Settings of a run of a second or two."""
    values = {
        "steps": 6, "warmup_steps": 2, "batch_size": 2, "peak_rate": 0.004, "weight_decay": 0.1,
        "dropout": 0.1, "max_shift": 256, "max_sites": 16, "log_steps": 2, "validate_steps": 4,
        "validate_windows": 2, "checkpoint_seconds": 1,
    }  # fmt: skip
    return TrainSettings(**values | changes)


def model_settings() -> ModelSettings:
    """The smallest network with every part."""
    sizes = {
        "channels_1bp": 4, "channels_step": 2, "tower_blocks": 2, "attention_heads": 2, "query_channels": 4,
        "value_channels": 4, "pair_channels": 4, "pair_heads": 2, "pair_query_channels": 4,
        "pair_position_features": 8, "junction_hidden": 4, "max_sites": 8,
    }  # fmt: skip
    return ModelSettings(preset="tiny", overrides=sizes)


def fold_settings() -> FoldSettings:
    """Three folds: one is validated on in `fold0`, one reserved."""
    schemes = {
        "fold0": FoldScheme(valid=["fold0"], test=["fold1"]),
        "all": FoldScheme(valid=[], test=["fold2"]),
    }
    return FoldSettings(
        names=["fold0", "fold1", "fold2", "fold3"], window=WINDOW, schemes=schemes, reserved=["fold2"]
    )


def make_world(folder: Path) -> dict[str, Any]:
    """Write genomes, genes, stores and intervals; returns the arguments that every stage takes."""
    for organism in ORGANISMS:
        _organism(folder, organism)
    chroms = [("chr1", "fold0"), ("chr2", "fold1"), ("chr3", "fold2"), ("chr4", "fold3")]
    rows = [
        {"organism": o, "chrom": c, "start": s, "end": s + WINDOW, "fold": f}
        for o in ORGANISMS for c, f in chroms for s in range(0, LENGTH, WINDOW)
    ]  # fmt: skip
    write_table(pl.DataFrame(rows), folder / "intervals.parquet", Stamp("intervals"))
    return {
        "shards": [folder / o / "store" for o in ORGANISMS],
        "genomes": [folder / o / "genome" for o in ORGANISMS],
        "genes": [folder / "human" / "genome" / "genes", None],
        "intervals": folder / "intervals.parquet",
    }


def _organism(folder: Path, organism: str) -> None:
    folder = folder / organism
    folder.mkdir(parents=True)
    chroms = [f"chr{n}" for n in (1, 2, 3, 4)]
    codes = {c: generator(0, organism, c).integers(0, 4, LENGTH).astype(np.uint8) for c in chroms}
    for chrom in chroms:
        for start in generator(1, organism, chrom).integers(0, LENGTH - 20, 24):
            codes[chrom][start : start + len(MOTIF)] = MOTIF
    text = "".join(f">{chrom}\n{decode(codes[chrom])}\n" for chrom in chroms)
    (folder / "genome.fa").write_text(text)
    prepare_genome(folder / "genome.fa", folder / "genome", organism=organism, name=organism)
    if organism == "human":
        _genes(folder, chroms)
        _contacts(folder / "contacts", chroms)
        _splicing(folder / "splicing", chroms)
    for number, (output, name, strand) in enumerate(TRACKS[organism]):
        _track(folder / f"track{number}", codes, organism, output, name, strand)
    dirs = sorted(p.parent for p in folder.glob("*/track.json"))
    list_tracks(dirs, organism, folder / "tracks.parquet")
    write_shards(
        folder / "tracks.parquet", dirs, folder / "genome", folder / "store", ShardSettings(chunk=4096)
    )


def _channel(organism: str, output: str, name: str, strand: str, file: str, mean: float | None) -> dict:
    row = dict.fromkeys(TRACK_COLUMNS) | {"name": name, "output_type": output, "organism": organism}
    row |= {"strand": strand, "strand_partner": 0, "nonzero_mean": mean, "file": file}
    return row | {"accessions": name.removesuffix(f" {strand}")}


def _track(folder: Path, codes: dict, organism: str, output: str, name: str, strand: str) -> None:
    """Signal: high where the motif stands and in exons, low elsewhere; a stretch of chr1 is missing."""
    signal = {}
    for chrom, bases in codes.items():
        hits = np.lib.stride_tricks.sliding_window_view(bases, len(MOTIF))
        peak = np.zeros(LENGTH, np.float32)
        peak[: len(hits)] = (hits == MOTIF).all(1)
        values = 20 * np.convolve(peak, np.ones(96), "same") + generator(2, organism, name, chrom).poisson(
            1, LENGTH
        )
        if output == "rna_seq":
            values = values * 0.05 + 4 * _exonic(strand)
        values[100:900] = np.nan if chrom == "chr1" else values[100:900]
        signal[chrom] = values.astype(np.float32)
    folder.mkdir()
    write_bigwig(folder / "unstranded.bw", signal, {c: LENGTH for c in codes}, gaps=False)
    mean = float(np.nanmean([v[v > 0].mean() for v in signal.values()]))
    _json(folder, [_channel(organism, output, name, strand, "unstranded.bw", mean)])


def _exonic(strand: str) -> np.ndarray:
    covered = np.zeros(LENGTH)
    for start in range(0, LENGTH, 4096):
        for s, exons in EXONS.items():
            for low, high in exons if strand in (s, ".") else []:
                covered[start + low : start + high] = 1
    return covered


def _json(folder: Path, channels: list[dict]) -> None:
    write_json({"channels": channels}, folder / "track.json", Stamp("track"))


def _genes(folder: Path, chroms: list[str]) -> None:
    lines = []
    for chrom in chroms:
        for start in range(0, LENGTH, 4096):
            for strand, exons in EXONS.items():
                name = f'gene_id "{chrom}{start}{strand}"; transcript_id "T{chrom}{start}{strand}";'
                for low, high in exons:
                    place = f"{start + low + 1}\t{start + high}"
                    lines.append(f"{chrom}\ttoy\texon\t{place}\t.\t{strand}\t.\t{name}\n")
    (folder / "genes.gtf").write_text("".join(lines))
    prepare_genes(folder / "genes.gtf", folder / "genome", folder / "genome" / "genes")


def _contacts(folder: Path, chroms: list[str]) -> None:
    folder.mkdir()
    size = 1024
    bins = pd.DataFrame(
        [(c, s, s + size) for c in chroms for s in range(0, LENGTH, size)], columns=["chrom", "start", "end"]
    )
    count = LENGTH // size
    rows = [
        (k * count + i, k * count + j)
        for k in range(len(chroms))
        for i in range(count)
        for j in range(i, count)
    ]
    values = generator(3, "contacts").standard_normal(len(rows))
    pixels = pd.DataFrame({"bin1_id": [r[0] for r in rows], "bin2_id": [r[1] for r in rows], "value": values})
    cooler.create_cooler(
        str(folder / "contacts.cool"), bins, pixels, columns=["value"], dtypes={"value": float}, ordered=True
    )
    _json(folder, [_channel("human", "contact_maps", "liver hic", ".", "contacts.cool", None)])


def _splicing(folder: Path, chroms: list[str]) -> None:
    sites, usage, junctions = [], [], []
    rng = generator(4, "splicing")
    for chrom in chroms:
        for start in range(0, LENGTH, 4096):
            for strand, exons in EXONS.items():
                for (_, left), (right, _) in pairwise(exons):
                    low, high = start + left - 1, start + right
                    donor, acceptor = (low, high) if strand == "+" else (high, low)
                    for kind, place in (("donor", donor), ("acceptor", acceptor)):
                        sites.append((chrom, place, strand, kind))
                        usage += [(chrom, place, strand, b, float(rng.random())) for b in BIOSAMPLES]
                    junctions += [
                        (chrom, donor, acceptor, strand, b, float(rng.gamma(2, 2))) for b in BIOSAMPLES
                    ]
    folder.mkdir()
    tables = {
        "sites": (sites, ["chrom", "position", "strand", "kind"]),
        "usage": (usage, ["chrom", "position", "strand", "biosample", "usage"]),
        "junctions": (junctions, ["chrom", "donor", "acceptor", "strand", "biosample", "count"]),
    }
    for name, (rows, columns) in tables.items():
        write_table(pl.DataFrame(rows, schema=columns, orient="row"), folder / f"{name}.parquet", Stamp(name))
    channels = [
        _channel("human", output, f"{b} {strand}", strand, f"{table}.parquet", None)
        for output, table in (("splice_site_usage", "usage"), ("splice_junctions", "junctions"))
        for strand in "+-" for b in BIOSAMPLES
    ]  # fmt: skip
    _json(folder, channels)


def checkpoint_and_die(train: ModuleType, after: int, rank: int = 0) -> None:
    """Change module `megabase.train` of this process: a checkpoint every step, and death by SIGKILL.

    after: number of the step, from 1, at whose beginning process `rank` dies; 0: never.
    """
    step, loop, count = train.train_step, train.train, [0]

    def dying(*args: Any, **values: Any) -> Any:
        count[0] += 1
        if count[0] == after and int(os.environ.get("RANK", 0)) == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **values)

    def ticking(*args: Any, **values: Any) -> Any:
        ticks = iter(range(0, 10**6, 10))  # every look at the clock is 10 seconds later
        return loop(*args, **values, clock=lambda: next(ticks))

    train.train_step, train.train = dying, ticking
