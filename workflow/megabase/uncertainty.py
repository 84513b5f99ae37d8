"""Calibration of a model's spread on held-out windows, for ensembles and for students with a variance output.

One half of the windows, drawn by seed, calibrates; the other half tells how reliable the result is. Values
are compared in the even space, where each output type has some: 128-bp bins of tracks; pairs of bins of
contact maps, each once; labelled sites of the channel's strand for splice-site usage; for splice sites the
four real classes at bases that are annotated or that the model takes for a site; junctions that any
biosample has. A window gives a seeded sample of its values.

| quantity | level | meaning |
|---|---|---|
| noise, scale | | of the calibrated variance noise + scale * spread**2 |
| factor | .05 to .95 | calibrated deviations either side of a central interval of that level |
| coverage_raw, coverage | .05 to .95 | share of measured values inside, before and after calibration |
| width_raw, width | .9 | median width of the interval |
| spearman | | of the spread and the size of the error |
| error | | root of the mean squared error |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from megabase.evaluate import check_tracks, evaluated_windows, stack_positions
from megabase.evaluation.correlation import Estimate, resample_weights
from megabase.evaluation.reliability import (
    HEADLINE,
    LEVELS,
    coverage,
    fit_spread,
    normal_factors,
    rank_agreement,
)
from megabase.evaluation.tracks import sum_tokens
from megabase.examples import EVERY_SITE, Source, read_example
from megabase.files import Stamp, hash_path, read_table, write_tsv
from megabase.genome import Interval
from megabase.logs import progress
from megabase.model.even import even, even_key, row_means
from megabase.predictors.base import Predictor, gives_spread, load_predictor, max_shift_of, model_info
from megabase.predictors.calibrated import UNCERTAINTY
from megabase.seeds import generator
from megabase.spec import OUTPUTS, UNCERTAINTY_COLUMNS, Kind, OutputType, SiteClass
from megabase.train import input_hashes, open_sources, split_windows

if TYPE_CHECKING:
    from megabase.settings.data import FoldSettings
    from megabase.settings.training import UncertaintySettings

CANDIDATE = 0.1  # probability from which a base is taken for a splice site
Samples = dict[OutputType, np.ndarray]  # float64 [N, 3]: window, spread, error


def compared(
    output: OutputType, found: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, measured values and the mask (all of one shape) of what one window has to compare.

    found: a predictor's values of the output type; targets: of the window; both without the batch axis.
    """
    predicted, kind = found[even_key(output)], OUTPUTS[output].kind
    if kind is Kind.SITES:
        classes = targets[output]
        measured = (classes[:, None] == np.arange(len(SiteClass.NAMES))).astype(np.float32)
        real = slice(SiteClass.NONE)
        taken = (predicted[:, real] >= CANDIDATE).any(1) | ((classes >= 0) & (classes < SiteClass.NONE))
        known = np.broadcast_to(((classes >= 0) & taken)[:, None], predicted[:, real].shape)
        return predicted[:, real], measured[:, real], known
    measured = targets[output]
    if kind is Kind.TRACKS and 1 in OUTPUTS[output].resolutions:
        measured = sum_tokens(measured)
    known = np.isfinite(measured)
    if kind is Kind.CONTACTS:
        known &= np.triu(np.ones(known.shape[:2], bool))[..., None]
    if kind is Kind.USAGE:
        known &= _on_strand(targets[OutputType.SPLICE_SITES], measured.shape[1])
    if kind is Kind.JUNCTIONS:
        half = measured.shape[2] // 2
        seen = [(np.nan_to_num(measured[..., s]) > 0).any(2) for s in (slice(half), slice(half, None))]
        known &= found["mask"].astype(bool) & np.repeat(np.stack(seen, -1), half, -1)
    return predicted, measured, known


