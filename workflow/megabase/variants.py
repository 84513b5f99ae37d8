"""VCF in: every record and ALT allele is accepted or rejected with its reason; REF and ALT sequences out.

Positions are 0-based inside. Alleles are kept as the file gives them, upper case: nothing is trimmed or
left-aligned, and indels are assumed left-aligned as callers write them (AlphaGenome Methods, variant
scoring, makes the same assumption).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from megabase.alleles import Piece, Pieces, codes_of, edited
from megabase.genome import Genome, Interval, some_of
from megabase.haplotypes import REASONS as HAPLOTYPE_REASONS
from megabase.logs import LOGGER
from megabase.records import ACCEPTED_SCHEMA, GIVEN_SCHEMA, REJECTED_SCHEMA, numbered_records
from megabase.sequence import decode, encode
from megabase.spec import ALPHABET, TOKEN
from megabase.structural import (
    Breakend,
    Event,
    is_structural,
    parse_structural,
    reference_span,
    structural_pieces,
)
from megabase.structural import allele_alignment as allele_alignment  # beside `allele_pieces`, for the engine
from megabase.structural_records import INFO, Rejected, check_structural, read_structural, uncertain

REASONS = (
    "unknown_contig", "no_alternate", "star_allele", "reference_block", "symbolic_allele", "no_sequence",
    "no_length", "non_acgt", "same_allele", "off_the_end", "allele_too_long", "ref_mismatch", "duplicate",
    *HAPLOTYPE_REASONS,
)  # fmt: skip
_BASES = frozenset(ALPHABET)
_NAMED = re.compile(r"(.+?):(\d+):([A-Za-z]+):(.*[<>\[\].].*)")  # of a structural variant


def haplotype_of(variant_id: str) -> int:
    """The haplotype that a `variant_id` names, 1 or 2; 0 if it names none."""
    return int(variant_id[-1]) if variant_id.endswith(("@1", "@2")) else 0


@dataclass(frozen=True, slots=True)
class Variant:
    """One ALT allele of one place: `ref` begins at the 0-based `position` of the + strand.

    `alt` is a sequence, or one of the texts of `megabase.structural`. haplotype: 1 or 2 where the allele is
    scored in the context of a person's haplotype, else 0.
    """

    chrom: str
    position: int
    ref: str
    alt: str
    haplotype: int = 0

    @property
    def variant_id(self) -> str:
        """`chrom:position+1:ref:alt`, the name that tables are joined by; `@1` or `@2` names a haplotype."""
        name = f"{self.chrom}:{self.position + 1}:{self.ref}:{self.alt}"
        return f"{name}@{self.haplotype}" if self.haplotype else name

    @classmethod
    def parse(cls, variant_id: str) -> Variant:
        """The variant that a `variant_id` names; ValueError if it is not one."""
        haplotype = haplotype_of(variant_id)
        name = variant_id[:-2] if haplotype else variant_id
        named = _NAMED.fullmatch(name)
        parts = list(named.groups()) if named else name.rsplit(":", 3)
        if len(parts) != 4 or not parts[1].isdigit() or not all(parts):
            raise ValueError(f"{variant_id!r} is not chrom:position:ref:alt (1-based position)")
        return cls(parts[0], int(parts[1]) - 1, parts[2], parts[3], haplotype)

    @property
    def interval(self) -> Interval:
        """The bases of REF, up to the end of an event; its middle is that of the variant's window."""
        return Interval(self.chrom, *reference_span(self))

    @property
    def structural(self) -> Event | Breakend | None:
        """The structural event, or None where ALT is a sequence; ValueError where it is neither."""
        if not is_structural(self.alt):
            return None
        if (found := parse_structural(self.position, self.alt)) is None:
            raise ValueError(f"{self.variant_id}: ALT {self.alt[:60]} does not give its bases")
        return found


