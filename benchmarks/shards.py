"""The training store against bigWig and Zarr: speed of writing, of reading windows, size, and the loader.

    python benchmarks/shards.py

Everything is on synthetic tracks (synthetic_tracks.py) of one chromosome, made in a scratch folder. Sparse
ones are counts times a scale: RNA-seq coverage, CAGE and cut sites; dense ones fold changes. Readings of the
same window take turns in one process on one core, so that a busy machine is unfair to none; told is the
median ratio of seconds within a window, with its range. Zarr 3 holds the same float32 values as [tracks,
bases] under blosc-zstd, in the fastest of several chunkings, which is told.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numcodecs
import numpy as np
import pyBigWig
import synthetic_tracks
import torch
import zarr
import zstandard

from megabase.memory import give_back_holes, keep_large_blocks
from megabase.shards.blocks import Blocks, BlockWriter
from megabase.shards.encoding import ChunkFormat, cut_runs, encode_chunk, open_chunk, pack
from megabase.shards.packed import PackedSignal, Piece
from megabase.shards.signal import SignalEncoder, encode_all, stretches

CHROM, CHUNK, LEVEL = "chr1", 65_536, 3
WINDOW = 1 << 20
CHUNKINGS = [(1, 131_072), (8, 65_536), (64, 16_384), (64, 65_536), (64, 131_072), (16, 262_144)]
# Published numbers of human tracks at 1 bp; PRO-cap is like CAGE.
WIDE = {"rna": 667, "cage": 546 + 12, "cuts": 305 + 167}


def main() -> None:
    """Run all four measurements and print a table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--length", type=int, default=4 << 20, help="bases of the chromosome")
    options.add_argument("--tracks", type=int, default=64, help="sparse tracks, and as many dense ones")
    options.add_argument("--windows", type=int, default=12)
    options.add_argument("--device", default="cpu", help="where windows are made dense")
    options.add_argument("--step", type=float, default=0.5, help="seconds of a training step to be fed")
    options.add_argument("--workers", type=int, default=4, help="threads of the loader")
    options.add_argument("--no-loader", action="store_true")
    args = options.parse_args()
    print(f"$ python {shlex.join(sys.argv)}")
    versions = [f"{m.__name__} {m.__version__}" for m in (np, torch, zarr, numcodecs, pyBigWig, zstandard)]
    print(
        f"python {platform.python_version()}, {', '.join(versions)}; {os.cpu_count()} cores, {args.device}\n"
    )
    print("| what | figure | target |\n|---|---|---|", flush=True)
    keep_large_blocks()
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        with_one_core(lambda: compare(args, Path(scratch)))
        if not args.no_loader:
            feed(args, Path(scratch))


