"""Motifs of the demo organism: consensus, position weight matrix, scan and strength.

A motif is written as an IUPAC consensus. A position of one letter keeps its base with probability 0.91, a
two-letter position keeps either with 0.47, N is free. The score of a site is its log2 odds against equal base
frequencies; the strength is 1 at the best score and falls linearly to 0 at `MISMATCHES` full mismatches
below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from megabase.sequence import encode, reverse_complement
from megabase.spec import ALPHABET, UNKNOWN_BASE

IUPAC = {"A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "K": "GT", "M": "AC", "N": "ACGT"}
CONSERVED = {1: 0.91, 2: 0.47, 4: 0.25}  # probability of each base that the letter allows, by letter width
MISMATCHES = 2.2  # mismatches of a one-letter position at which the strength reaches 0
FULL_PENALTY = float(np.log2(0.91 / 0.03))
IMPOSSIBLE = -1e3  # score of an unknown base: no site holds one
_WORD = 4  # bases that one table look-up covers


@dataclass(frozen=True)
class Motif:
    """A named motif. anchor: index of the base that stands for the site (default: the middle one)."""

    name: str
    consensus: str
    anchor_base: int | None = None

    def __len__(self) -> int:
        return len(self.consensus)

    @property
    def anchor(self) -> int:
        """Index in the motif of the base that stands for it."""
        return len(self) // 2 if self.anchor_base is None else self.anchor_base

    @cached_property
    def matrix(self) -> np.ndarray:
        """Base probabilities float64 [length, 4]."""
        rows = []
        for letter in self.consensus:
            allowed = IUPAC[letter]
            kept = CONSERVED[len(allowed)]
            other = 0.0 if len(allowed) == 4 else (1 - kept * len(allowed)) / (4 - len(allowed))
            rows.append([kept if base in allowed else other for base in ALPHABET])
        return np.array(rows)

    @cached_property
    def scores(self) -> np.ndarray:
        """log2 odds float32 [length, 5]; the last column is the unknown base."""
        odds = np.log2(self.matrix / 0.25)
        return np.hstack([odds, np.full((len(self), 1), IMPOSSIBLE)]).astype(np.float32)

    @cached_property
    def best(self) -> float:
        """Highest score."""
        return float(self.scores[:, :4].max(axis=1).sum())

    def strength(self, score: np.ndarray) -> np.ndarray:
        """0..1 of scores: 1 for the consensus, 0 from `MISMATCHES` mismatches on."""
        return np.clip(1 - (self.best - score) / (MISMATCHES * FULL_PENALTY), 0, 1)

    @cached_property
    def strands(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the motif as read on the + strand and as it lies when it sits on the - strand."""
        return self.scores, np.ascontiguousarray(self.scores[::-1][:, [3, 2, 1, 0, 4]])

    @cached_property
    def palindromic(self) -> bool:
        """Whether both strands read alike: such a site is one site, found on the + strand."""
        forward, reverse = self.strands
        return bool(np.array_equal(forward, reverse))

    @cached_property
    def tables(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Look-up tables of words of four bases for both strands."""
        forward, reverse = (_tables(matrix) for matrix in self.strands)
        return forward, reverse

    def sample(
        self, rng: np.random.Generator, mismatches: int = 0, fixed: tuple[int, ...] = ()
    ) -> np.ndarray:
        """Codes uint8 [length] of one site: `mismatches` one-letter positions changed, `fixed` ones never."""
        allowed = [IUPAC[letter] for letter in self.consensus]
        drawn = (rng.random(len(self)) * [len(letters) for letters in allowed]).astype(int)
        codes = encode("".join(letters[i] for letters, i in zip(allowed, drawn, strict=True))).copy()
        strict = [i for i, letters in enumerate(allowed) if len(letters) == 1 and i not in fixed]
        for position in rng.permutation(strict)[:mismatches].tolist() if mismatches else ():
            codes[position] = (codes[position] + rng.integers(1, 4)) % 4
        return codes


def _tables(scores: np.ndarray) -> list[np.ndarray]:
    padded = np.zeros((-(-len(scores) // _WORD) * _WORD, 5), dtype=np.float32)
    padded[: len(scores)] = scores
    tables = []
    for start in range(0, len(padded), _WORD):
        a, b, c, d = padded[start : start + _WORD]
        tables.append((a[:, None, None, None] + b[:, None, None] + c[:, None] + d).ravel())
    return tables


def words(codes: np.ndarray) -> np.ndarray:
    """uint16 [S + 29]: index of the four bases from each position, the end padded with unknown bases."""
    padded = np.concatenate([codes, np.full(32, UNKNOWN_BASE, dtype=np.uint8)]).astype(np.uint16)
    return padded[:-3] * 125 + padded[1:-2] * 25 + padded[2:-1] * 5 + padded[3:]


def scan(index: np.ndarray, length: int, motif: Motif) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [S] of the motif that starts at each of `length` positions, on + and on -.

    index: `words(codes)`. A site that runs off the end scores `IMPOSSIBLE` or less.
    """
    found = []
    for tables in motif.tables:
        score = tables[0][index[:length]]
        for number, table in enumerate(tables[1:], 1):
            score += table[index[number * _WORD : number * _WORD + length]]
        found.append(score)
    return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Sites:
    """Sites of several motifs in one sequence, sorted by position.

    motif int [N] (index into `SCANNED`), position int [N] (of the anchor base), strand int8 [N] (1 or -1),
    strength float64 [N].
    """

    motif: np.ndarray
    position: np.ndarray
    strand: np.ndarray
    strength: np.ndarray

    def select(self, name: str, low: int, high: int, strand: int = 0) -> np.ndarray:
        """Strengths of the sites of one motif with anchor in [low, high); strand 0 means either."""
        first, last = np.searchsorted(self.position, (low, high))
        part = slice(first, last)
        keep = self.motif[part] == NUMBER[name]
        if strand:
            keep &= self.strand[part] == strand
        return self.strength[part][keep]


def find_sites(codes: np.ndarray, names: tuple[str, ...] = ()) -> Sites:
    """Every site with a strength above 0 in codes uint8 [S], on both strands; of the named scanned motifs,
    or all.
    """
    index, columns = words(codes), []
    for number, motif in enumerate(SCANNED):
        if names and motif.name not in names:
            continue
        for sign, score in zip((1, -1), scan(index, len(codes), motif), strict=True):
            if sign < 0 and motif.palindromic:
                continue
            start = np.flatnonzero(score > motif.best - MISMATCHES * FULL_PENALTY)
            anchor = start + (motif.anchor if sign > 0 else len(motif) - 1 - motif.anchor)
            strength = motif.strength(score[start].astype(np.float64))
            columns.append(
                (np.full(len(start), number), anchor, np.full(len(start), sign, np.int8), strength)
            )
    motif_number, position, strand, strength = (np.concatenate(part) for part in zip(*columns, strict=True))
    order = np.lexsort((strand, motif_number, position))
    return Sites(motif_number[order], position[order], strand[order], strength[order])


def site_strengths(codes: np.ndarray, starts: np.ndarray, motif: Motif) -> np.ndarray:
    """Strength float64 [N] of the + strand motif that starts at each of `starts` in codes uint8 [S]."""
    if len(starts) == 0:
        return np.zeros(0)
    columns = np.arange(len(motif))
    score = motif.scores[columns, codes[np.asarray(starts)[:, None] + columns]].sum(axis=1)
    return motif.strength(score.astype(np.float64))


def oriented(codes: np.ndarray, strand: int) -> np.ndarray:
    """A site's codes as they lie on the + strand of the genome."""
    return codes if strand > 0 else reverse_complement(codes)


# Regulatory motifs: CTCF folds the genome; the next eight open elements or close them; TATA and INR start
# transcription (anchor of INR: the TSS). Those of the cell types differ in composition, and most are
# palindromes, as many real ones are: a small network learns one pattern where it would need two.
SCANNED = (
    Motif("CTCF", "ACCAGYAGGGGGCGC"),
    Motif("CORE1", "TGCGCATGCGCA"),
    Motif("HEPA1", "AGTTAATNATTAACT"),
    Motif("HEPA2", "TGTTTACTTAGGA"),
    Motif("NEUR1", "CCAGCAGCTGCTGG"),
    Motif("NEUR2", "TTCAGCACCACGG"),
    Motif("LYMP1", "CACTTCCGGAAGTG"),
    Motif("SHAR1", "GATGACGTCATC"),
    Motif("REPR1", "TTCCAGGCCTGGAA"),
    Motif("TATA", "GCTATAAAAGGC"),
    Motif("INR", "CGTCAGTYCTCG", 4),
    Motif("ESE1", "GAAGAYGAAGAC"),
    Motif("NSE1", "TTCATCYATGCT"),
    Motif("LSE1", "CTGGYTAACTGG"),
    Motif("PAS1", "CAATAAAGTG"),
)
NUMBER = {motif.name: number for number, motif in enumerate(SCANNED)}
DONOR = Motif("DONOR", "MAGGTRAGT", 2)  # anchor: last base of the exon
ACCEPTOR = Motif("ACCEPTOR", "YTTYYTTYTTYNCAGG", 15)  # anchor: first base of the exon
DONOR_CORE, ACCEPTOR_CORE = (3, 4), (13, 14)  # GT and AG: never changed in the reference
