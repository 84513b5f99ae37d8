"""Settings of genomes, tracks, folds and shards; `config/README.md` is generated from them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from megabase.settings.section import Fraction, Positive, Section, Window


class GenomeSettings(Section):
    """One genome sequence with its gene models. Accessions are rows of the release's manifest."""

    SILENT = frozenset({"unmappable"})

    organism: str = Field(description="organism whose tracks and model channels this genome uses")
    fasta: str = Field(description="manifest accession of the FASTA (plain or gzip)")
    genes: str | None = Field(None, description="manifest accession of the GTF; none: no gene scorers")
    regions: str | None = Field(
        None, description="manifest accession of a BED of measured regions; outside it signal is missing"
    )
    blacklist: str | None = Field(None, description="manifest accession of a BED whose signal is missing")
    unmappable: str | None = Field(
        None, description="manifest accession of a BED of unmappable bases, whose signal is missing"
    )
    aliases: str | None = Field(None, description="path of a two-column TSV: other name, name in the FASTA")


class SourceSettings(Section):
    """How files of portals are fetched (docs/sources.md). Nothing that is fetched depends on it."""

    requests_per_second: float = Field(
        8.0, gt=0, description="requests to one host, by all jobs together (ENCODE allows a user 10)"
    )
    attempts: Positive = Field(6, description="tries of a download without headway before it is given up")
    connections: Positive = Field(8, description="files that `megabase fetch-sources` fetches side by side")


class QualitySettings(Section):
    """Which normalized tracks are flagged, and whether these are left out. Thresholds are ours."""

    exclude: bool = Field(
        False, description="leave flagged tracks, and their strand partners, out of the track table"
    )
    min_measured: float = Field(
        0.0, ge=0, description="least signal before scaling, over all replicates, in the unit of the source"
    )
    min_covered: Fraction = Field(1e-5, description="least share of the measured bases that is not zero")
    max_missing: Fraction = Field(
        0.1, description="largest share of unmasked bases that is missing at the source"
    )
    max_lost_bins: Fraction = Field(
        0.3, description="largest share of a contact map's bins that balancing left out"
    )
    min_replicate_correlation: float = Field(
        0.5, ge=-1, le=1,
        description="least mean Pearson correlation of a replicate with the others, over means of 2,048 bp",
    )  # fmt: skip
    min_strand_share: Fraction = Field(0.2, description="least share of a pair's signal on either strand")
    max_outlier: float = Field(
        6.0, ge=0, description="largest robust z-score of a track among those of its output type"
    )
    min_tracks: Positive = Field(8, description="tracks that an output type must have to tell outliers")


class TrackSettings(Section):
    """How raw signal becomes normalized tracks (AlphaGenome preprint, Methods, data processing)."""

    SILENT = frozenset(
        {
            "quality", "keep_going", "junction_filters", "junction_portals", "junction_overhang",
            "library_strand", "splice_mapping_quality", "splice_base_quality",
        }
    )  # fmt: skip

    total: float = Field(1e8, description="sum that RNA-seq, CAGE, PRO-cap, DNase and ATAC are scaled to")
    scale_to_total: bool = Field(
        True, description="false for data already scaled at the source (leave the signal as measured)"
    )
    atac_shift: tuple[int, int] = Field((4, -4), description="bases added to + and - strand Tn5 cut sites")
    dnase_shift: tuple[int, int] = Field((0, 1), description="bases added to + and - strand DNase cut sites")
    min_mapping_quality: int = Field(0, ge=0, description="reads below it are not counted as cut sites")
    contact_resolution: Positive = Field(1000, description="bin of the .mcool that is read (bp)")
    contact_coarse_grain: bool = Field(True, description="adaptive coarse-graining of sparse contact maps")
    contact_cutoff: float = Field(3.0, description="raw counts that adaptive coarse-graining asks of a pixel")
    contact_span: Positive = Field(1 << 20, description="largest distance between contact bins kept (bp)")
    junction_min_reads: int = Field(2, ge=0, description="reads over all samples below which a junction goes")
    junction_clip_percentile: float = Field(99.99, description="junction counts are clipped at it")
    junction_filters: dict[str, Literal["total", "gtex", "median"]] = Field(
        {},
        description="organism: which junctions are kept (docs/tracks.md); an organism without one: total, "
        "those with `junction_min_reads` over all samples",
    )
    junction_portals: dict[str, str] = Field(
        {}, description="organism: portal whose samples alone decide which junctions are kept; default: all"
    )
    junction_overhang: int = Field(
        8,
        ge=1,
        description="least aligned bases of a BAM's read on either side of an unannotated junction",
    )
    library_strand: Literal["unstranded", "forward", "reverse"] = Field(
        "unstranded",
        description="strand of a fragment's first read relative to the RNA, of spliced reads of a BAM "
        "without the tags XS and ts; unstranded: such reads are left out",
    )
    splice_mapping_quality: int = Field(
        30, ge=0, description="least mapping quality of reads of a BAM that splicing is measured by"
    )
    splice_base_quality: int = Field(
        20, ge=0, description="least quality of the base at a splice site, of such reads"
    )
    keep_going: bool = Field(
        False, description="list a group whose files cannot be used as failed, with the reason, and go on"
    )
    quality: QualitySettings = Field(QualitySettings(), description="which tracks are flagged or left out")


