"""Windows as pieces: the same bases as editing the text, and the same alignment as the dense one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from megabase.alignment import Alignment, align_alternate, alternate_sites, merged
from megabase.alleles import Piece, codes_of, cut, edited, joined
from megabase.seeds import generator
from megabase.sequence import decode, encode, reverse_complement


class Chromosome:
    """One chromosome of random bases, unknown beyond its ends."""

    def __init__(self, length: int = 400) -> None:
        self.sequence = generator(0, "alleles").integers(0, 4, length).astype(np.uint8)

    def codes(self, chrom: str, start: int, end: int) -> np.ndarray:
        assert chrom == "chr1"
        found = np.full(end - start, 4, np.uint8)
        a, b = max(start, 0), min(end, len(self.sequence))
        if a < b:
            found[a - start : b - start] = self.sequence[a:b]
        return found


def test_pieces_are_read_on_either_strand_and_cut_as_they_are_read() -> None:
    genome = Chromosome()
    pieces = (Piece("chr1", 10, 30), Piece.literal("ACGTN"), Piece("chr1", 50, 80, reverse=True))
    whole = codes_of(pieces, genome)
    wanted = np.concatenate(
        [genome.sequence[10:30], encode("ACGTN"), reverse_complement(genome.sequence[50:80])]
    )
    assert decode(whole) == decode(wanted)
    for first in range(0, 55, 3):
        for last in range(first, 56, 5):
            assert decode(codes_of(cut(pieces, first, last), genome)) == decode(wanted[first:last])


def test_joined_pieces_are_as_few_as_their_order_allows() -> None:
    parts = [
        Piece("chr1", 0, 5), Piece("chr1", 5, 9), Piece("chr1", 9, 9), Piece("chr1", 20, 25, True),
        Piece("chr1", 12, 20, True), Piece.literal("AC"), Piece.literal("G"), Piece("chr2", 9, 12),
    ]  # fmt: skip
    assert joined(parts) == (
        Piece("chr1", 0, 9), Piece("chr1", 12, 25, True), Piece.literal("ACG"), Piece("chr2", 9, 12),
    )  # fmt: skip


def test_edits_are_those_of_a_text_editor() -> None:
    genome = Chromosome()
    text, start, length = decode(genome.sequence), 40, 120
    edits = [(50, 1, "G"), (60, 4, ""), (70, 0, "TTTT"), (90, 3, "ACGTACGT")]
    wanted, moved = text, 0
    for position, replaced, by in edits:
        at = position + moved
        wanted = wanted[:at] + by + wanted[at + replaced :]
        moved += len(by) - replaced
    found = edited("chr1", start, length, [(p, r, [Piece.literal(b)]) for p, r, b in edits])
    assert decode(codes_of(found, genome)) == wanted[start : start + length]
    assert sum(map(len, found)) == length


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="begins before"):
        edited("chr1", 0, 100, [(10, 5, []), (12, 1, [])])
    with pytest.raises(ValueError, match="ends before"):
        Piece("chr1", 5, 4)


@pytest.mark.parametrize("offset", [0, 1, 30, 57, 62])
@pytest.mark.parametrize(("ref", "alt"), [(1, 1), (3, 3), (1, 4), (2, 5), (5, 1), (7, 3), (1, 40), (40, 1)])
def test_an_alignment_by_runs_is_the_dense_one(offset: int, ref: int, alt: int) -> None:
    length = 64
    values = torch.from_numpy(generator(1, "values").random((length, 2)))
    dense = align_alternate(values, offset, ref, alt)
    found = Alignment.of_alleles(offset, ref, alt, length)
    assert torch.equal(found.align(torch.arange(length), lambda at: values[at]), dense)
    spans = [(3, 9), (28, 33), (55, 64)]
    allowed = torch.zeros(length, dtype=torch.bool)
    for first, last in found.reads(spans):
        allowed[first:last] = True

    def read(at: torch.Tensor) -> torch.Tensor:
        assert bool(allowed[at].all())  # nothing else was asked for
        return values[at]

    positions = torch.cat([torch.arange(*span) for span in spans])
    assert torch.equal(found.align(positions, read), dense[positions])


def test_spans_merge_over_gaps() -> None:
    spans = [(5, 7), (0, 2), (2, 4), (9, 9), (8, 10)]
    assert merged(spans) == [(0, 4), (5, 7), (8, 10)]
    assert merged(spans, gap=1) == [(0, 10)]


@pytest.mark.parametrize("offset", [0, 1, 30, 57, 60, 62])
@pytest.mark.parametrize(("ref", "alt"), [(1, 1), (1, 4), (2, 5), (5, 1), (7, 3), (1, 40)])
def test_sites_are_read_where_the_dense_rule_reads_them(offset: int, ref: int, alt: int) -> None:
    length = 64
    if offset + ref > length:
        offset = length - ref
    probabilities = torch.from_numpy(generator(2, "sites").random((length, 5)))
    positions = torch.arange(-1, length).repeat(4, 1)
    wanted = alternate_sites(positions, probabilities, offset, ref, alt)
    alignment = Alignment.of_alleles(offset, ref, alt, length)
    found = alignment.sites(positions, lambda a, b: probabilities[a:b])
    assert torch.equal(found, wanted)
    for first, last in [(offset, length), (offset + 1, length), (max(offset - 3, 0), offset + 2)]:
        allowed = {i for a, b in alignment.reads([(first, last)]) for i in range(a, b)}
        inside = (positions >= first) & (positions < last) & (found >= 0)
        assert set(found[inside].tolist()) <= allowed
