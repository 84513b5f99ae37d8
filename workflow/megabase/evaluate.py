"""Track evaluation: how well a model's predictions agree with what was measured on held-out windows.

Every model is asked through the predictor protocol, so teachers, students and plain baselines get the same
rows. Splits: `test` are the windows of the reserved folds, the same for every model (without reserved folds,
the test folds of the model's own scheme); `valid` and `scheme` are the validation and test folds of its own
scheme. Missing signal is in no metric. An undefined value (a constant prediction has no correlation) is null
and counts as 0 in comparisons. `evaluation.window` judges a shorter input at the same positions: windows are
predicted in tiles, and contacts between tiles are missing like any other missing signal.

| metric | output types | resolution | over |
|---|---|---|---|
| pearson, pearson_log1p, spearman | tracks | 1, 128 | positions of all windows (spearman: a seeded sample) |
| gene_pearson, gene_lfc_pearson | rna_seq | 1 | genes: expression; its difference between samples |
| exon_edge_observed, exon_edge_predicted, exon_edge_pearson | rna_seq | 1 | exon edges: log2 exon / intron |
| pearson, pearson_distance_D | contact_maps | 2048 | pairs of bins; those D to 2 D apart |
| auprc | splice_sites | 1 | bases, a class |
| pearson | splice_site_usage | 1 | labelled sites |
| pearson_log1p, psi5_pearson, psi3_pearson | splice_junctions | 1 | observed junctions |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from megabase.evaluation.contacts import ContactCorrelation
from megabase.evaluation.correlation import Estimate, resample_weights
from megabase.evaluation.edges import ExonEdges, exon_edges
from megabase.evaluation.genes import GeneExpression, assign_genes
from megabase.evaluation.splicing import (
    REAL_CLASSES,
    JunctionCorrelation,
    SiteClassification,
    UsageCorrelation,
)
from megabase.evaluation.tracks import Estimates, TrackCorrelation, sum_tokens
from megabase.examples import EVERY_SITE, Example, Source, read_example
from megabase.files import FileError, Stamp, hash_path, read_table, write_tsv
from megabase.genome import Interval
from megabase.logs import progress
from megabase.predictors.base import Predictor, load_predictor, max_shift_of, model_info
from megabase.predictors.tiles import Tiled
from megabase.seeds import generator
from megabase.spec import EVALUATION_COLUMNS, OUTPUTS, PAIR, TOKEN, Kind, OutputType
from megabase.train import input_hashes, open_sources, split_windows

if TYPE_CHECKING:
    from megabase.settings.data import FoldSettings
    from megabase.settings.training import EvaluationSettings

Found = Mapping[str, np.ndarray]  # one output type of one window, without the batch axis


@dataclass(frozen=True)
class Metric:
    """One accumulator: what it counts, under which names it reports."""

    output: OutputType
    resolution: int
    names: list[str]
    add: Callable[[int, Found, Mapping[str, np.ndarray]], None]
    estimates: Callable[[np.ndarray], Estimates]


def track_metrics(
    output: OutputType, rows: Sequence[dict[str, Any]], n_windows: int, seed: int
) -> list[Metric]:
    """Correlations of a track output type at its resolutions."""
    metrics = []
    for resolution in OUTPUTS[output].resolutions:
        rng = generator(seed, "evaluation", output, resolution)
        found = TrackCorrelation(n_windows, len(rows), rng)
        key = f"{resolution}bp"
        summed = resolution == TOKEN and 1 in OUTPUTS[output].resolutions

        def add(w: int, p: Found, t: Mapping[str, np.ndarray], found=found, key=key, summed=summed) -> None:
            found.add(w, p[key], sum_tokens(t[output]) if summed else t[output])

        metrics.append(Metric(output, resolution, [r["name"] for r in rows], add, found.estimates))
    return metrics


def gene_metrics(rows: Sequence[dict[str, Any]], source: Source, windows: Sequence[Interval]) -> list[Metric]:
    """Expression of genes and coverage at exon edges, from RNA-seq at 1 bp."""
    if source.genes is None:
        return []
    rna, exons = OutputType.RNA_SEQ, source.genes.exons
    found = (
        GeneExpression(len(windows), rows, assign_genes(exons, windows)),
        ExonEdges(windows, rows, exon_edges(exons)),
    )
    return [
        Metric(
            rna, 1, [c.name for c in each.columns],
            lambda w, p, t, each=each: each.add(w, p["1bp"], t[rna]), each.estimates,
        )
        for each in found
    ]  # fmt: skip


def splice_metrics(output: OutputType, rows: Sequence[dict[str, Any]], n_windows: int) -> Metric:
    """The metric of one of the three splice output types."""
    names, sites = [r["name"] for r in rows], OutputType.SPLICE_SITES
    kind = OUTPUTS[output].kind
    if kind is Kind.SITES:
        classes = SiteClassification()
        return Metric(
            output, 1, list(REAL_CLASSES),
            lambda w, p, t: classes.add(w, p["probabilities"], t[sites]), classes.estimates,
        )  # fmt: skip
    if kind is Kind.USAGE:
        usage = UsageCorrelation(n_windows, len(rows))
        return Metric(
            output, 1, names,
            lambda w, p, t: usage.add(w, p["probabilities"], t[output], t[sites]), usage.estimates,
        )  # fmt: skip
    junctions = JunctionCorrelation(n_windows, len(rows))
    return Metric(
        output, 1, names,
        lambda w, p, t: junctions.add(w, p["values"], t[output], p["mask"]), junctions.estimates,
    )  # fmt: skip


def make_metrics(
    source: Source, predictor: Predictor, windows: Sequence[Interval], seed: int
) -> list[Metric]:
    """All metrics of the output types that both the store and the predictor have."""
    known, metrics = predictor.tracks(source.organism), []
    for output, rows in source.tracks.items():
        if output not in known:
            continue
        kind = OUTPUTS[output].kind
        if kind is Kind.TRACKS:
            metrics += track_metrics(output, rows, len(windows), seed)
            if output is OutputType.RNA_SEQ:
                metrics += gene_metrics(rows, source, windows)
        elif kind is Kind.CONTACTS:
            found = ContactCorrelation(len(windows), len(rows), windows[0].length // PAIR)

            def add(w: int, p: Found, t: Mapping[str, np.ndarray], found=found, output=output) -> None:
                found.add(w, p["values"], t[output])

            metrics.append(Metric(output, PAIR, [r["name"] for r in rows], add, found.estimates))
        else:
            metrics.append(splice_metrics(output, rows, len(windows)))
    return metrics


def stack_positions(examples: Sequence[Example]) -> Tensor | None:
    """Observed splice sites int64 [B, 4, K] of the examples; None without splice data."""
    found = [e.targets["splice_positions"] for e in examples if "splice_positions" in e.targets]
    if not found:
        return None
    stacked = torch.full((len(found), 4, max(p.shape[1] for p in found)), -1, dtype=torch.int64)
    for row, positions in enumerate(found):
        stacked[row, :, : positions.shape[1]] = positions
    return stacked


def predicted_windows(
    predictor: Predictor, source: Source, windows: Sequence[Interval], batch_size: int
) -> Iterator[tuple[int, dict[OutputType, Found], dict[str, np.ndarray]]]:
    """Window number, predictions by output type, and measured targets, of every window in order."""
    wanted = [o for o in predictor.tracks(source.organism) if o in source.tracks]
    for first in range(0, len(windows), batch_size):
        part = windows[first : first + batch_size]
        examples = [read_example(source, w, max_sites=EVERY_SITE) for w in part]
        codes = torch.stack([e.sequence for e in examples])
        positions = stack_positions(examples)
        found = predictor.predict(codes, source.organism, outputs=wanted, splice_positions=positions)
        for row, example in enumerate(examples):
            targets = {name: value.numpy() for name, value in example.targets.items()}
            if (counts := targets.get(OutputType.SPLICE_JUNCTIONS)) is not None:
                targets[OutputType.SPLICE_JUNCTIONS] = _widen(counts, positions.shape[-1])
            one = {o: {n: v[row].float().cpu().numpy() for n, v in vs.items()} for o, vs in found.items()}
            if OutputType.SPLICE_JUNCTIONS in one:
                mask = one[OutputType.SPLICE_JUNCTIONS]["mask"]
                one[OutputType.SPLICE_JUNCTIONS]["mask"] = mask.astype(bool)
            yield first + row, one, targets


def _widen(counts: np.ndarray, sites: int) -> np.ndarray:
    """Junction counts [K, K, P] with zeros up to `sites` rows and columns."""
    extra = sites - len(counts)
    return np.pad(counts, ((0, extra), (0, extra), (0, 0)))


def evaluate_windows(
    predictor: Predictor, source: Source, windows: Sequence[Interval], settings: EvaluationSettings, seed: int
) -> list[dict[str, Any]]:
    """Rows (output_type, track, resolution, metric, value, low, high, n) over `windows` of one organism.

    `track` is a track's name, or `mean`; intervals are 95% bootstrap intervals over windows.
    """
    metrics = make_metrics(source, predictor, windows, seed)
    with progress(len(windows), f"evaluate {predictor.name}", "windows") as shown:
        for number, found, targets in predicted_windows(predictor, source, windows, settings.batch_size):
            for metric in metrics:
                metric.add(number, found[metric.output], targets)
            shown.advance()
    rng = generator(seed, "evaluation", "bootstrap", source.organism)
    weights = resample_weights(len(windows), settings.bootstrap, rng)
    return [row for metric in metrics for row in _rows(metric, weights)]


def _rows(metric: Metric, weights: np.ndarray) -> Iterator[dict[str, Any]]:
    for name, (mean, tracks) in metric.estimates(weights).items():
        for track, estimate in [("mean", mean), *zip(metric.names, tracks, strict=True)]:
            yield {
                "output_type": str(metric.output), "track": track, "resolution": metric.resolution,
                "metric": name, **_values(estimate),
            }  # fmt: skip


def _values(estimate: Estimate) -> dict[str, float | int | None]:
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {k: float(v) if np.isfinite(v) else None for k, v in numbers.items()} | {"n": estimate.n}


def evaluated_windows(
    splits: Mapping[str, Mapping[str, Sequence[Interval]]], split: str, organism: str, limit: int, seed: int
) -> list[Interval]:
    """Windows of a split, at most `limit` of them by a seeded draw, in genome order of the table."""
    windows = list(splits.get(split, {}).get(organism, []))
    if len(windows) > limit:
        draw = generator(seed, "evaluation", split, organism).choice(len(windows), limit, replace=False)
        windows = [windows[i] for i in sorted(draw)]
    return windows


def check_tracks(predictor: Predictor, source: Source, model_dir: str | Path) -> None:
    """FileError when a channel of the model is not the track that the store has in its place."""
    known = predictor.tracks(source.organism)
    for output in known.keys() & source.tracks.keys():
        ours, theirs = ([row["name"] for row in rows[output]] for rows in (known, source.tracks))
        if ours != theirs:
            raise FileError(
                f"{model_dir}: its {output} channels are {ours[:3]}..., the store's {theirs[:3]}...; "
                "evaluate it on the store that it was trained on"
            )


def evaluate_tracks(
    model_dir: str | Path,
    shards: str | Path,
    genome: str | Path,
    genes: str | Path | None,
    intervals: str | Path,
    output: str | Path,
    settings: EvaluationSettings,
    fold_settings: FoldSettings,
    organism: str,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Path:
    """Evaluate one model on one organism's held-out windows and write `output` (EVALUATION_COLUMNS).

    ValueError when the model has not seen this organism, or its scheme holds no window out.
    """
    predictor, info = load_predictor(model_dir, device), model_info(model_dir)
    if settings.window is not None:
        predictor = Tiled(predictor, settings.window)
    if organism not in predictor.organisms:
        raise ValueError(f"{model_dir}: knows {predictor.organisms}, not {organism!r}")
    source = open_sources([shards], [genome], [genes] if genes else None, [organism])[0]
    check_tracks(predictor, source, model_dir)
    shift = max_shift_of(info)
    splits = split_windows(read_table(intervals, "intervals"), [source], info["scheme"], fold_settings, shift)
    rows, wanted = [], [*settings.splits, *(["scheme"] if "test" in settings.splits else [])]
    for split in wanted:
        windows = evaluated_windows(splits, split, organism, settings.max_windows, seed)
        head = {"model": predictor.name, "organism": organism, "split": split}
        if windows:
            rows += [head | row for row in evaluate_windows(predictor, source, windows, settings, seed)]
    if not rows:
        raise ValueError(f"scheme {info['scheme']!r} holds out no window of {organism} in {settings.splits}")
    inputs = input_hashes([shards], [genome], [genes] if genes else None, {"intervals": intervals})
    inputs["model"] = hash_path(Path(model_dir) / "model.json")
    table = pl.DataFrame(rows, infer_schema_length=None).select(EVALUATION_COLUMNS)
    write_tsv(table, output, Stamp("evaluation", settings.hash(), inputs))
    return Path(output)
