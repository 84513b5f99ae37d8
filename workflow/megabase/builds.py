"""Which assembly a VCF is of: by what its REF alleles say, and by the contig lengths of its header.

A file of another assembly is refused before anything is scored. The lengths of well-known assemblies are in
`resources/assemblies.tsv`; where that table is missing (a package without its checkout), none is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from megabase.files import FileError
from megabase.genome import some_of
from megabase.logs import LOGGER

if TYPE_CHECKING:
    import polars as pl

    from megabase.genome import Genome

TABLE = Path(__file__).resolve().parents[2] / "resources" / "assemblies.tsv"
MIN_COMPARED = 20  # alleles; fewer say nothing about an assembly
MAX_MISMATCHES = 0.5  # share of REF alleles that differ; a wrong assembly gives about 0.7, the right one 0
MIN_FIT = 0.9  # share of a header's contigs that have an assembly's length
_CONTIG = re.compile(r"^##contig=<(.*)>\s*$", re.M)
_ELSEWHERE = ("ref_mismatch", "off_the_end")


def same_assembly(
    batches: Iterable[tuple[pl.DataFrame, pl.DataFrame]], vcf: str | Path, genome: Genome
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The batches of `read_variants`, as long as most REF alleles are the genome's.

    FileError once most of at least MIN_COMPARED alleles have another REF, or lie beyond the chromosome's end:
    it tells which assembly the header's contigs fit. FileError, too, where as many alleles are all on contigs
    that the genome does not have.
    """
    compared = elsewhere = unknown = read = 0
    names: dict[str, None] = {}
    for accepted, rejected in batches:
        found = rejected.filter(rejected["reason"].is_in(_ELSEWHERE)).height
        elsewhere += found
        compared += found + accepted.height
        read += accepted.height + rejected.height
        missing = rejected.filter(rejected["reason"] == "unknown_contig")
        unknown += missing.height
        names.update(dict.fromkeys(missing["chrom"].unique(maintain_order=True)))
        if compared >= MIN_COMPARED and elsewhere > MAX_MISMATCHES * compared:
            raise FileError(
                f"{vcf}: {elsewhere:,} of {compared:,} alleles have a REF that is not that of genome "
                f"{genome.name}{_named(genome.lengths)}, so the file is of another assembly; "
                f"{_advice(header_contigs(vcf), genome)}"
            )
        yield accepted, rejected
    if read >= MIN_COMPARED and unknown == read:
        raise FileError(
            f"{vcf}: none of its contigs ({some_of(names)}) is in genome {genome.name} "
            f"({some_of(genome.lengths)}); name the pairs in the genome's alias table, or take another genome"
        )
    _warn_of_lengths(header_contigs(vcf), vcf, genome)


def header_contigs(vcf: str | Path) -> dict[str, int]:
    """`{contig: length}` of the header lines of a VCF or BCF that give both."""
    from cyvcf2 import VCF

    found = {}
    for line in _CONTIG.findall(VCF(str(vcf)).raw_header):
        fields = dict(part.split("=", 1) for part in line.split(",") if "=" in part)
        if "ID" in fields and fields.get("length", "").isdigit():
            found[fields["ID"]] = int(fields["length"])
    return found


def read_assemblies() -> dict[str, dict[str, int]]:
    """`{assembly: {chromosome: length}}` of TABLE, assemblies with their other name; empty without it."""
    if not TABLE.exists():
        return {}
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]
    found: dict[str, dict[str, int]] = {}
    for assembly, other, _, chrom, length in rows:
        found.setdefault(f"{assembly} ({other})", {})[chrom] = int(length)
    return found


def fitting_assembly(contigs: Mapping[str, int]) -> str | None:
    """Name of the assembly whose chromosomes have these lengths (at least MIN_FIT of those that it knows)."""
    best = (0.0, "")
    for name, lengths in read_assemblies().items():
        if known := _pairs(contigs, lengths):
            best = max(best, (sum(a == b for a, b in known) / len(known), name))
    return best[1] if best[0] >= MIN_FIT else None


def _pairs(contigs: Mapping[str, int], lengths: Mapping[str, int]) -> list[tuple[int, int]]:
    """(length in the assembly, length given) of the contigs that an assembly has."""
    named = {f"chr{name.removeprefix('chr')}": length for name, length in contigs.items()}
    return [(lengths[name], length) for name, length in named.items() if name in lengths]


def _named(contigs: Mapping[str, int]) -> str:
    name = fitting_assembly(contigs)
    return f" ({name})" if name else ""


def _advice(contigs: Mapping[str, int], genome: Genome) -> str:
    found = fitting_assembly(contigs)
    if found is not None and found != fitting_assembly(genome.lengths):
        return f"the contigs of its header are those of {found}: score it on that genome, or lift it over"
    if found is not None:
        return f"its header names {found}, which its alleles are not: ask whoever made it which one it is"
    if _differing(contigs, genome):
        return (
            "the contig lengths of its header are those of no assembly known here: score it on its own genome"
        )
    return "its header does not tell which (no ##contig lengths that are known): find out, and lift it over"


def _differing(contigs: Mapping[str, int], genome: Genome) -> list[str]:
    """Contigs of a header whose lengths are not the genome's, with both lengths."""
    own = {name: genome.resolve(name) for name in contigs}
    return [
        f"{name}: {contigs[name]:,} bp, in the genome {genome.lengths[chrom]:,}"
        for name, chrom in own.items()
        if chrom is not None and genome.lengths[chrom] != contigs[name]
    ]


def _warn_of_lengths(contigs: Mapping[str, int], vcf: str | Path, genome: Genome) -> None:
    if differing := _differing(contigs, genome):
        LOGGER.warning(
            "%s: %d contigs of its header have other lengths than in genome %s, though the REF alleles agree "
            "(%s)", vcf, len(differing), genome.name, differing[0],
        )  # fmt: skip
