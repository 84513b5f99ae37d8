"""Normalizing one track: megabases a second and memory, of one process and several; the reader alone.

    python benchmarks/tracks.py --megabases 64 --run 12 --threads 2

Makes a bigWig of random runs (mean length --run bp) on chromosomes of equal length, normalizes it in child
processes, alternately with one process and with several, so that a busy machine is unfair to neither. Told
are the median of each and what 3.1 Gb would take at that rate. The reader alone is timed beside pyBigWig's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyBigWig

from megabase.genome import prepare_genome
from megabase.settings.data import TrackSettings
from megabase.spec import MANIFEST_COLUMNS
from megabase.tracks import normalize_track, passes
from megabase.tracks.decode import BigWigFile

HUMAN = 3.1e9  # bases


def make_input(folder: Path, bases: int, chromosomes: int, run: int) -> tuple[Path, Path]:
    """A genome of random bases and a bigWig of counts with a run in two of zeros; returns both."""
    draws = np.random.default_rng(0)
    length = bases // chromosomes
    fasta, bigwig = folder / "genome.fa", folder / "signal.bw"
    file = pyBigWig.open(str(bigwig), "w")
    file.addHeader([(f"chr{n}", length) for n in range(chromosomes)])
    with fasta.open("wb") as text:
        for n in range(chromosomes):
            text.write(f">chr{n}\n".encode())
            text.write(np.frombuffer(b"ACGT", np.uint8)[draws.integers(0, 4, length)].tobytes() + b"\n")
            edges = np.unique(draws.integers(0, length, length // run))
            edges = edges[: len(edges) // 2 * 2]
            values = draws.poisson(3, len(edges) // 2) + 1.0
            file.addEntries([f"chr{n}"] * len(values), edges[::2], ends=edges[1::2], values=values)
    file.close()
    prepare_genome(fasta, folder / "genome", organism="human", name="random")
    return folder / "genome", bigwig


def _normalize(genome: Path, bigwig: Path, output: Path, threads: int, told: multiprocessing.Queue) -> None:
    row = dict.fromkeys(MANIFEST_COLUMNS, "") | {
        "portal": "x", "accession": "x", "output_type": "rna_seq", "organism": "human", "strand": ".",
    }  # fmt: skip
    start = time.perf_counter()
    normalize_track([row], [bigwig], genome, output, TrackSettings(), threads=threads)
    seconds = time.perf_counter() - start
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    told.put((seconds, [resource.getrusage(kind).ru_maxrss / 1024 for kind in kinds]))


def time_normalize(genome: Path, bigwig: Path, output: Path, threads: int) -> tuple[float, list[float]]:
    """Seconds, and peak memory in MiB of the process and of its largest worker, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue = context.Queue()
    process = context.Process(target=_normalize, args=(genome, bigwig, output, threads, told))
    process.start()
    result = told.get()
    process.join()
    return result


def time_readers(bigwig: Path, bases: int) -> dict[str, float]:
    """Megabases a second of decoding intervals: ours, and pyBigWig's tuples made an array."""
    rates = {}
    ours = BigWigFile(bigwig)
    start = time.perf_counter()
    for chrom, length in ours.chroms.items():
        ours.intervals(chrom, 0, length)
    rates["decode"] = bases / 1e6 / (time.perf_counter() - start)
    start = time.perf_counter()
    with pyBigWig.open(str(bigwig)) as file:
        for chrom, length in file.chroms().items():
            np.array(file.intervals(chrom, 0, length))
    rates["pybigwig"] = bases / 1e6 / (time.perf_counter() - start)
    return rates


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabases", type=int, default=16)
    parser.add_argument("--chromosomes", type=int, default=4)
    parser.add_argument("--run", type=int, default=12, help="mean length of a run of equal values (bp)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    bases = given.megabases * 1_000_000
    found: dict[int, list[tuple[float, list[float]]]] = {1: [], given.threads: []}
    with TemporaryDirectory() as scratch:
        genome, bigwig = make_input(Path(scratch), bases, given.chromosomes, given.run)
        for _ in range(given.rounds):
            for threads, runs in found.items():
                runs.append(time_normalize(genome, bigwig, Path(scratch) / f"out{threads}", threads))
        same = all(
            (Path(scratch) / "out1" / name).read_bytes()
            == (Path(scratch) / f"out{given.threads}" / name).read_bytes()
            for name in ("unstranded.bw", "track.json", "quality.json")
        )
        readers = time_readers(bigwig, bases)
    told: dict[str, object] = {"megabases": given.megabases, "run": given.run, "same_bytes": same}
    for threads, runs in found.items():
        workers = min(threads, given.chromosomes, 1 + bases // passes.SHARE)
        rate = given.megabases / statistics.median(seconds for seconds, _ in runs)
        told[f"threads_{threads}"] = {
            "processes": workers,
            "mb_per_second": round(rate, 2),
            "mb_per_second_and_core": round(rate / workers, 2),
            "peak_mib": [round(max(memory[k] for _, memory in runs)) for k in range(2)],
            "minutes_of_3.1_gb": round(HUMAN / 1e6 / rate / 60, 1),
        }
    told["reader_mb_per_second"] = {name: round(rate, 1) for name, rate in readers.items()}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