def _on_strand(classes: np.ndarray, channels: int) -> np.ndarray:
    """bool [S, P]: labelled sites of the strand of a channel; + half first."""
    plus = np.isin(classes, (SiteClass.DONOR_PLUS, SiteClass.ACCEPTOR_PLUS))
    minus = np.isin(classes, (SiteClass.DONOR_MINUS, SiteClass.ACCEPTOR_MINUS))
    return np.repeat(np.stack([plus, minus], -1), channels // 2, -1)


def errors(
    output: OutputType,
    found: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    rows: Sequence[Mapping[str, Any]],
    limit: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """float64 [N, 2]: spread and error of at most `limit` values of one window, drawn by `rng`.

    found: a predictor's values of the output type and their `spread`; rows: of its channels.
    """
    predicted, measured, known = compared(output, found, targets)
    where = np.flatnonzero(known)
    if len(where) > limit:
        where = np.sort(rng.choice(where, limit, replace=False))
    picked = [torch.from_numpy(np.ascontiguousarray(v).reshape(-1)[where]) for v in (predicted, measured)]
    means = row_means(rows)[torch.from_numpy(where % known.shape[-1])]
    predicted, measured = (even(output, v, means).double().numpy() for v in picked)
    deviation = np.ascontiguousarray(found["spread"][..., : known.shape[-1]]).reshape(-1)[where]
    return np.stack([deviation.astype(np.float64), measured - predicted], 1)


def window_errors(
    predictor: Predictor,
    source: Source,
    windows: Sequence[Interval],
    settings: UncertaintySettings,
    seed: int,
) -> Samples:
    """Window number, spread and error of the sampled values of every window, by output type."""
    found: dict[OutputType, list[np.ndarray]] = {}
    with progress(len(windows), f"uncertainty of {predictor.name}", "windows") as shown:
        for number, output, values in _samples(predictor, source, windows, settings, seed, shown):
            numbered = np.column_stack([np.full(len(values), number, np.float64), values])
            found.setdefault(output, []).append(numbered)
    return {output: np.concatenate(parts) for output, parts in found.items()}


def _samples(
    predictor: Predictor,
    source: Source,
    windows: Sequence[Interval],
    settings: UncertaintySettings,
    seed: int,
    shown: Any,
) -> Iterator[tuple[int, OutputType, np.ndarray]]:
    wanted = [o for o in predictor.tracks(source.organism) if o in source.tracks]
    for first in range(0, len(windows), settings.batch_size):
        part = windows[first : first + settings.batch_size]
        examples = [read_example(source, w, max_sites=EVERY_SITE) for w in part]
        codes, positions = torch.stack([e.sequence for e in examples]), stack_positions(examples)
        found, spread = predictor.predict_with_spread(
            codes, source.organism, outputs=wanted, splice_positions=positions
        )
        for row, example in enumerate(examples):
            targets = {name: value.numpy() for name, value in example.targets.items()}
            for output in wanted:
                tensors = {**found[output], "spread": spread[output]}
                one = {name: value[row].float().cpu().numpy() for name, value in tensors.items()}
                if output is OutputType.SPLICE_JUNCTIONS:  # padded to the sites of the fullest window
                    sites = len(targets[output])
                    one = {n: v[:sites, :sites] for n, v in one.items() if n != "positions"}
                rows = source.tracks[output]
                rng = generator(seed, "uncertainty", source.organism, str(output), first + row)
                yield first + row, output, errors(output, one, targets, rows, settings.values, rng)
            shown.advance()


def halves(n_windows: int, seed: int, organism: str) -> np.ndarray:
    """bool [W]: whether a window calibrates; the others tell how reliable the calibration is."""
    first = np.zeros(n_windows, bool)
    order = generator(seed, "uncertainty", "halves", organism).permutation(n_windows)
    first[order[: n_windows // 2]] = True
    return first


def reliability_rows(
    samples: np.ndarray, first: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[str, float | None, Estimate]]:
    """(quantity, level, estimate) of one output type; nothing where one of the halves has no value.

    samples [N, 3]: window, spread, error; first bool [W]; weights [R, W'] over the W' windows not in first.
    """
    window = samples[:, 0].astype(int)
    fitted, checked = samples[first[window]], samples[~first[window]]
    if not len(fitted) or not len(checked):
        return
    fit = fit_spread(fitted[:, 1], fitted[:, 2])
    nothing, n = (float("nan"), float("nan")), len(fitted)
    yield "noise", None, Estimate(fit.noise, *nothing, n)
    yield "scale", None, Estimate(fit.scale, *nothing, n)
    for level, factor in fit.factors.items():
        yield "factor", level, Estimate(factor, *nothing, n)
    place = (np.cumsum(~first) - 1)[checked[:, 0].astype(int)]
    spread, error = checked[:, 1], checked[:, 2]
    stages = (
        ("_raw", spread, normal_factors()),
        ("", fit.deviation(spread), np.array(list(fit.factors.values()))),
    )
    for suffix, deviation, factors in stages:
        found = coverage(deviation, factors, error, place, weights)
        for level, estimate in zip(LEVELS, found, strict=True):
            yield f"coverage{suffix}", level, estimate
        width = 2 * factors[LEVELS.index(HEADLINE)] * float(np.median(deviation))
        yield f"width{suffix}", HEADLINE, Estimate(float(width), *nothing, len(checked))
    yield "spearman", None, rank_agreement(spread, error, place, weights)
    yield "error", None, Estimate(float(np.sqrt(np.square(error).mean())), *nothing, len(checked))


def uncertainty_table(
    samples: Samples, n_windows: int, settings: UncertaintySettings, organism: str, seed: int
) -> pl.DataFrame:
    """Rows of UNCERTAINTY_COLUMNS, less model and organism, of all output types."""
    first = halves(n_windows, seed, organism)
    rng = generator(seed, "uncertainty", "bootstrap", organism)
    weights = resample_weights(int((~first).sum()), settings.bootstrap, rng)
    rows = [
        {"output_type": str(output), "quantity": quantity, "level": level, **_values(estimate)}
        for output in OUTPUTS if output in samples
        for quantity, level, estimate in reliability_rows(samples[output], first, weights)
    ]  # fmt: skip
    schema = {"output_type": pl.String, "quantity": pl.String, "level": pl.Float64, "value": pl.Float64,
              "low": pl.Float64, "high": pl.Float64, "n": pl.Int64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def _values(estimate: Estimate) -> dict[str, float | int | None]:
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {k: v if np.isfinite(v) else None for k, v in numbers.items()} | {"n": estimate.n}


def calibrate_spread(
    model_dir: str | Path,
    shards: str | Path,
    genome: str | Path,
    intervals: str | Path,
    output: str | Path,
    settings: UncertaintySettings,
    fold_settings: FoldSettings,
    organism: str,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Path:
    """Calibrate the spread of one model on one organism's held-out windows and write the table `output`.

    The windows are those of split `test` (`evaluate.py`), at most `settings.max_windows`. ValueError where
    the model tells no spread, has not seen the organism, or its scheme holds out fewer than two windows.
    """
    predictor, info = load_predictor(model_dir, device), model_info(model_dir)
    if not gives_spread(predictor):
        raise ValueError(
            f"{model_dir}: tells no spread; wanted an ensemble of two or more models, or a student with "
            "student.distill.spread: variance"
        )
    if organism not in predictor.organisms:
        raise ValueError(f"{model_dir}: knows {predictor.organisms}, not {organism!r}")
    source = open_sources([shards], [genome], None, [organism])[0]
    check_tracks(predictor, source, model_dir)
    table = read_table(intervals, "intervals")
    splits = split_windows(table, [source], info["scheme"], fold_settings, max_shift_of(info))
    windows = evaluated_windows(splits, "test", organism, settings.max_windows, seed)
    if len(windows) < 2:
        raise ValueError(
            f"scheme {info['scheme']!r} holds out {len(windows)} windows of {organism}; wanted two or more, "
            "half of them to calibrate and half to check"
        )
    samples = window_errors(predictor, source, windows, settings, seed)
    rows = uncertainty_table(samples, len(windows), settings, organism, seed)
    rows = rows.with_columns(model=pl.lit(predictor.name), organism=pl.lit(organism))
    inputs = input_hashes([shards], [genome], None, {"intervals": intervals})
    inputs["model"] = hash_path(Path(model_dir) / "model.json")
    write_tsv(rows.select(UNCERTAINTY_COLUMNS), output, Stamp(UNCERTAINTY, settings.hash(), inputs))
    return Path(output)
