"""The two passes over a group's signal, a chromosome at a time, by one process or by several.

The first decodes every file once: it sums up what the scales need and holds the signal on disk as runs. The
second scales and averages what is held. What a chromosome gives does not depend on who computes it, and the
parts are joined in the genome's order, so that any number of processes gives the same bits.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from megabase.genome import Genome
from megabase.tracks.agreement import Agreement, bin_means
from megabase.tracks.bigwig import stretches
from megabase.tracks.held import RunFile, read_blocks
from megabase.tracks.measured import Measured
from megabase.tracks.replicates import Replicate

T = TypeVar("T")
HELD_REPLICATES = 16  # of a larger group, each file is decoded again rather than held on disk
SHARE = 1 << 25  # bases that a process must have to be worth its start


@dataclass
class Work:
    """What a process must know of a group; it is sent to each of them once a pass."""

    genome: Genome
    measured: Measured
    replicates: list[Replicate]
    strands: tuple[str, ...]
    scratch: Path
    mean_wanted: bool = False  # whether the first pass sums up the mean of the replicates
    scale: float = 1.0  # of the mean, in the second pass

    @property
    def holds(self) -> bool:
        """Whether the first pass holds the signal for the second."""
        return len(self.replicates) <= HELD_REPLICATES

    def stretches(self, chrom: str) -> Iterator[tuple[int, int, np.ndarray]]:
        """`(start, end, mask of measured bases)` of each stretch with a measured base."""
        for start, end in stretches(self.genome.lengths[chrom]):
            mask = self.measured.block(chrom, start, end)
            if mask.any():
                yield start, end, mask

    def file(self, kind: str, chrom: str) -> Path:
        """A file in scratch of one chromosome."""
        return self.scratch / f"{kind}{''.join(self.strands)}.{self.genome.order[chrom]}"


@dataclass
class Sums:
    """First pass of a chromosome: sums a stretch [n, R, strands], extremes [R, strands], sums of the mean."""

    totals: list[np.ndarray]
    low: np.ndarray
    high: np.ndarray
    means: list[float]


@dataclass
class Written:
    """Second pass of a chromosome: its runs by strand in a file each, and what they amount to."""

    starts: list[int] = field(default_factory=list)  # of the stretches in the files
    totals: dict[str, list[float]] = field(default_factory=dict)  # by strand, a sum a stretch
    nonzero: dict[str, int] = field(default_factory=dict)
    measured: dict[str, int] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    maskable: int = 0  # bases that are not masked, measured or not
    agreement: dict[str, Agreement] = field(default_factory=dict)


def sum_chromosome(work: Work, chrom: str) -> Sums:
    """Sums over measured bases of each replicate and strand, and of the mean of the replicates if wanted."""
    shape = (len(work.replicates), len(work.strands))
    sums = Sums([], np.zeros(shape), np.zeros(shape), [])
    held = RunFile(work.file("held", chrom)) if work.holds else None
    for start, end, mask in work.stretches(chrom):
        totals = np.zeros(shape)
        for s, strand in enumerate(work.strands):
            mean = RunningMean()
            for r, replicate in enumerate(work.replicates):
                values = np.where(mask, replicate.sources[strand].block(chrom, start, end), np.nan)
                totals[r, s] = np.nansum(values)
                sums.low[r, s] = min(sums.low[r, s], np.nanmin(values, initial=0.0))
                sums.high[r, s] = max(sums.high[r, s], np.nanmax(values, initial=0.0))
                if work.mean_wanted:
                    mean.add(values)
                if held:
                    held.append(values)
            if work.mean_wanted:
                sums.means.append(float(np.nansum(mean.values())))
        sums.totals.append(totals)
    if held:
        held.close()
    return sums


def write_chromosome(work: Work, chrom: str) -> Written:
    """Write the scaled mean of the replicates of each strand as runs (`Work.file`), and sum it up."""
    done = Written()
    held = read_blocks(work.file("held", chrom)) if work.holds else None
    files = {strand: RunFile(work.file(f"mean{strand}", chrom)) for strand in work.strands}
    for strand in work.strands:
        done.agreement[strand] = Agreement.of(len(work.replicates))
        done.totals[strand] = []
    for start, end, mask in work.stretches(chrom):
        done.starts.append(start)
        done.maskable += int(np.count_nonzero(mask))
        for strand in work.strands:
            mean, bins = RunningMean(), []
            for replicate in work.replicates:
                raw = next(held) if held else replicate.sources[strand].block(chrom, start, end)
                mean.add(scaled := replicate.scaled(strand, raw))
                if len(work.replicates) > 1:
                    bins.append(bin_means(np.where(mask, scaled, np.nan)))
            values = np.where(mask, mean.values() * work.scale, np.nan)
            values = values.astype(np.float32) + np.float32(0)  # no minus zero
            files[strand].append(values)
            _count(done, strand, values)
            if bins:
                done.agreement[strand].add(np.array(bins))
    for file in files.values():
        file.close()
    work.file("held", chrom).unlink(missing_ok=True)
    return done


def _count(done: Written, strand: str, values: np.ndarray) -> None:
    """Take one stretch of a strand, float32 [n], NaN missing, into the sums."""
    measured = ~np.isnan(values)
    done.totals[strand].append(float(np.nansum(values, dtype=np.float64)))
    done.nonzero[strand] = done.nonzero.get(strand, 0) + int(np.count_nonzero(measured & (values != 0)))
    done.measured[strand] = done.measured.get(strand, 0) + int(np.count_nonzero(measured))
    done.largest[strand] = max(done.largest.get(strand, 0.0), float(np.nanmax(values, initial=0.0)))


class RunningMean:
    """Mean over replicates of the values that are not NaN; in memory are its sum and count alone."""

    def __init__(self) -> None:
        self._first: np.ndarray | None = None
        self._sum = self._count = np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        """Take in float64 [n]."""
        if self._first is None:
            self._first = values
            return
        if not len(self._sum):
            self._count, self._sum = (~np.isnan(self._first)).astype(np.int64), np.nan_to_num(self._first)
        self._count += ~np.isnan(values)
        self._sum += np.nan_to_num(values)

    def values(self) -> np.ndarray:
        """float64 [n]; NaN where all were."""
        if self._first is None:
            raise ValueError("mean of no replicate")
        if not len(self._sum):
            return self._first
        return np.where(self._count > 0, self._sum / np.maximum(self._count, 1), np.nan)


def each_chromosome(function: Callable[[Work, str], T], work: Work, threads: int) -> Iterator[tuple[str, T]]:
    """`(chrom, function(work, chrom))` in the genome's order, computed by up to `threads` processes.

    Processes run a few chromosomes ahead of who takes the results and no more, so that what they leave on
    disk stays bounded. A small genome is not worth their start.
    """
    chroms = list(work.genome.lengths)
    workers = min(threads, len(chroms), 1 + sum(work.genome.lengths.values()) // SHARE)
    if workers < 2:
        yield from ((chrom, function(work, chrom)) for chrom in chroms)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of polars' threads
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(work,)) as pool:
        ahead: deque[tuple[str, Future[T]]] = deque()
        left = iter(chroms)
        try:
            while True:
                while len(ahead) < workers + 2 and (chrom := next(left, None)) is not None:
                    ahead.append((chrom, pool.submit(_apply, function, chrom)))
                if not ahead:
                    return
                chrom, result = ahead.popleft()
                yield chrom, result.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_own: list[Work] = []  # of a worker process: the group that it works on


def _begin(work: Work) -> None:
    _own[:] = [work]


def _apply(function: Callable[[Work, str], T], chrom: str) -> T:
    return function(_own[0], chrom)
