"""Typed settings, one class a stage; the single source of every default and every description.

`config/README.md` and `workflow/schemas/config.schema.json` are generated from these classes by
`megabase document-config`, and a test fails when they drift. A rule hands each command the JSON of its own
section only (`--settings`), so a change reruns what depends on it and nothing else. Unknown keys are
refused with the nearest valid name (`load_config`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from megabase.files import FileError, hash_json
from megabase.spec import MODALITIES, OutputType

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Window = Annotated[int, Field(ge=2048, multiple_of=2048)]  # a whole number of pair-representation bins


class Section(BaseModel):
    """Base of every settings class: frozen, unknown keys refused.

    SILENT: keys that are written only where they differ from their default. What was made before such a
    key came keeps its hash, its bytes, and its place in the graph of jobs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    SILENT: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = write(self)
        fields = type(self).model_fields
        quiet = {key for key in self.SILENT if getattr(self, key) == fields[key].default}
        return {key: value for key, value in values.items() if key not in quiet}

    def hash(self) -> str:
        """Hash of this section's values, as stamped into the files that it makes."""
        return hash_json(self.model_dump(mode="json"))


S = TypeVar("S", bound=Section)


class GenomeSettings(Section):
    """One genome sequence with its gene models. Accessions are rows of the release's manifest."""

    organism: str = Field(description="organism whose tracks and model channels this genome uses")
    fasta: str = Field(description="manifest accession of the FASTA (plain or gzip)")
    genes: str | None = Field(None, description="manifest accession of the GTF; none: no gene scorers")
    regions: str | None = Field(
        None, description="manifest accession of a BED of measured regions; outside it signal is missing"
    )
    blacklist: str | None = Field(None, description="manifest accession of a BED whose signal is missing")
    aliases: str | None = Field(None, description="path of a two-column TSV: other name, name in the FASTA")


class TrackSettings(Section):
    """How raw signal becomes normalized tracks (AlphaGenome preprint, Methods, data processing)."""

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


class FoldScheme(Section):
    """Which folds a model is validated and tested on; it trains on the others that are not reserved."""

    valid: list[str] = Field(description="folds of validation windows")
    test: list[str] = Field(description="folds of test windows")


class FoldSettings(Section):
    """How windows are dealt to folds."""

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


class ModelSettings(Section):
    """Which network; a preset changes widths and depths, never the code path."""

    preset: Literal["tiny", "small", "alphagenome"] = Field("tiny", description="size of the network")
    overrides: dict[str, float | int] = Field({}, description="single sizes that differ from the preset")


class TrainSettings(Section):
    """Optimisation of one model (paper values: AlphaGenome preprint, Methods, pre-training)."""

    SILENT = frozenset({"window", "trunk_outputs"})

    steps: Positive = Field(15_000, description="optimizer steps")
    warmup_steps: int = Field(5_000, ge=0, description="steps of linear warm-up")
    constant_steps: int = Field(0, ge=0, description="steps at the peak before the cosine decay")
    batch_size: Positive = Field(64, description="windows a step")
    peak_rate: float = Field(0.004, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.4, ge=0, description="AdamW decoupled weight decay")
    dropout: Fraction = Field(0.3, description="dropout in attention and MLP blocks")
    window: Window | None = Field(
        None,
        description="train on pieces of this length of the windows, a divisor of folds.window; none: whole",
    )
    max_shift: int = Field(1024, ge=0, description="windows move by up to this many bases either way")
    reverse_complement: Fraction = Field(0.5, description="share of examples that are reverse complemented")
    clip_norm: float = Field(0.0, ge=0, description="gradient norm limit; 0: none (published: not stated)")
    gene_loss_weight: float = Field(0.1, ge=0, description="weight of the RNA-seq gene loss")
    bias_windows: int = Field(
        0, ge=0, description="windows whose mean target a teacher's head biases start at; 0: they start at 0"
    )
    loss_weights: dict[OutputType, Annotated[float, Field(ge=0)]] = Field(
        {}, description="weight of an output type's loss, 1 where not given (published: 1 everywhere)"
    )
    trunk_outputs: list[OutputType] = Field(
        [],
        description="output types whose losses train what comes before the heads; the other heads learn from "
        "embeddings that they do not shape; none named: all",
    )
    segment_bases: Positive = Field(131_072, description="multinomial segment of the track loss (bp)")
    organism_weights: dict[str, float] = Field(
        {}, description="sampling weight by organism; default: its windows"
    )
    max_sites: Positive = Field(512, description="splice sites of a class in a window's junction matrix")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="compute precision")
    recompute_bases: Literal[0, 1, 2, 4, 8, 16, 32, 64, 128] = Field(
        0,
        description="activations of levels up to this many bases a position, and the heads, are computed "
        "again for the gradient instead of kept (memory for time); 0: none",
    )
    compile: bool = Field(
        False,
        description="attention by torch.compile: pays from windows of 131,072 bp; needs a C++ compiler",
    )
    sequence_ranks: Positive = Field(
        1,
        description="processes of torchrun that share a window (sequence parallel)",
    )
    checkpoint_seconds: Positive = Field(300, description="time between rolling checkpoints")
    log_steps: Positive = Field(10, description="steps between log lines")
    validate_steps: Positive = Field(500, description="steps between validation losses")
    validate_windows: Positive = Field(64, description="windows of a validation loss")


