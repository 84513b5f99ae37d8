"""Blocks of one output type's signal from its bigWigs, encoded by several processes, written in order.

The bytes depend on the tracks and the format alone, not on the number of processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path

import zstandard

from megabase.files import FileError
from megabase.shards.encoding import ChunkFormat, cut_runs, encode_chunk, runs_of_intervals
from megabase.tracks.decode import BigWigFile

STRETCH = 1 << 28  # bases x channels that a process reads at a time, which bounds its memory
MOST_CHUNKS = 16  # chunks of a stretch, however few the channels are

Stretch = tuple[str, int, int]


@dataclass(frozen=True)
class SignalEncoder:
    """Encodes stretches of the genome for all channels of one output type. May be pickled."""

    tracks: Sequence[BigWigFile]
    form: ChunkFormat
    level: int

    @classmethod
    def open(
        cls, paths: Sequence[Path], lengths: Mapping[str, int], form: ChunkFormat, level: int
    ) -> SignalEncoder:
        """FileError if a bigWig cannot be used or is of another genome."""
        tracks = [BigWigFile(path, "normalize the track again") for path in paths]
        for track in tracks:
            if track.chroms != lengths:
                raise FileError(
                    f"{track.path}: chromosomes differ from the genome's; normalize the track again"
                )
        return cls(tracks, form, level)

    def blocks(self, stretch: Stretch) -> list[bytes]:
        """Compressed chunks of bases start..end of a chromosome; start is a chunk's."""
        chrom, start, end = stretch
        runs = [
            runs_of_intervals(*track.within(chrom, start, end), (start, end), self.form.dtype)
            for track in self.tracks
        ]
        compressor = zstandard.ZstdCompressor(level=self.level, write_checksum=True)
        return [
            encode_chunk(
                [cut_runs(r, low, min(low + self.form.chunk, end)) for r in runs], self.form, compressor
            )
            for low in range(start, end, self.form.chunk)
        ]


def stretches(lengths: Mapping[str, int], form: ChunkFormat, done: int = 0) -> Iterator[Stretch]:
    """Consecutive stretches of the genome after its first `done` chunks."""
    span = form.chunk * max(1, min(MOST_CHUNKS, STRETCH // (form.chunk * max(form.channels, 1))))
    for chrom, length in lengths.items():
        skipped = min(done, -(-length // form.chunk))
        done -= skipped
        for start in range(skipped * form.chunk, length, span):
            yield chrom, start, min(start + span, length)


_encoder: SignalEncoder | None = None  # of this worker process


def _start(encoder: SignalEncoder) -> None:
    global _encoder
    _encoder = encoder


def _encode(stretch: Stretch) -> list[bytes]:
    assert _encoder is not None
    return _encoder.blocks(stretch)


def encode_all(encoder: SignalEncoder, todo: Iterator[Stretch], workers: int = 1) -> Iterator[list[bytes]]:
    """Blocks of every stretch, in order; at most two stretches a worker are under way.

    Work of no more stretches than workers is done here: processes would take longer to start.
    """
    first = list(islice(todo, workers + 1))
    if len(first) <= workers:
        yield from map(encoder.blocks, first)
        return
    todo = chain(first, todo)
    if workers <= 1:
        yield from map(encoder.blocks, todo)
        return
    context = get_context("forkserver")  # this process may have threads, which a fork would break
    context.set_forkserver_preload([__name__])  # the imports, once for all output types
    with ProcessPoolExecutor(workers, context, _start, (encoder,)) as pool:
        try:
            waiting = deque(pool.submit(_encode, s) for s in islice(todo, 2 * workers))
            while waiting:
                blocks = waiting.popleft().result()
                if (following := next(todo, None)) is not None:
                    waiting.append(pool.submit(_encode, following))
                yield blocks
        finally:
            pool.shutdown(cancel_futures=True)
