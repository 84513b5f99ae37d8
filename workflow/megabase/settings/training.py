"""Settings of networks, their training and their evaluation; `config/README.md` is generated from them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from megabase.settings.section import Fraction, Positive, Section, Window
from megabase.spec import OutputType


class ModelSettings(Section):
    """Which network; a preset changes widths and depths, never the code path."""

    preset: Literal["tiny", "small", "alphagenome"] = Field("tiny", description="size of the network")
    overrides: dict[str, float | int] = Field({}, description="single sizes that differ from the preset")


class TrainSettings(Section):
    """Optimisation of one model (paper values: AlphaGenome preprint, Methods, pre-training)."""

    SILENT = frozenset({"window", "trunk_outputs", "read_threads"})

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
    read_threads: Positive = Field(1, description="threads that read batches ahead; changes no result")
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