class DistillSettings(TrainSettings):
    """Optimisation of the student and the perturbation of its inputs (Methods, distillation)."""

    start: Literal["random", "teacher"] = Field(
        "random", description="weights that the student starts from; teacher: the first one's"
    )
    spread: Literal["none", "variance"] = Field(
        "none",
        description="variance: the student also learns how far its teachers lie from it, an output that is "
        "not published; none: the published student",
    )
    mutation_rate: Fraction = Field(0.04, description="share of bases replaced by a random base")
    structural_rate: float = Field(1.0, ge=0, description="mean number of structural edits per 1,048,576 bp")
    structural_max: Positive = Field(20, description="longest insertion, deletion or inversion (bp)")
    structural_types: list[Literal["insertion", "deletion", "inversion"]] = Field(
        ["insertion", "deletion", "inversion"], description="equally likely (published mix: not stated)"
    )


class TeacherSettings(Section):
    """Which teachers are trained."""

    folds: list[str] = Field(["fold0", "fold1"], description="schemes with one teacher per seed")
    fold_seeds: Positive = Field(1, description="teachers of each fold scheme")
    all_seeds: Positive = Field(2, description="teachers of scheme `all`: the student's ensemble")
    train: TrainSettings = Field(default_factory=TrainSettings, description="their optimisation")


class StudentSettings(Section):
    """The distilled model that scores variants."""

    seeds: Positive = Field(1, description="students")
    distill: DistillSettings = Field(default_factory=DistillSettings, description="their optimisation")


class EvaluationSettings(Section):
    """Track evaluation on held-out windows (Methods, track evaluation)."""

    SILENT = frozenset({"window"})

    splits: list[Literal["valid", "test"]] = Field(["test"], description="splits to evaluate")
    batch_size: Positive = Field(4, description="windows predicted together")
    window: Window | None = Field(
        None,
        description="predict the windows in tiles of this length, a divisor of folds.window; contacts "
        "between tiles are then missing, junctions between them 0; none: whole",
    )
    max_windows: Positive = Field(100_000, description="seeded subset of the windows")
    bootstrap: Positive = Field(200, description="resamples of windows for an interval")
    baselines: list[Literal["baseline-mean", "baseline-kmer"]] = Field(
        ["baseline-mean", "baseline-kmer"], description="plain models evaluated beside ours"
    )
    kmer: Positive = Field(5, description="k of the k-mer ridge baseline")
    ridge: float = Field(100.0, gt=0, description="penalty of the k-mer ridge baseline")


class UncertaintySettings(Section):
    """How far a prediction can be trusted: the spread of models, calibrated on held-out windows.

    Students with a variance output (`student.distill.spread`) are calibrated without being named here.
    """

    ensembles: list[str] = Field([], description="fold schemes whose teachers' spread is calibrated")
    max_windows: Annotated[int, Field(ge=2)] = Field(
        256, description="seeded subset of the held-out windows; half of it calibrates, half checks"
    )
    values: Positive = Field(4096, description="values of a window and output type, a seeded sample")
    batch_size: Positive = Field(4, description="windows predicted together")
    bootstrap: Positive = Field(200, description="resamples of windows for an interval")


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


