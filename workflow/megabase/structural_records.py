"""Structural variants of VCF records: the many ways in which files write them, VCF 4.1 to 4.4, as one text.

The texts are those of `megabase.structural`. Positions of records are 0-based here, END is as in VCF.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from megabase.genome import Genome
from megabase.sequence import decode
from megabase.spec import ALPHABET
from megabase.structural import Breakend, Event, parse_structural

INFO = ("END", "SVLEN", "SEQ", "SVINSSEQ")  # what of a record's INFO is read; the last two: inserted bases
_KINDS = {"DEL": "DEL", "DEL:ME": "DEL", "DUP": "DUP", "DUP:TANDEM": "DUP", "INV": "INV"}
_BLOCKS = ("<NON_REF>", "<*>", "<X>")
_UNCERTAIN = ("IMPRECISE", "CIPOS", "CIEND")


class Rejected(ValueError):
    """An allele that cannot be scored: `reason` is one of `variants.REASONS`, the text its detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_structural(
    given: str,
    chrom: str,
    position: int,
    ref: str,
    genome: Genome,
    info: Mapping[str, Any],
    allele: int,
    of: int,
) -> tuple[str, str]:
    """(REF, ALT) of the `allele`-th (1-based) of `of` ALTs of a record at the 0-based `position`.

    given: ALT as in the file. An insertion whose sequence the record gives becomes an ordinary allele. REF
    of N, as many callers write it, becomes the genome's base. info: of the keys INFO. SVLEN of an allele may
    have either sign; where a record of one ALT gives END too, the two must agree. Raises Rejected.
    """
    if given.upper() in _BLOCKS:
        raise Rejected("reference_block", f"{given} of a gVCF stands for any other allele, it is none itself")
    unnamed = ref == "N" and 0 <= position < genome.lengths[chrom]
    own = decode(genome.codes(chrom, position, position + 1)) if unnamed else ref
    if given.startswith("<"):
        kind = given.strip("<>").upper()
        if kind.split(":")[0] == "INS":
            return own, own + _inserted(info)
        return own, f"<{_kind(kind)}:END={_end(kind, position, info, allele, of)}>"
    return own, _breakend(given, position, ref, own, genome).alt


def uncertain(info: Any) -> bool:
    """Whether INFO says that the place of an event is not known to the base."""
    return any(info.get(key) is not None for key in _UNCERTAIN)


def _kind(kind: str) -> str:
    known = _KINDS.get(kind) or ("DEL" if kind.startswith("DEL:ME:") else None)
    if known is None:
        raise Rejected("symbolic_allele", f"ALT <{kind[:60]}> does not give its bases")
    return known


def _inserted(info: Mapping[str, Any]) -> str:
    for key in INFO[2:]:
        if bases := info.get(key):
            return str(bases).upper()
    raise Rejected("no_sequence", f"the inserted bases are not in the record (INFO {' or '.join(INFO[2:])})")


def _end(kind: str, position: int, info: Mapping[str, Any], allele: int, of: int) -> int:
    """Last base (1-based) of an event: by SVLEN of the allele, or by END."""
    lengths, ends = _numbers(info.get("SVLEN")), _numbers(info.get("END"))
    length = abs(lengths[allele - 1]) if len(lengths) == of else 0
    if not length and not ends:
        raise Rejected("no_length", f"<{kind}> without END or SVLEN in INFO")
    if of == 1 and length and ends and ends[0] != position + 1 + length:
        raise Rejected("no_length", f"<{kind}>: END makes it {ends[0] - position - 1} bp, SVLEN {length}")
    end = position + 1 + length if length else ends[0]
    if end <= position + 1:
        raise Rejected("no_length", f"<{kind}> ends at {end}, before its first base {position + 2}")
    return end


def _numbers(value: Any) -> list[int]:
    """Whole numbers of an INFO value, whatever the header declares it as; none where it is not numbers."""
    parts = value if isinstance(value, (tuple, list)) else str("" if value is None else value).split(",")
    try:
        return [int(part) for part in parts]
    except (TypeError, ValueError):
        return []


def _breakend(given: str, position: int, ref: str, own: str, genome: Genome) -> Breakend:
    """The breakend of an ALT, with the genome's names and bases in upper case."""
    if len(ref) != 1:
        raise Rejected("symbolic_allele", f"REF of breakend {given[:60]} has {len(ref)} bases, wanted 1")
    found = parse_structural(position, _upper(given))
    if not isinstance(found, Breakend):
        raise Rejected("symbolic_allele", f"ALT {given[:60]} does not give its bases")
    if ref == "N" and (found.bases.endswith("N") if found.before else found.bases.startswith("N")):
        found = replace(found, bases=found.bases[:-1] + own if found.before else own + found.bases[1:])
    if found.mate is None:
        return found
    name, place = found.mate
    mate = genome.resolve(name)
    if mate is None:
        raise Rejected("unknown_contig", f"mate contig {name} is not in genome {genome.name}")
    if not 0 <= place < genome.lengths[mate]:
        raise Rejected("off_the_end", f"{mate} has {genome.lengths[mate]} bp, the mate is at {place + 1}")
    return replace(found, mate=(mate, place))


def _upper(alt: str) -> str:
    """The bases of a breakend in upper case, its contig as it is."""
    marks = [i for i, letter in enumerate(alt) if letter in "[]"]
    first, last = (marks[0], marks[-1]) if marks else (len(alt), len(alt))
    return alt[:first].upper() + alt[first:last] + alt[last:].upper()


def check_structural(
    chrom: str, ref: str, found: Event | Breakend, genome: Genome, longest: int, max_allele: int
) -> tuple[str, str] | None:
    """(reason, detail) why a structural allele cannot be scored, beyond its REF; None if it can.

    longest: most bases of an event. max_allele: most bases beside a breakend.
    """
    if isinstance(found, Event):
        if found.end > genome.lengths[chrom]:
            return "off_the_end", f"{chrom} has {genome.lengths[chrom]} bp, the event ends at {found.end}"
        if found.end - found.start >= longest:  # the base before it must fit, too
            return "allele_too_long", f"{found.end - found.start} bp, the limit is {longest - 1}"
        return None
    if not set(found.bases) <= set(ALPHABET) and found.bases != ref:
        return "non_acgt", f"bases {found.bases[:60]} of the breakend: wanted A, C, G, T only"
    if len(found.bases) > max_allele:
        return "allele_too_long", f"{len(found.bases)} bp beside the breakend, the limit is {max_allele}"
    return None
