"""Settings of ablations, the report and the estimate of costs; `config/README.md` is generated from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from megabase.settings.section import Positive, Section, Window
from megabase.spec import MODALITIES, OutputType


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
        150_000.0,
        gt=0,
        description="size of a variant's scores: measured with the published human tracks and 14 genes",
    )
    windows: dict[str, Positive] = Field(
        {}, description="windows by organism; where none are given, evaluation is told per 1,000 windows"
    )
    variants: dict[str, Positive] = Field(
        {}, description="variants by set; where neither this nor max_variants is given: per 1,000 variants"
    )