class AblationSettings(Section):
    """Models that differ in one thing only, to see what it is worth (docs/ablations.md)."""

    kind: Literal["resolution", "length", "teachers", "modality"] = Field(
        description="what differs: the decoder's finest level, the training and inference windows, the "
        "number of teachers, or the outputs that shape the trunk"
    )
    values: list[int | str] = Field(
        min_length=1,
        description="resolution: bases (1, 2, 4, ..., 128); length: training windows (bp); teachers: "
        "numbers; modality: `all`, a group, or `without_` and a group",
    )
    inference: list[Window] = Field(
        [], description="length: windows that every model is evaluated with (bp); none named: the values"
    )
    methods: list[Literal["distilled", "ensemble"]] = Field(
        ["distilled", "ensemble"],
        min_length=1,
        description="teachers: a student of the first n, and their mean",
    )
    groups: dict[str, list[OutputType]] = Field(
        {name: list(outputs) for name, outputs in MODALITIES.items()},
        description="modality: output types by group",
    )
    scheme: str | None = Field(
        None,
        description="fold scheme of the models; none: the first of teachers.folds, of kind teachers `all`",
    )
    seeds: Positive = Field(1, description="models of each value")
    train: dict[str, Any] = Field(
        {}, description="settings that differ from teachers.train, of distilled models from student.distill"
    )
    evaluation: dict[str, Any] = Field({}, description="settings that differ from `evaluation`")
    organisms: list[str] = Field([], description="organisms that are evaluated; none named: all")
    benchmarks: list[str] = Field([], description="benchmarks that are run, too")


class ReportSettings(Section):
    """The page that a person reads."""

    SILENT = frozenset({"ablations"})

    title: str = Field("megabase", description="title of the page")
    explain: str | None = Field(None, description="variant set whose largest effect is explained")
    ism_width: Positive = Field(128, description="bases of the in-silico mutagenesis logo")
    ablations: list[str] = Field(
        [], description="ablations that are run and shown; those not named are run by their own command only"
    )


class CostSettings(Section):
    """What a GPU does in an hour, to tell the cost of a run before it starts: an estimate."""

    gpu: str = Field("H100", description="name of the GPU")
    peak_tflops: float = Field(
        989.0, gt=0, description="its limit, 10^12 operations a second (H100: bfloat16, dense)"
    )
    share: float = Field(
        0.3, gt=0, le=1, description="share of the limit that is reached (0.29: the published student)"
    )
    scoring_tflop: dict[Literal["centered", "binned", "tiled"], float] = Field(
        {"centered": 39.0, "binned": 13.0, "tiled": 7.0},
        description="operations of a variant by placement of its window, 10^12, at 1,048,576 bp: arithmetic",
    )
    variants_per_second: dict[Literal["centered", "binned", "tiled"], float] = Field(
        {}, description="variants that one GPU scores in a second, where that was measured"
    )
    bytes_per_variant: float = Field(
        216_000.0,
        gt=0,
        description="size of a variant's scores: 27,000 values, raw and quantile, not compressed",
    )
    windows: dict[str, Positive] = Field(
        {}, description="windows by organism; where none are given, evaluation is told per 1,000 windows"
    )
    variants: dict[str, Positive] = Field(
        {}, description="variants by set; where neither this nor max_variants is given: per 1,000 variants"
    )


