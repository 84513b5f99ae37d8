"""The alleles that one sample carries on each of its two haplotypes, from the genotypes of a VCF.

`chr1:1000:A:C@1` is that allele on haplotype 1. A haplotype's sequence is the genome with all alleles that
are known to be on it: homozygous ones, and phased ones of one phase set. Positions are 0-based.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from megabase.files import FileError, Stamp, hash_inputs, write_table
from megabase.genome import Genome, some_of
from megabase.logs import LOGGER
from megabase.sequence import decode
from megabase.structural import is_structural, parse_structural

EDIT_SCHEMA = {
    "chrom": pl.String, "haplotype": pl.Int64, "phase_set": pl.String, "start": pl.Int64, "end": pl.Int64,
    "bases": pl.String, "variant_id": pl.String,
}  # fmt: skip
GENOTYPE_SCHEMA = {
    "record": pl.Int64, "first": pl.Int64, "second": pl.Int64, "ploidy": pl.Int64, "phased": pl.Boolean,
    "phase_set": pl.String,
}  # fmt: skip
REASONS = ("not_carried", "missing_genotype", "unphased", "ploidy", "not_on_haplotype", "overlap")
_DELETION = "<DEL:"
WHOLE = "<HAP:END={}>"  # ALT of a region's row: all alleles of the haplotype
_DETAILS = {
    "not_carried": "the sample's genotype does not have this allele",
    "missing_genotype": "the sample's genotype is missing",
    "unphased": "heterozygous and not phased, so it is not known on which haplotype it lies",
    "ploidy": "the sample's genotype has more than two alleles",
    "not_on_haplotype": "of structural alleles only deletions are put on haplotypes; score it in another set",
}
Unphased = Literal["reject", "both"]
Rows = tuple[pl.DataFrame, pl.DataFrame]


def is_deletion(alt: str) -> bool:
    """Whether an ALT is that of a deletion told by its end."""
    return alt.startswith(_DELETION)


def is_whole(alt: str) -> bool:
    """Whether an ALT is that of a region's row."""
    return alt.startswith("<HAP:")


@dataclass(frozen=True, slots=True)
class Edit:
    """Genome bases [start, end) that an allele replaces by `bases`, without what REF and ALT share."""

    start: int
    end: int
    bases: str

    @classmethod
    def of(cls, position: int, ref: str, alt: str) -> Edit:
        """The edit of an allele at the 0-based `position`; shared first bases go before shared last ones.

        `alt` is a sequence, or a deletion told by its end.
        """
        if is_structural(alt):
            event = parse_structural(position, alt)
            if not is_deletion(alt) or event is None:
                raise ValueError(f"{alt}: not of a haplotype, wanted a sequence or a deletion")
            return cls(event.start, event.end, "")
        left = next(
            (i for i, (a, b) in enumerate(zip(ref, alt, strict=False)) if a != b), min(len(ref), len(alt))
        )
        ref, alt = ref[left:], alt[left:]
        right = 0
        while right < min(len(ref), len(alt)) and ref[-1 - right] == alt[-1 - right]:
            right += 1
        return cls(position + left, position + left + len(ref) - right, alt[: len(alt) - right])

    def clashes(self, other: Edit) -> bool:
        """Whether both cannot be made: they replace a base together, or insert at one place."""
        if self.start == self.end and other.start == other.end:
            return self.start == other.start
        return self.start < other.end and other.start < self.end


def of_sample(
    parts: Iterable[Rows],
    vcf: str | Path,
    genome: Genome,
    sample: str,
    unphased: Unphased | None,
    regions: str | Path | None = None,
) -> list[Rows]:
    """Batches of `read_variants` with what a sample carries; with `unphased`, on its haplotypes.

    regions: a BED whose regions become rows too (`region_rows`).
    """
    if unphased is None:
        return list(carried(parts, vcf, sample))
    accepted, rejected, _ = on_haplotypes(parts, vcf, sample, unphased)
    if regions is not None:
        accepted = pl.concat([accepted, region_rows(regions, genome, accepted.schema)])
    return [(accepted, rejected)]


def read_genotypes(vcf: str | Path, sample: str) -> pl.DataFrame:
    """One row a record: allele numbers on both haplotypes (-1 unknown, -2 none), ploidy, phase and phase set.

    FileError for a file without the sample, with the names that it has.
    """
    from cyvcf2 import VCF

    reader = VCF(str(vcf))
    if sample not in reader.samples:
        have = some_of(reader.samples) if reader.samples else "none"
        raise FileError(f"{vcf}: has no sample {sample!r}; it has {have}")
    reader.set_samples([sample])
    declared = "PS" in {
        h.info().get("ID") for h in reader.header_iter() if h.info().get("HeaderType") == "FORMAT"
    }
    rows = [_genotype(number, record, declared) for number, record in enumerate(reader, 1)]
    return pl.DataFrame(rows, schema=GENOTYPE_SCHEMA, orient="row")


