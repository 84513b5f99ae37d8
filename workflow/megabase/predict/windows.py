"""Sequences through a model, tensors out of it: the tracks asked for, in place, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from megabase.alignment import align_alternate, alternate_sites
from megabase.genome import Interval
from megabase.predict.arrays import JUNCTION_SCHEMA, Prediction, track_table
from megabase.predict.request import Selection
from megabase.predictors.junctions import (
    Reader,
    likeliest_sites,
    predict_with_junctions,
    unstack_junctions,
)
from megabase.predictors.strands import BothStrands
from megabase.spec import OUTPUTS, Kind, OutputType
from megabase.variants import Variant


@dataclass(frozen=True)
class Window:
    """One question: codes uint8 [1, S] of an interval, or [2, S] of REF and ALT of a variant in it."""

    codes: np.ndarray
    interval: Interval
    variant: Variant | None = None

    @property
    def alleles(self) -> tuple[int, int, int]:
        """First base of the variant in the window, bases of REF, bases of ALT."""
        assert self.variant is not None
        return self.variant.position - self.interval.start, len(self.variant.ref), len(self.variant.alt)


def predict_windows(
    model: Any, windows: Sequence[Window], selection: Selection
) -> list[list[dict[OutputType, Prediction]]]:
    """For each window, for each of its sequences, predictions by output type of the tracks asked for.

    All windows have the same length and number of sequences. ALT's values per base lie on REF's positions.
    """
    codes = torch.from_numpy(np.concatenate([window.codes for window in windows]))
    computed = selection.computed(both_strands=isinstance(model, BothStrands))
    options = {"channels": computed} if getattr(model, "selects_channels", False) else {}
    given = options.get("channels", {})
    outputs = [o for o in selection.channels if o is not OutputType.SPLICE_JUNCTIONS]
    if OutputType.SPLICE_JUNCTIONS in selection.channels:
        needed = _with_sites(outputs, selection)
        found, read = predict_with_junctions(model, codes, selection.organism, needed, **options)
        junctions = _read_junctions(model, windows, found[OutputType.SPLICE_SITES]["probabilities"], read)
    else:
        found, junctions = model.predict(codes, selection.organism, outputs=outputs, **options), None
    tables = {output: track_table(selection.rows(output)) for output in selection.channels}
    places = {output: _places(output, selection, given) for output in selection.channels}
    answers = []
    for number, window in enumerate(windows):
        answers.append([])
        for allele in range(len(window.codes)):
            row = number * len(window.codes) + allele
            answer = {o: _dense(o, found[o], row, window, allele, places[o], tables[o]) for o in outputs}
            if junctions is not None:
                output = OutputType.SPLICE_JUNCTIONS
                width = len(given.get(output, selection.tracks[output]))
                answer[output] = _sparse(
                    junctions[0][row], junctions[1][number], window, places[output], width, tables[output]
                )
            answers[-1].append(answer)
    return answers


def _with_sites(outputs: list[OutputType], selection: Selection) -> list[OutputType]:
    """The outputs with splice sites, which junctions are placed by."""
    if not selection.tracks.get(OutputType.SPLICE_SITES):
        raise ValueError("splice_junctions: the model predicts no splice sites that junctions could join")
    return [o for o in OutputType if o in outputs or o is OutputType.SPLICE_SITES]


def _places(output: OutputType, selection: Selection, given: Mapping[OutputType, list[int]]) -> list[int]:
    """Where the channels asked for are among those computed."""
    asked, computed = selection.channels[output], given.get(output)
    return asked if computed is None else [computed.index(channel) for channel in asked]


def _dense(
    output: OutputType,
    heads: Mapping[str, Tensor],
    row: int,
    window: Window,
    allele: int,
    places: list[int],
    tracks: pl.DataFrame,
) -> Prediction:
    """Prediction of one output type, not junctions, for one sequence of the batch."""
    kind, resolution = OUTPUTS[output].kind, OUTPUTS[output].resolutions[0]
    key = {Kind.TRACKS: f"{resolution}bp", Kind.CONTACTS: "values"}.get(kind, "probabilities")
    values = heads[key][row]
    if len(places) < values.shape[-1]:
        values = values.index_select(-1, torch.tensor(places, device=values.device))
    values = values.float().cpu()
    if allele and resolution == 1:
        values = align_alternate(values, *window.alleles)
    return Prediction(output, np.ascontiguousarray(values.numpy()), tracks, resolution, window.interval)


def _read_junctions(
    model: Any, windows: Sequence[Window], probabilities: Tensor, read: Reader
) -> tuple[Tensor, Tensor]:
    """Junction values [B, K, K, P] of all sequences, and positions int64 [windows, 4, K] on REF.

    The sites are the likeliest ones of each window, of a variant those of either allele.
    """
    alleles = len(windows[0].codes)
    probabilities = probabilities.float().cpu()
    scores = probabilities[::alleles]
    if alleles > 1:
        aligned = [align_alternate(p, *w.alleles) for p, w in zip(probabilities[1::2], windows, strict=True)]
        scores = torch.maximum(scores, torch.stack(aligned))
    placed = positions = likeliest_sites(model, scores)
    if alleles > 1:
        moved = [
            alternate_sites(p, alt, *w.alleles)
            for p, alt, w in zip(positions, probabilities[1::2], windows, strict=True)
        ]
        placed = torch.stack([positions, torch.stack(moved)], 1).flatten(0, 1)
    return read(list(range(len(placed))), placed).float().cpu(), positions


def _sparse(
    values: Tensor, positions: Tensor, window: Window, places: list[int], width: int, tracks: pl.DataFrame
) -> Prediction:
    """Junctions [J, P] of a matrix [K, K, width], + half first, of which channels `places` are wanted."""
    found = unstack_junctions(values, positions, window.interval.start)
    plus = np.array([strand == "+" for strand in found.strands], dtype=bool)
    whole = np.full((len(plus), width), np.nan, np.float32)
    whole[plus, : width // 2] = found.values[torch.from_numpy(plus)].numpy()
    whole[~plus, width // 2 :] = found.values[torch.from_numpy(~plus)].numpy()
    chosen = whole[:, places]
    on_strand = ~np.isnan(chosen).all(1) if len(chosen) else plus
    left, right = found.spans[:, 0].numpy() - 1, found.spans[:, 1].numpy()
    table = pl.DataFrame(
        {
            "chrom": [window.interval.chrom] * len(plus),
            "donor": np.where(plus, left, right),
            "acceptor": np.where(plus, right, left),
            "strand": list(found.strands),
        },
        schema=JUNCTION_SCHEMA,
    )
    output = OutputType.SPLICE_JUNCTIONS
    return Prediction(
        output, chosen[on_strand], tracks, 1, window.interval, table.filter(pl.Series(on_strand))
    )