class Config(Section):
    """The whole of config/*.yaml."""

    SILENT = frozenset({"ablations", "chunks", "intervals", "enhancers"})

    release: str = Field(description="resources/manifests/{release}.tsv lists the files of this run")
    data: str = Field("", description="folder that `{data}` in manifest URLs stands for")
    seed: int = Field(0, description="seed of every named random generator")
    organisms: list[str] = Field(description="organisms trained together, in model index order (at most 2)")
    genomes: dict[str, GenomeSettings] = Field(description="genomes by name; each organism is one of them")
    tracks: TrackSettings = Field(default_factory=TrackSettings, description="normalization")
    folds: FoldSettings = Field(description="cross-validation")
    shards: ShardSettings = Field(default_factory=ShardSettings, description="training store")
    model: ModelSettings = Field(default_factory=ModelSettings, description="network")
    teachers: TeacherSettings = Field(default_factory=TeacherSettings, description="teachers")
    student: StudentSettings = Field(default_factory=StudentSettings, description="student")
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings, description="track evaluation")
    uncertainty: UncertaintySettings = Field(
        default_factory=UncertaintySettings, description="spread of models and its calibration"
    )
    scoring: ScoringSettings = Field(default_factory=ScoringSettings, description="variant scoring")
    chunks: ChunkSettings = Field(ChunkSettings(), description="how variants are dealt to jobs")
    variants: dict[str, VariantSetSettings] = Field({}, description="variant sets to score, by name")
    intervals: dict[str, IntervalSetSettings] = Field(
        {}, description="lists of intervals, by name; scored by their own command only"
    )
    enhancers: dict[str, EnhancerSetSettings] = Field(
        {}, description="tables of element-gene pairs, by name; scored by their own command only"
    )
    benchmarks: dict[str, BenchmarkSettings] = Field({}, description="benchmarks to run, by name")
    ablations: dict[str, AblationSettings] = Field({}, description="ablations, by name")
    report: ReportSettings = Field(default_factory=ReportSettings, description="report page")
    cost: CostSettings = Field(default_factory=CostSettings, description="estimate of GPU hours")

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        if not 1 <= len(self.organisms) <= 2:
            raise ValueError(f"organisms: {len(self.organisms)} given, wanted one or two")
        for organism in self.organisms:
            if organism not in self.genomes:
                raise ValueError(f"organisms: {organism} has no entry under genomes")
        for group in (self.variants, self.intervals, self.enhancers, self.benchmarks):
            for name, item in group.items():
                if item.genome not in self.genomes:
                    raise ValueError(f"{name}: genome {item.genome} has no entry under genomes")
        for name, genome in self.genomes.items():
            if genome.organism not in self.organisms:
                raise ValueError(f"genomes.{name}: organism {genome.organism} is not one of {self.organisms}")
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> Config:
        given = {
            "teachers.train.window": self.teachers.train.window,
            "student.distill.window": self.student.distill.window,
            "evaluation.window": self.evaluation.window,
        }
        for key, window in given.items():
            if window is not None and self.folds.window % window:
                raise ValueError(f"{key}: {window} does not divide folds.window {self.folds.window}")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        wanted = {*self.teachers.folds, "all"}
        if wanted - set(self.folds.schemes):
            missing = ", ".join(sorted(wanted - set(self.folds.schemes)))
            raise ValueError(f"folds.schemes: {missing} missing, teachers are trained by it")
        for scheme in self.uncertainty.ensembles:
            self._check_ensemble(scheme)
        if self.scoring.uncertainty is not None:
            self._check_scored_ensemble(self.scoring.uncertainty)
        if self.variant_sets and self.scoring.background not in self.variants:
            raise ValueError(f"scoring.background: {self.scoring.background} has no entry under variants")
        for name, item in self.variants.items():
            if item.saturate is not None and name in self.benchmarks:
                raise ValueError(f"variants.{name}: a benchmark has this name; saturate a set of another")
            if item.vcf is None and item.saturate is None and name not in self.benchmarks:
                raise ValueError(
                    f"variants.{name}: vcf is not given, nor saturate, and no benchmark has this name"
                )
        for name in self.benchmarks:
            self._check_shared_scores(name)
        for key, names in (("windows", self.organisms), ("variants", self.variant_sets)):
            if unknown := sorted(set(getattr(self.cost, key)) - set(names)):
                raise ValueError(f"cost.{key}: {', '.join(unknown)} is not one of {names}")
        if self.report.explain is not None and self.report.explain not in self.variant_sets:
            raise ValueError(f"report.explain: {self.report.explain} is not one of {self.variant_sets}")
        if self.report.explain is not None and self.variant_set(self.report.explain).haplotypes:
            raise ValueError(
                f"report.explain: {self.report.explain} is scored on haplotypes; name another set"
            )
        return self

    def _check_teachers(self, scheme: str, key: str) -> None:
        """A spread needs two teachers."""
        if scheme not in self.folds.schemes:
            known = ", ".join(self.folds.schemes)
            raise ValueError(f"{key}: {scheme} is not in folds.schemes: {known}")
        if len(self.teachers_of(scheme)) < 2:
            seeds = "teachers.all_seeds" if scheme == "all" else "teachers.fold_seeds"
            raise ValueError(f"{key}: {scheme} has one teacher, wanted two: raise {seeds}")

    def _check_scored_ensemble(self, name: str) -> None:
        """The model whose spread scores are given is an ensemble of the teachers of a scheme."""
        kind, _, scheme = name.partition("-")
        if kind != "ensemble":
            raise ValueError(f"scoring.uncertainty: {name} has no members, wanted ensemble-{{scheme}}")
        self._check_teachers(scheme, "scoring.uncertainty")

    def _check_ensemble(self, scheme: str) -> None:
        """The calibration of a spread needs held-out windows, too."""
        self._check_teachers(scheme, "uncertainty.ensembles")
        if not (self.folds.reserved or self.folds.schemes[scheme].test):
            raise ValueError(f"uncertainty.ensembles: scheme {scheme} holds out no test fold to calibrate on")

    def _check_shared_scores(self, name: str) -> None:
        """A benchmark may use the scores of a variant set of its own genome that has its scorers."""
        benchmark, key = self.benchmarks[name], f"benchmarks.{name}.variants"
        other = self.variants_of(name)
        if other not in self.variant_sets:
            near = difflib.get_close_matches(other, self.variant_sets, n=1, cutoff=0.0)
            raise ValueError(
                f"{key}: {other} is no variant set that is scored; nearest: {', '.join(near) or 'none'}"
            )
        genome = self.variant_set(other).genome
        if genome != benchmark.genome:
            raise ValueError(f"{key}: {other} is on genome {genome}, the benchmark on {benchmark.genome}")
        scorers = set(self.scoring_of(other).scorers)
        missing = set(benchmark.scorers) - scorers
        if missing and "recommended" not in scorers:
            raise ValueError(f"{key}: {other} is not scored by {', '.join(sorted(missing))}")

    @property
    def fold_teachers(self) -> list[str]:
        """Names of the cross-validation teachers."""
        return [name for scheme in self.teachers.folds for name in self.teachers_of(scheme)]

    @property
    def ensemble(self) -> list[str]:
        """Names of the teachers that the student learns from."""
        return self.teachers_of("all")

    @property
    def students(self) -> list[str]:
        """Names of the distilled models; the first one scores variants."""
        return [f"student-seed{seed}" for seed in range(self.student.seeds)]

    @property
    def trained_models(self) -> list[str]:
        """Names of every model with a loss curve."""
        return [*self.fold_teachers, *self.ensemble, *self.students]

    @property
    def models(self) -> list[str]:
        """Names of every model, the plain ones included."""
        return [*self.trained_models, *self.evaluation.baselines]

    @property
    def evaluated_models(self) -> list[str]:
        """Names of the models that have held-out windows to be evaluated on."""
        schemes, splits = self.folds.schemes, self.evaluation.splits
        return [m for m in self.models if any(getattr(schemes[self.scheme_of(m)], s) for s in splits)]

    @property
    def uncertain_models(self) -> list[str]:
        """Names of the models whose spread is calibrated: ensembles, and students with a variance output."""
        held_out = self.folds.reserved or self.folds.schemes["all"].test
        students = self.students if held_out and self.student.distill.spread == "variance" else []
        return [*(f"ensemble-{scheme}" for scheme in self.uncertainty.ensembles), *students]

    @property
    def variant_sets(self) -> list[str]:
        """Names of every variant set that is scored: those given, then those that benchmarks make."""
        own = (name for name, benchmark in self.benchmarks.items() if benchmark.variants in (None, name))
        return [*self.variants, *(name for name in own if name not in self.variants)]

    @property
    def saturated_sets(self) -> list[str]:
        """Names of the variant sets that are every SNV of a place."""
        return [name for name, item in self.variants.items() if item.saturate is not None]

    def variants_of(self, benchmark: str) -> str:
        """Variant set whose scores a benchmark reads: its own, or the one that it shares."""
        return self.benchmarks[benchmark].variants or benchmark

    def variant_set(self, name: str) -> VariantSetSettings:
        """Settings of a variant set, of a benchmark's own variants where none are given by that name."""
        if name in self.variants:
            return self.variants[name]
        benchmark = self.benchmarks[name]
        return VariantSetSettings(genome=benchmark.genome, scorers=benchmark.scorers, window=benchmark.window)

    def scoring_of(self, name: str) -> ScoringSettings:
        """Scoring settings of a variant set, with its own scorers and window where it names some."""
        chosen = self.variant_set(name)
        own = {"scorers": chosen.scorers, "window": chosen.window}
        return self.scoring.model_copy(update={key: value for key, value in own.items() if value is not None})

    def member_seed(self, member: int) -> int:
        """Seed of the member of an ensemble, different for every run seed and member."""
        return self.seed * 10_000 + member

    def scheme_of(self, model: str) -> str:
        """Fold scheme of a model: that of a teacher or ensemble is in its name, every other follows `all`."""
        parts = model.split("-")
        named = (parts[0] == "teacher" and len(parts) == 3) or (parts[0] == "ensemble" and len(parts) == 2)
        return parts[1] if named else "all"

    def teachers_of(self, scheme: str) -> list[str]:
        """Names of the teachers of a fold scheme."""
        seeds = self.teachers.all_seeds if scheme == "all" else self.teachers.fold_seeds
        return [f"teacher-{scheme}-seed{seed}" for seed in range(seeds)]


