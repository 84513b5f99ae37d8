"""Settings of variants, their scores and benchmarks; `config/README.md` is generated from them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from megabase.settings.section import Fraction, Positive, Section, Window


class ScoringSettings(Section):
    """How variants are scored (Methods, variant scoring)."""

    SILENT = frozenset({"uncertainty", "compare"})

    window: Window = Field(16_384, description="bases around a variant (a multiple of 2,048)")
    placement: Literal["centered", "binned", "tiled"] = Field(
        "binned",
        description="window around the variant, its 128-bp bin or its tile; windows on one grid share work",
    )
    tile: Positive = Field(
        16_384, description="bases whose variants share one window (tiled; a multiple of 128)"
    )
    batch_size: Positive = Field(8, description="sequences predicted together")
    together: Positive = Field(
        32, description="variants scored together, at least; a killed job continues after the last of them"
    )
    cache: float = Field(2.0, ge=0, description="GB of encoder activations that are kept for other variants")
    whole_windows: bool = Field(
        False, description="predict both alleles in whole windows, which takes ten times as long (for checks)"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of activations (bfloat16: GPUs)"
    )
    scorers: list[str] = Field(["recommended"], description="names of scorers, or `recommended`")
    reverse_complement: bool = Field(False, description="average forward and reverse-complement predictions")
    compare: int = Field(
        24, ge=0, description="variants whose scores the report compares between placements; 0: no comparison"
    )
    max_allele: Positive = Field(1_000, description="longer alleles are rejected")
    bins: Positive = Field(1_000, description="quantile bins, sigmoid-spaced")
    background: str = Field("background", description="variant set that calibrates quantiles")
    uncertainty: str | None = Field(
        None,
        description="ensemble, such as `ensemble-all`, that scores all variants too: the spread over its "
        "members is the uncertainty of a student's scores; none: they have none",
    )


class ChunkSettings(Section):
    """How the variants of a set are dealt to jobs: chunks of equal estimated cost, of which none is so small
    that loading the model is much of it. Jobs that are left over are empty."""

    window_cost: float = Field(
        1.0,
        ge=0,
        description="cost of a window that variants share, in variants (its reference is predicted once)",
    )
    gene_cost: float = Field(
        0.02, ge=0, description="cost of a gene that a variant's window overlaps, in variants"
    )
    load_seconds: float = Field(
        5.0, ge=0, description="time until a job scores; 0: chunks may be of any size"
    )
    variants_per_second: float = Field(10.0, gt=0, description="variants that a job scores in a second")
    load_share: float = Field(0.05, gt=0, lt=1, description="share of a job's time that loading may take")


class VariantSetSettings(Section):
    """One set of variants to score."""

    SILENT = frozenset({"sample", "haplotypes", "unphased", "regions", "saturate"})

    genome: str = Field(description="name of the genome that the alleles refer to")
    vcf: str | None = Field(None, description="manifest accession, or path, of a VCF; none: from a benchmark")
    max_variants: Positive | None = Field(None, description="seeded subset; none: all of them")
    scorers: list[str] | None = Field(None, description="instead of scoring.scorers")
    window: Window | None = Field(
        None, description="instead of scoring.window, where alleles are short constructs"
    )
    sample: str | None = Field(None, description="only the alleles that this sample of the VCF carries")
    haplotypes: bool = Field(
        False, description="each of them on the sample's own haplotypes: without it against with it"
    )
    unphased: Literal["reject", "both"] = Field(
        "reject", description="heterozygous alleles without phase: rejected, or scored on both haplotypes"
    )
    regions: str | None = Field(
        None, description="path of a BED: for each region, the genome against each of the sample's haplotypes"
    )
    saturate: str | None = Field(
        None,
        description="instead of a VCF every SNV of the regions of a BED (manifest accession, or path), or of "
        "the whole `genome`",
    )

    @model_validator(mode="after")
    def _haplotypes_fit(self) -> VariantSetSettings:
        if self.haplotypes and self.sample is None:
            raise ValueError("haplotypes: a sample is wanted, whose genotypes are in the VCF")
        if self.regions is not None and not self.haplotypes:
            raise ValueError("regions: wanted only with haplotypes: true")
        return self

    @model_validator(mode="after")
    def _saturated_alone(self) -> VariantSetSettings:
        if self.saturate is not None:
            for key in ("vcf", "sample", "max_variants"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"saturate: every SNV is scored, {key} does not go with it; leave one out"
                    )
        return self

    @property
    def saturated_file(self) -> str | None:
        """Accession or path of the BED that is saturated; none: another kind of set, or the whole genome."""
        return None if self.saturate == "genome" else self.saturate


def is_vcf_path(vcf: str) -> bool:
    """Whether the `vcf` of a variant set is a path; otherwise it is an accession of the manifest."""
    return "/" in vcf or vcf.endswith((".vcf", ".vcf.gz", ".vcf.bgz", ".bcf"))


def is_bed_path(bed: str) -> bool:
    """Whether what a variant set saturates is a path; otherwise it is an accession of the manifest."""
    return "/" in bed or bed.endswith((".bed", ".bed.gz", ".bed.bgz"))


class IntervalScoring(Section):
    """What is told of an interval."""

    scorers: list[str] = Field(
        ["rna_seq"],
        description="`rna_seq` (mean over exons in 200,001 bases), or output_type:(mean or sum)[:width]",
    )


class IntervalSetSettings(IntervalScoring):
    """One list of intervals to score, without variants."""

    genome: str = Field(description="name of the genome of the intervals")
    regions: str | None = Field(
        None, description="path of a BED, or of a list of gene ids or names; none: every gene"
    )
    window: Window | None = Field(None, description="instead of scoring.window")


class EnhancerScoring(Section):
    """How the gradient of a gene's expression becomes the score of an element."""

    gradient: Literal["input", "norm"] = Field(
        "input", description="size at a base: of the gradient at the base that is there, or over all four"
    )
    sigma: float = Field(300.0, gt=0, description="bases of the Gaussian weights about the element's middle")
    width: Positive = Field(2_400, description="bases that are weighted")


class EnhancerSetSettings(EnhancerScoring):
    """One table of element-gene pairs to score."""

    genome: str = Field(description="name of the genome of the elements")
    pairs: str = Field(description="path of a table with chrom, start, end, gene, biosample (TSV or Parquet)")
    window: Window | None = Field(None, description="instead of scoring.window")


class BenchmarkSettings(Section):
    """One variant-effect benchmark."""

    SILENT = frozenset({"split"})

    task: Literal["eqtl_sign", "eqtl_effect", "eqtl_causality", "sqtl_causality", "mpra"] = Field(
        description="what is measured: auROC, Spearman, auPRC, auPRC, Pearson"
    )
    tables: list[str] = Field(description="manifest accessions of the QTL or MPRA tables")
    genome: str = Field(description="genome of the variants")
    scorers: list[str] = Field(description="scorers compared, the first is the headline")
    window: Window | None = Field(None, description="instead of scoring.window for its own variants")
    variants: str | None = Field(
        None,
        description="benchmark or variant set whose scores are used; none: its own variants are scored",
    )
    negatives_per_positive: Positive = Field(1, description="distance-matched negatives for a causal variant")
    min_pip: Fraction = Field(0.9, description="a variant at or above is causal")
    max_pip: Fraction = Field(0.01, description="a variant below is a candidate negative")
    bootstrap: Positive = Field(1000, description="resamples for an interval")
    split: str | None = Field(
        None,
        description="`name/split` of folds.variant_splits, such as zero_shot/test: only variants on its "
        "chromosomes are used; none: all",
    )