def with_one_core(work: Callable[[], None]) -> None:
    """Run it on one core: all implementations have the same, whatever threads they start."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        work()
    finally:
        os.sched_setaffinity(0, cores)


def row(what: str, figure: str, target: str = "") -> None:
    """One line of the table."""
    print(f"| {what} | {figure} | {target} |", flush=True)


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Writing, size, and windows of sparse and dense tracks."""
    rng = np.random.default_rng(0)
    kinds = {"sparse": ["rna", "cage", "cuts"], "dense": ["dense"]}
    files: dict[str, list[Path]] = {}
    stores: dict[str, tuple[Blocks, ChunkFormat]] = {}
    speeds, sizes = {}, {}
    for name, made in kinds.items():
        files[name] = []
        for number in range(args.tracks):
            kind = made[number % len(made)]
            track = (synthetic_tracks.dense(args.length, rng) if kind == "dense"
                     else synthetic_tracks.counts(kind, args.length, rng))  # fmt: skip
            path = synthetic_tracks.write_bigwig(folder / f"{name}{number}.bw", CHROM, args.length, track)
            files[name].append(path)
        form = ChunkFormat(args.tracks, CHUNK, "float32")
        began = time.perf_counter()
        encoder = SignalEncoder.open(files[name], {CHROM: args.length}, form, LEVEL)
        writer = BlockWriter(folder / name, "runs", "x")
        for blocks in encode_all(encoder, stretches({CHROM: args.length}, form)):
            writer.add(blocks)
        writer.finish()
        mb = args.length * args.tracks / 1e6
        speeds[name] = mb / (time.perf_counter() - began)
        stores[name] = Blocks(folder / name, "runs"), form
        sizes[name] = int(stores[name][0].sizes.sum()) / (args.length * args.tracks)
        row(
            f"writing {name} tracks, Mb of genome x tracks a second and core", f"{speeds[name]:.0f}", ">= 100"
        )
    row("size of count data, share of dense bfloat16", f"1/{2 / sizes['sparse']:.0f}", "<= 1/20")
    row("size of dense floats (float32, exact), share of dense bfloat16", f"1/{2 / sizes['dense']:.1f}")
    arrays = {name: best_zarr(paths, folder / f"{name}.zarr", args.length) for name, paths in files.items()}
    for name, (array, chunks) in arrays.items():
        stored = sum(p.stat().st_size for p in (folder / f"{name}.zarr").rglob("*") if p.is_file())
        row(f"Zarr of {name} tracks: chunks {chunks[0]} x {chunks[1]:,}, share of dense bfloat16",
            f"1/{2 * args.length * args.tracks / stored:.1f}")  # fmt: skip
        assert array.shape == (args.tracks, args.length)
    turns(args, stores, {n: [pyBigWig.open(str(p)) for p in paths] for n, paths in files.items()},
          {n: array for n, (array, _) in arrays.items()}, rng)  # fmt: skip