def changed(section: S, values: Mapping[str, Any], key: str) -> S:
    """The section with some values changed; ValueError names every problem under `key`."""
    try:
        return type(section).model_validate(section.model_dump() | dict(values))
    except ValidationError as error:
        problems = "; ".join(_explain(problem, type(section)) for problem in error.errors())
        raise ValueError(f"{key}: {problems}") from None


def is_vcf_path(vcf: str) -> bool:
    """Whether the `vcf` of a variant set is a path; otherwise it is an accession of the manifest."""
    return "/" in vcf or vcf.endswith((".vcf", ".vcf.gz", ".vcf.bgz", ".bcf"))


def is_bed_path(bed: str) -> bool:
    """Whether what a variant set saturates is a path; otherwise it is an accession of the manifest."""
    return "/" in bed or bed.endswith((".bed", ".bed.gz", ".bed.bgz"))


def parse_settings(cls: type[S], text: str | None) -> S:
    """One section from JSON text, or from a YAML/JSON file; its defaults if `text` is none.

    FileError tells every key that is unknown, missing or out of range.
    """
    text = (text or "{}").strip()
    inline = text.startswith("{")
    try:
        values = yaml.safe_load(text if inline else Path(text).read_text(encoding="utf-8"))
        return cls.model_validate(values)
    except yaml.YAMLError as error:
        raise FileError(
            f"{'settings' if inline else text}: not JSON or YAML ({error})".replace("\n", " ")
        ) from None
    except ValidationError as error:
        problems = "; ".join(_explain(problem, cls) for problem in error.errors())
        raise FileError(f"{cls.__name__} in {'settings' if inline else text}: {problems}") from None