def _genotype(number: int, record: Any, declared: bool) -> tuple:
    found = record.genotypes[0] if "GT" in (record.FORMAT or ()) else [-1, False]
    alleles, phased = found[:-1], bool(found[-1])
    phase_set = None
    if declared and phased and len(alleles) == 2 and alleles[0] != alleles[1]:
        value = record.format("PS")
        if value is not None:
            text = str(value[0] if isinstance(value[0], str) else value[0][0])
            phase_set = text if text not in (".", "-2147483648") else None
    first, second = [*alleles, -2, -2][:2]
    return number, first, second, len(alleles), phased, phase_set


def carried(parts: Iterable[Rows], vcf: str | Path, sample: str) -> Iterator[Rows]:
    """The batches of `read_variants` with the alleles that the sample carries; the others are rejected."""
    genotypes = read_genotypes(vcf, sample)
    for accepted, rejected in parts:
        known = accepted.join(genotypes, on="record", how="left", maintain_order="left")
        has = pl.any_horizontal(pl.col("first") == pl.col("allele"), pl.col("second") == pl.col("allele"))
        missing = pl.max_horizontal("first", "second") < 0
        reason = pl.when(has).then(None).when(missing).then(pl.lit("missing_genotype"))
        known = known.with_columns(reason=reason.otherwise(pl.lit("not_carried")))
        yield _parted(known, accepted, rejected)


def on_haplotypes(
    parts: Iterable[Rows], vcf: str | Path, sample: str, unphased: Unphased
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(accepted, rejected, edits) of all batches of `read_variants`, the first a row an allele and haplotype.

    `variant_id` ends with `@1` or `@2`. edits: what is known to be on each haplotype, EDIT_SCHEMA. unphased:
    what becomes of a heterozygous allele without phase: `reject`, or `both`: a row on either haplotype, where
    it is part of no other row's sequence. Of alleles that clash on a haplotype the first by position is kept.
    """
    whole = list(parts)
    accepted, refused = (pl.concat([p[i] for p in whole]) for i in (0, 1))
    known = accepted.join(read_genotypes(vcf, sample), on="record", how="left", maintain_order="left")
    known = known.with_columns(reason=_problem(unphased))
    _, rejected = _parted(known, accepted, refused)
    known = known.filter(pl.col("reason").is_null())
    rows = pl.concat([_on_one(known, haplotype) for haplotype in (1, 2)])
    edits, clashing = _placed(rows)
    detail = pl.Series("detail", [clashing.get(i) for i in range(rows.height)], dtype=pl.String)
    rows = rows.with_columns(detail, pl.lit("overlap").alias("reason"))
    clashes = rows.filter(pl.col("detail").is_not_null()).select(rejected.columns)
    kept = rows.filter(pl.col("detail").is_null()).select(accepted.columns)
    return kept, pl.concat([rejected, clashes]), edits


def _problem(unphased: Unphased) -> pl.Expr:
    """Why a carried allele has no place on a haplotype, or null."""
    one, two, allele = pl.col("first"), pl.col("second"), pl.col("allele")
    has = pl.any_horizontal(one == allele, two == allele)
    structural = pl.col("alt").str.contains(r"[<\[\].]") & ~pl.col("alt").str.starts_with(_DELETION)
    problem = pl.when(pl.col("ploidy") > 2).then(pl.lit("ploidy"))
    problem = problem.when(~has & (pl.max_horizontal(one, two) < 0)).then(pl.lit("missing_genotype"))
    problem = problem.when(~has).then(pl.lit("not_carried")).when(structural).then(pl.lit("not_on_haplotype"))
    if unphased == "reject":
        problem = problem.when(~_sure()).then(pl.lit("unphased"))
    return problem.otherwise(None)


def _parted(known: pl.DataFrame, accepted: pl.DataFrame, rejected: pl.DataFrame) -> Rows:
    """The accepted rows without a reason, and the rejected ones with those that have one."""
    bad = known.filter(pl.col("reason").is_not_null()).with_columns(
        detail=pl.col("reason").replace_strict(_DETAILS, return_dtype=pl.String)
    )
    good = known.filter(pl.col("reason").is_null()).select(accepted.columns)
    return good, pl.concat([rejected, bad.select(rejected.columns)])


def _sure() -> pl.Expr:
    """Whether it is known on which haplotype a record's alleles lie."""
    return pl.col("phased") | (pl.col("first") == pl.col("second")) | (pl.col("ploidy") == 1)


def _on_one(known: pl.DataFrame, haplotype: int) -> pl.DataFrame:
    """The rows of one haplotype; `fixed`: the allele is known to be on it."""
    mine, other = ("first", "second") if haplotype == 1 else ("second", "first")
    here, there = pl.col(mine) == pl.col("allele"), pl.col(other) == pl.col("allele")
    return known.filter(here | (there & ~_sure())).with_columns(
        haplotype=pl.lit(haplotype, dtype=pl.Int64), fixed=_sure(),
        variant_id=pl.col("variant_id") + f"@{haplotype}",
    )  # fmt: skip


def _placed(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, str]]:
    """Edits of the rows that are known to be on their haplotype, and `{row: why it clashes with them}`."""
    columns = ("chrom", "haplotype", "phase_set", "variant_id", "position", "ref", "alt", "fixed")
    made = [(Edit.of(*row[4:7]), i, row) for i, row in enumerate(rows.select(columns).iter_rows())]
    made.sort(key=lambda m: (m[2][1], m[2][0], m[2][4], m[1]))
    kept: dict[tuple[str, int], list[tuple[Edit, str]]] = {}
    clashing, edits = {}, []
    for fixed in (True, False):
        for edit, i, (chrom, haplotype, phase_set, name, *_, sure) in made:
            if sure is not fixed:
                continue
            own = kept.setdefault((chrom, haplotype), [])
            at = bisect_right(own, (edit.start, edit.end), key=lambda k: (k[0].start, k[0].end))
            if found := next((n for e, n in own[max(at - 1, 0) : at + 1] if edit.clashes(e)), None):
                clashing[i] = f"overlaps {found[:80]}, which is on the same haplotype"
            elif fixed:
                own.insert(at, (edit, name))
                edits.append((chrom, haplotype, phase_set, edit.start, edit.end, edit.bases, name))
    table = pl.DataFrame(edits, schema=EDIT_SCHEMA, orient="row")
    return table.sort("haplotype", "chrom", "start", "end", maintain_order=True), clashing