def opened(blocks: Blocks, form: ChunkFormat, start: int, end: int) -> PackedSignal:
    """A window that lies inside the chromosome, as ShardStore reads it."""
    pieces = []
    for number in range(start // CHUNK, -(-end // CHUNK)):
        origin = number * CHUNK
        first, last = max(start, origin), min(end, origin + CHUNK)
        chunk = open_chunk(blocks.read(number), form)
        pieces.append(Piece(first - start, chunk, CHUNK, first - origin, last - origin))
    return PackedSignal(form, end - start, pieces)


def best_zarr(paths: list[Path], folder: Path, length: int) -> tuple[zarr.Array, tuple[int, int]]:
    """The tracks as a Zarr array in the chunking that reads a window fastest."""
    values = np.empty((len(paths), length), np.float32)
    for number, path in enumerate(paths):
        with pyBigWig.open(str(path)) as file:
            values[number] = file.values(CHROM, 0, length, numpy=True)
    best = (np.inf, CHUNKINGS[0])
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
    for chunks in [*CHUNKINGS, None]:
        chosen = chunks or best[1]
        fitting = (min(chosen[0], len(paths)), chosen[1])
        array = zarr.create_array(str(folder), shape=values.shape, chunks=fitting, dtype="float32",
                                  compressors=[codec], overwrite=True)  # fmt: skip
        array[:] = values
        if chunks:
            seconds = []
            for start in (0, 100_000, length - WINDOW):
                began = time.perf_counter()
                array[:, start : start + WINDOW]
                seconds.append(time.perf_counter() - began)
            best = min(best, (statistics.median(seconds), chunks))
    return array, best[1]


def turns(
    args: argparse.Namespace, stores: dict, bigwigs: dict, arrays: dict, rng: np.random.Generator
) -> None:
    """Random windows by each implementation in turn; a row each."""

    def done(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        moved = [t.to(args.device) for t in tensors]
        if args.device != "cpu":
            torch.cuda.synchronize()
        return moved

    def ours(start: int) -> list[torch.Tensor]:
        end = start + WINDOW
        return done([opened(*s, start, end).dense(args.device) for s in stores.values()])

    def from_bigwig(start: int) -> list[torch.Tensor]:
        found = []
        for files in bigwigs.values():
            values = np.empty((len(files), WINDOW), np.float32)
            for number, file in enumerate(files):
                values[number] = file.values(CHROM, start, start + WINDOW, numpy=True)
            found.append(torch.from_numpy(values).T)
        return done(found)

    def from_zarr(start: int) -> list[torch.Tensor]:
        return done([torch.from_numpy(a[:, start : start + WINDOW]).T for a in arrays.values()])

    readers = {"megabase": ours, "pyBigWig": from_bigwig, "Zarr, blosc-zstd": from_zarr}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(args.windows + 1):
        start = int(rng.integers(0, args.length - WINDOW + 1))
        names = list(readers)
        first = number % len(names)
        found = {}
        for name in [*names[first:], *names[:first]]:
            began = time.perf_counter()
            tensors = readers[name](start)
            seconds[name].append(time.perf_counter() - began)
            found[name] = [t[::4097].cpu() for t in tensors]
            del tensors
        for name in names[1:]:
            assert all(map(torch.equal, found["megabase"], found[name])), name
    taken = {name: values[1:] for name, values in seconds.items()}  # the first window warms up
    row(f"window of {WINDOW:,} bp, {args.tracks} sparse and {args.tracks} dense tracks, to dense float32",
        f"{statistics.median(taken['megabase']):.3f} s")  # fmt: skip
    for name in list(readers)[1:]:
        ratios = [b / a for a, b in zip(taken["megabase"], taken[name], strict=True)]
        told = f"{statistics.median(ratios):.1f}x ({min(ratios):.1f} to {max(ratios):.1f})"
        row(f"faster than {name} ({statistics.median(taken[name]):.2f} s)", told, ">= 3x")


def feed(args: argparse.Namespace, folder: Path) -> None:
    """Windows of 1,697 tracks by threads, as a loader reads them for its device, where they unfold."""
    rng = np.random.default_rng(1)
    length = 2 << 20
    stores = {}
    for kind, width in WIDE.items():
        form = ChunkFormat(width, CHUNK, "float32")
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        writer = BlockWriter(folder / f"wide-{kind}", "runs", "x")
        tracks = [synthetic_tracks.counts(kind, length, rng) for _ in range(width)]
        runs = [(starts, pack(values, "float32")) for starts, values in tracks]
        for low in range(0, length, CHUNK):
            writer.add([encode_chunk([cut_runs(r, low, low + CHUNK) for r in runs], form, compressor)])
        writer.finish()
        del tracks, runs
        stores[kind] = Blocks(folder / f"wide-{kind}", "runs"), form
    starts = rng.integers(0, length - WINDOW + 1, 4 * args.windows)

    give_back_holes(above=0)  # of making the tracks
    before, peaks = resident(), []

    def read(start: int) -> int:
        found = [opened(*s, int(start), int(start) + WINDOW) for s in stores.values()]
        peaks.append(resident())
        return sum(signal.nbytes for signal in found)

    read(starts[0])
    began = time.perf_counter()
    read(starts[0])
    one = time.perf_counter() - began
    began = time.perf_counter()
    with ThreadPoolExecutor(args.workers) as pool:
        sizes = list(pool.map(read, starts))
    each = (time.perf_counter() - began) / len(starts)
    width = sum(WIDE.values())
    dense = width * WINDOW * 4
    row(f"window of {width:,} tracks, one thread", f"{one:.2f} s")
    row(f"windows of {width:,} tracks, {args.workers} threads on {os.cpu_count()} cores, seconds each",
        f"{each:.2f}", f"<= {args.step}")  # fmt: skip
    row("compact window that travels to the device", f"{statistics.mean(sizes) / 1e6:.0f} MB (dense float32: "
        f"{dense / 1e6:,.0f} MB)")  # fmt: skip
    if args.device != "cpu":
        seconds = unfolded(stores, int(starts[0]), args.device)
        row("such a window made dense on the device", f"{seconds:.3f} s")
    half = len(peaks) // 2
    row("resident memory that reading adds, first and second half of the windows",
        f"{max(peaks[:half]) - before:.1f} and {max(peaks[half:]) - before:.1f} GB", "bounded")  # fmt: skip


def unfolded(stores: dict, start: int, device: str) -> float:
    """Median seconds until a wide window, opened already, is dense on a device."""
    window = [opened(*store, start, start + WINDOW) for store in stores.values()]
    seconds = []
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        dense = [signal.dense(device) for signal in window]
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        del dense
    return statistics.median(seconds[1:])


def resident() -> float:
    """GB of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


if __name__ == "__main__":
    main()