def section_json(section: Section) -> str:
    """Canonical JSON of a section: what a rule hands to its command as `--settings`."""
    return json.dumps(section.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def load_config(values: dict[str, Any], source: str | Path) -> Config:
    """Validate a parsed config; FileError names the file, the key, what was found and the nearest name."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise FileError(f"{source}: " + "; ".join(map(_explain, error.errors()))) from None


def _explain(problem: Any, root: type[Section] = Config) -> str:
    """One validation problem as a sentence, with the nearest valid key for an unknown one."""
    where = ".".join(str(part) for part in problem["loc"]) or "config"
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg']} (found {str(problem.get('input'))[:80]!r})"
    names = _keys_at(problem["loc"][:-1], root)
    near = difflib.get_close_matches(str(problem["loc"][-1]), names, n=1, cutoff=0.0)
    hint = f"; nearest valid key: {near[0]}" if near else ""
    return f"unknown key {where}{hint}"


def _keys_at(location: tuple[Any, ...], section: type[Section]) -> list[str]:
    """Names of the fields of the section to which a location, from `section` down, leads."""
    free = False  # the next part is a name that the user chose, not a field
    for part in location:
        if free:
            free = False
            continue
        annotation = section.model_fields[str(part)].annotation
        inner = _section_in(annotation)
        if inner is None:
            return []
        section, free = inner, get_origin(annotation) is dict
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[Section] | None:
    """The settings class inside an annotation such as `dict[str, FoldScheme]` or `str | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_in(arg))), None)