def allele_pieces(genome: Genome, variant: Variant, start: int, length: int) -> tuple[Pieces, Pieces]:
    """Pieces of both alleles of a window, (REF, ALT), `length` bases each.

    The window is [start, start + length) of the reference. REF is the genome with `variant.ref` written over
    it, even where the genome differs. ALT has `variant.alt` in its place and what follows moved: an insertion
    pushes bases out at the right end, a deletion draws in as many from beyond it (AlphaGenome Methods,
    variant scoring). Structural variants: `megabase.structural`, REF is the genome then. ValueError if the
    variant does not begin in the window, or is on a haplotype (`megabase.personal`).
    """
    if variant.haplotype:
        raise ValueError(f"{variant.variant_id} is on a haplotype: score it with the sample's haplotypes")
    if not 0 <= variant.position - start < length:
        raise ValueError(f"{variant.variant_id} does not begin in {variant.chrom}:{start}-{start + length}")
    if (event := variant.structural) is not None:
        whole = (Piece(variant.chrom, start, start + length),)
        return whole, structural_pieces(variant.chrom, start, length, event)
    position, end = variant.position, variant.position + len(variant.ref)
    ref: Piece = Piece(variant.chrom, position, end)
    if not np.array_equal(ref.codes(genome), encode(variant.ref)):
        ref = Piece.literal(variant.ref)
    return (
        edited(variant.chrom, start, length, [(position, len(variant.ref), [ref])]),
        edited(variant.chrom, start, length, [(position, len(variant.ref), [Piece.literal(variant.alt)])]),
    )