class FoldScheme(Section):
    """Which folds a model is validated and tested on; it trains on the others that are not reserved."""

    valid: list[str] = Field(description="folds of validation windows")
    test: list[str] = Field(description="folds of test windows")


class HomologyPairs(Section):
    """A table of homologous stretches of two organisms, of a whole-genome alignment."""

    first: str = Field(description="organism of the first three columns")
    second: str = Field(description="organism of the next three; may be the same")
    path: str = Field(
        description="BEDPE, plain or gzip: chrom, start, end of both, and optionally the strand (+ or -) of "
        "the second against the first as column 7"
    )


# AlphaGenome preprint, Methods, variant benchmarks: chromosomes without `chr`, by split
ZERO_SHOT = {
    "valid": ["1", "2", "4", "5", "7", "8", "10", "11", "13", "14", "15", "17", "20", "22", "X"],
    "test": ["3", "6", "9", "12", "16", "18", "19", "21"],
}
SUPERVISED = {
    "train": ["1", "4", "7", "8", "10", "13", "15"],
    "valid": ["2", "5", "11", "14", "17", "20", "22", "X"],
    "test": ["3", "6", "9", "12", "16", "18", "19", "21"],
}


class FoldSettings(Section):
    """How windows are dealt to folds."""

    SILENT = frozenset({"homology_pairs", "variant_splits"})

    source: Literal["balanced", "manifest"] = Field(
        "balanced", description="balanced: an integer program; manifest: the `splits` BED of the release"
    )
    names: list[str] = Field(["fold0", "fold1", "fold2", "fold3"], description="folds to make or expect")
    divide: dict[str, list[str]] = Field(
        {}, description="label of the `splits` BED: the folds over which its stretches are dealt, balanced"
    )
    unit: Positive = Field(131_072, description="length of the stretches that are dealt whole to a fold (bp)")
    whole_chromosomes: bool = Field(False, description="deal whole chromosomes instead of stretches")
    window: Window = Field(16_384, description="training and evaluation window (bp, a multiple of 2,048)")
    homology_kmer: Positive = Field(15, description="k of the k-mers that find homologous stretches")
    homology_threshold: Fraction = Field(0.1, description="shared k-mer fraction that joins two stretches")
    homology_pairs: list[HomologyPairs] = Field(
        [], description="tables of stretches that share a fold, beside those that k-mers find"
    )
    variant_splits: dict[str, dict[str, list[str]]] = Field(
        {"zero_shot": ZERO_SHOT, "supervised": SUPERVISED},
        description="splits of variants by chromosome: name, split, chromosomes",
    )
    max_unknown: Fraction = Field(0.5, description="windows with a larger share of N are dropped")
    schemes: dict[str, FoldScheme] = Field(description="held-out folds by model scheme (fold0, fold1, all)")
    reserved: list[str] = Field([], description="folds that no model trains on, not even the all-folds ones")
    time_limit: Positive = Field(60, description="seconds for the integer program (it stops at a 2% gap)")

    @model_validator(mode="after")
    def _known_folds(self) -> FoldSettings:
        for name, scheme in self.schemes.items():
            unknown = set(scheme.valid + scheme.test + self.reserved) - set(self.names)
            if unknown:
                raise ValueError(f"scheme {name} uses folds {sorted(unknown)}, names are {self.names}")
        for name, splits in self.variant_splits.items():
            chroms = [chrom for part in splits.values() for chrom in part]
            if twice := sorted({chrom for chrom in chroms if chroms.count(chrom) > 1}):
                raise ValueError(f"variant_splits {name}: {twice} are in two splits")
        for label, parts in self.divide.items():
            if set(parts) - set(self.names):
                raise ValueError(f"divide {label} makes folds {parts}, names are {self.names}")
        return self


class ShardSettings(Section):
    """The training store."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="stored signal values")
    chunk: Positive = Field(65_536, description="bases that are compressed together")
    level: int = Field(3, description="zstandard level")
    max_sites: Positive = Field(512, description="splice sites of a class that a window may use")