def region_rows(path: str | Path, genome: Genome, schema: Any) -> pl.DataFrame:
    """Two rows, one a haplotype, of each region of a BED, in the schema of accepted tables; ALT is WHOLE.

    `record` is the line of the BED and `allele` 0. FileError with the line for one that is no region of the
    genome.
    """
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        parts = line.split("\t")
        chrom = genome.resolve(parts[0])
        if chrom is None or len(parts) < 3 or not (parts[1].isdigit() and parts[2].isdigit()):
            raise FileError(f"{path}: line {number}: {line[:60]!r} is no region of genome {genome.name}")
        start, end = int(parts[1]), int(parts[2])
        if not start < end <= genome.lengths[chrom]:
            raise FileError(
                f"{path}: line {number}: {start}-{end} does not lie in {chrom} ({genome.lengths[chrom]} bp)"
            )
        base, alt = decode(genome.codes(chrom, start, start + 1)), WHOLE.format(end)
        name = parts[3].strip() if len(parts) > 3 else None
        for haplotype in (1, 2):
            identity = f"{chrom}:{start + 1}:{base}:{alt}@{haplotype}"
            rows.append((identity, chrom, start, base, alt, name or None, number, 0))
    return pl.DataFrame(rows, schema=schema, orient="row").unique("variant_id", maintain_order=True)


def list_haplotypes(
    vcf: str | Path,
    genome: str | Path,
    output: str | Path,
    *,
    sample: str,
    unphased: Unphased = "reject",
    max_allele: int,
    window: int | None = None,
    config_hash: str = "",
) -> pl.DataFrame:
    """Write the table (kind `haplotypes`) of the edits that make a sample's two haplotypes; returns it."""
    from megabase.variants import read_variants

    parts = read_variants(vcf, Genome.open(genome), max_allele=max_allele, window=window)
    _, _, edits = on_haplotypes(parts, vcf, sample, unphased)
    write_table(
        edits, output, Stamp("haplotypes", config_hash, hash_inputs([vcf, Path(genome) / "sequence.json"]))
    )
    LOGGER.info("haplotypes: %d alleles of %s are known to be on one", edits.height, sample)
    return edits