def allele_codes(genome: Genome, variant: Variant, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of `allele_pieces`, (REF, ALT), codes uint8 [length] each; beyond the chromosome is 4 (N)."""
    ref, alt = allele_pieces(genome, variant, start, length)
    return codes_of(ref, genome).copy(), codes_of(alt, genome).copy()


def read_variants(
    vcf: str | Path,
    genome: Genome,
    *,
    max_allele: int,
    window: int | None = None,
    batch: int = 100_000,
    unique: bool = True,
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Batches of (accepted, rejected) tables of a VCF (plain, gzip, bgzip) or BCF.

    Each ALT of each record is one row of one of the two tables; a record without ALT is one rejected row.
    Accepted rows have VARIANT_COLUMNS, rejected ones REJECTED_COLUMNS (`position` 0-based, `chrom` as in the
    file) with a reason of REASONS. Contig names are translated by `genome.resolve`; the header need not list
    them. Duplicates are found over the whole file, at about 150 bytes of memory an accepted variant, or left
    to the caller (`unique=False`): accepted rows then have GIVEN_SCHEMA, too, what the file wrote otherwise.
    FileError for a file that is not VCF, is cut short, or has a broken line, with its record number.
    """
    path = Path(vcf)
    seen: set[str] = set()
    uncertain_places = 0
    contigs: dict[str, str | None] = {}
    accepted: list[tuple[Any, ...]] = []
    rejected: list[tuple[Any, ...]] = []
    for number, record in numbered_records(path):
        chrom, position, ref = record.CHROM, record.start, record.REF.upper()
        if chrom not in contigs:
            contigs[chrom] = genome.resolve(chrom)
        for allele, given in enumerate(record.ALT or ["."], 1):
            variant = Variant(contigs[chrom] or chrom, position, ref, given.upper())
            known = contigs[chrom] is not None
            try:
                if known and given not in (".", "*") and is_structural(given):
                    variant = _structural(variant, given, record, genome, allele)
                    uncertain_places += uncertain(record.INFO)
                problem = check_variant(variant, genome, max_allele, window, known_contig=known)
            except Rejected as rejection:
                problem = rejection.reason, str(rejection)
            name = variant.variant_id
            if problem is None and name in seen:
                problem = "duplicate", f"{name} was read before"
            if problem is None:
                row = (name, variant.chrom, position, variant.ref, variant.alt, record.ID, number, allele)
                if unique:
                    seen.add(name)
                    accepted.append(row)
                else:
                    own = (record.REF, variant.ref), (given, variant.alt)
                    accepted.append((*row, chrom, *(text if text != kept else None for text, kept in own)))
            else:
                rejected.append((number, chrom, position, record.ID, record.REF, given, *problem))
        if len(accepted) + len(rejected) >= batch:
            yield _tables(accepted, rejected, unique)
            accepted, rejected = [], []
    yield _tables(accepted, rejected, unique)
    renamed = [f"{name} is {chrom}" for name, chrom in contigs.items() if chrom not in (None, name)]
    if renamed:
        LOGGER.info(
            "%s: contigs are named otherwise than in genome %s: %s", path, genome.name, some_of(renamed)
        )
    if uncertain_places:
        LOGGER.warning(
            "%s: %d structural alleles are where the caller is not sure of the base (IMPRECISE, CIPOS, "
            "CIEND); they are taken at POS and END", path, uncertain_places,
        )  # fmt: skip


def check_variant(
    variant: Variant, genome: Genome, max_allele: int, window: int | None = None, *, known_contig: bool = True
) -> tuple[str, str] | None:
    """(reason, detail) why one allele cannot be scored, or None if it can; reasons are tried in order.

    max_allele: most bases of REF and ALT. window: where given, all alleles must fit it, events alone do.
    """
    fitting = window - TOKEN if window else max_allele  # windows begin on a grid of tokens
    ref, alt = variant.ref, variant.alt
    if not known_contig:
        return "unknown_contig", f"contig {variant.chrom} is not in genome {genome.name}"
    if alt in ("", "."):
        return "no_alternate", "the record has no ALT allele"
    if alt == "*":
        return "star_allele", "the allele is missing because of a deletion upstream"
    if is_structural(alt):
        if (event := parse_structural(variant.position, alt)) is None:
            return "symbolic_allele", f"ALT {alt[:60]} does not give its bases"
        problem = _check_ref(variant, genome)
        return problem or check_structural(variant.chrom, ref, event, genome, fitting, max_allele)
    if not (_BASES.issuperset(ref) and _BASES.issuperset(alt)):
        return "non_acgt", f"REF {ref[:60]}, ALT {alt[:60]}: wanted A, C, G, T only"
    if ref == alt:
        return "same_allele", "REF and ALT are the same"
    limit = min(max_allele, fitting)
    if max(len(ref), len(alt)) > limit and _inside(variant, genome):
        return "allele_too_long", f"{max(len(ref), len(alt))} bp, the limit is {limit}"
    return _check_ref(variant, genome)


def _inside(variant: Variant, genome: Genome) -> bool:
    return variant.position >= 0 and variant.position + len(variant.ref) <= genome.lengths[variant.chrom]


def _check_ref(variant: Variant, genome: Genome) -> tuple[str, str] | None:
    """Whether REF lies on its chromosome and is what the genome has."""
    ref, end, length = variant.ref, variant.position + len(variant.ref), genome.lengths[variant.chrom]
    if not _inside(variant, genome):
        return "off_the_end", f"{variant.chrom} has {length} bp, REF is at {variant.position + 1}-{end}"
    found = decode(genome.codes(variant.chrom, variant.position, end))
    if found != ref:
        return "ref_mismatch", f"REF is {ref[:60]}, genome {genome.name} has {found[:60]}"
    return None


def _structural(variant: Variant, given: str, record: Any, genome: Genome, allele: int) -> Variant:
    """The variant with its ALT in the text of `megabase.structural`; Rejected if that cannot be."""
    info = {key: record.INFO.get(key) for key in INFO}
    place = (variant.chrom, variant.position)
    texts = read_structural(given, *place, variant.ref, genome, info, allele, len(record.ALT))
    return Variant(*place, *texts)


def _tables(accepted: list[tuple], rejected: list[tuple], unique: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    schema = ACCEPTED_SCHEMA if unique else ACCEPTED_SCHEMA | GIVEN_SCHEMA
    return (
        pl.DataFrame(accepted, schema=schema, orient="row"),
        pl.DataFrame(rejected, schema=REJECTED_SCHEMA, orient="row"),
    )
