"""The model as a person uses it: one class, three kinds of question.

    model = Predictor.from_pretrained("results/models/student-seed0")
    found = model.predict_interval(Interval("chr1", 0, 16_384), genome, outputs=["rna_seq"])
    found["rna_seq"].values, found["rna_seq"].tracks

Only the output types asked for are computed: heads that nobody asked for are not run, nor is the decoder
where no output at 1 bp is asked for, and a network computes only the channels of the tracks asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import polars as pl
import torch

from megabase.alignment import window_start
from megabase.genome import Genome, Interval, some_of
from megabase.predict.arrays import Prediction, track_table
from megabase.predict.request import Names, Selection, check_length, select_tracks, sequence_codes
from megabase.predict.windows import Window, predict_windows
from megabase.predictors import base
from megabase.predictors.calibrated import Calibration, read_calibration, table_of
from megabase.predictors.strands import BothStrands
from megabase.spec import OutputType
from megabase.structural import parse_structural
from megabase.variants import Variant, allele_codes, check_variant

Predictions = dict[OutputType, Prediction]


class Choice(TypedDict, total=False):
    """What is wanted of a prediction; all may be left out.

    outputs: output types, by default all of the model. ontology_terms, biosamples: only tracks of these
    ontology terms and biosample names, in either case (splice-site classes have none and stay). strand: only
    tracks of these strands, of `+`, `-` and `.`, such as `+` or `+.`. reverse_complement: the mean over both
    strands of the sequence, at twice the cost. spread: every prediction with its `Spread`, of an ensemble or
    of a student with a variance output; with junctions, splice sites are predicted once more.
    """

    outputs: Names
    ontology_terms: Names
    biosamples: Names
    strand: str | None
    reverse_complement: bool
    spread: bool


@dataclass(frozen=True)
class VariantPrediction:
    """Predictions of both alleles of a variant in one window, by output type, with the same tracks.

    alternate: values per base lie on the positions of the reference: an insertion's bases become their
    maximum at the base before them, deleted bases are 0, and junctions are the same introns. Outputs of 128
    bp and contact maps are those of the ALT sequence as it is.
    """

    variant: Variant
    interval: Interval
    reference: Predictions
    alternate: Predictions


class Predictor:
    """A model that was opened to be asked. name; window: bases it was trained on; organisms: those it knows.

    model: anything that meets `megabase.predictors.base.Predictor`. batch_size: sequences (a variant has two)
    that are computed together. All methods take the options of `Choice` by name; those of the plural names
    take many questions and give the answers one by one, in order. calibrations: by organism, what makes its
    spread into errors to expect (`megabase.predictors.calibrated`).
    """

    def __init__(
        self,
        model: base.Predictor,
        *,
        batch_size: int = 1,
        calibrations: Mapping[str, Calibration] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}; wanted 1 or more")
        self.model, self.batch_size = model, batch_size
        self.calibrations = dict(calibrations or {})
        self.name, self.window, self.organisms = model.name, model.window, list(model.organisms)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, device: str | None = None, batch_size: int = 1
    ) -> Predictor:
        """Open a model folder (or the `model.json` in it); device: by default an accelerator if there is one.

        The calibrations are those beside it in `results` (`results/uncertainty/{model}/{organism}.tsv`), as
        far as they are there. FileError for a folder that is no model, or whose files do not belong together.
        """
        path = Path(path)
        folder = path.parent if path.name == "model.json" else path
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = base.load_predictor(folder, device)
        tables = {name: table_of(folder, name) for name in model.organisms if base.gives_spread(model)}
        found = {name: read_calibration(p, folder) for name, p in tables.items() if p.is_file()}
        return cls(model, batch_size=batch_size, calibrations=found)

    def tracks(self, organism: str | None = None, **choice: Unpack[Choice]) -> pl.DataFrame:
        """The tracks that a choice stands for (default: all): `channel` and TRACK_COLUMNS."""
        selection, _ = self._select(self._organism(organism), choice)
        return track_table([row for output in selection.channels for row in selection.rows(output)])

    def predict_sequence(
        self, sequence: str | np.ndarray, *, organism: str | None = None, **choice: Unpack[Choice]
    ) -> Predictions:
        """Predictions of a sequence: text (A, C, G, T, N) or codes uint8 [S], S a multiple of 2,048.

        organism: needed where the model knows several. Positions count from 0 on a chromosome `sequence`.
        """
        return next(self.predict_sequences([sequence], organism=organism, **choice))

    def predict_sequences(
        self,
        sequences: Iterable[str | np.ndarray],
        *,
        organism: str | None = None,
        **choice: Unpack[Choice],
    ) -> Iterator[Predictions]:
        """As `predict_sequence`, of many."""
        windows = (_sequence_window(sequence) for sequence in sequences)
        return (answers[0] for _, answers in self._predict(windows, self._organism(organism), choice))

    def predict_interval(
        self, interval: Interval, genome: Genome | str | Path, **choice: Unpack[Choice]
    ) -> Predictions:
        """Predictions of an interval of a genome (or of its folder), a multiple of 2,048 bases long.

        The + strand is read, whatever the interval's strand. Bases beyond the chromosome's ends are N;
        ValueError for an interval of another length or off the chromosome.
        """
        return next(self.predict_intervals([interval], genome, **choice))

    def predict_intervals(
        self, intervals: Iterable[Interval], genome: Genome | str | Path, **choice: Unpack[Choice]
    ) -> Iterator[Predictions]:
        """As `predict_interval`, of many."""
        store = _open(genome)
        windows = (_interval_window(store, interval) for interval in intervals)
        return (answers[0] for _, answers in self._predict(windows, self._organism(store.organism), choice))

    def predict_variant(
        self,
        variant: Variant,
        genome: Genome | str | Path,
        *,
        window: int | None = None,
        **choice: Unpack[Choice],
    ) -> VariantPrediction:
        """Predictions of both alleles in `window` bases (default: the model's) centred on the variant.

        The sequences are those that scoring reads (`megabase.variants.allele_codes`): after an indel the
        right end moves. Junctions are predicted between the likeliest sites of either allele. ValueError for
        a variant that scoring would reject, with the reason.
        """
        return next(self.predict_variants([variant], genome, window=window, **choice))

    def predict_variants(
        self,
        variants: Iterable[Variant],
        genome: Genome | str | Path,
        *,
        window: int | None = None,
        **choice: Unpack[Choice],
    ) -> Iterator[VariantPrediction]:
        """As `predict_variant`, of many."""
        store, length = _open(genome), window or self.window
        check_length(length, "window")
        windows = (_variant_window(store, variant, length) for variant in variants)
        answers = self._predict(windows, self._organism(store.organism), choice)
        return (_answer(window, found) for window, found in answers)

    def _organism(self, organism: str | None) -> str:
        if organism is None and len(self.organisms) == 1:
            return self.organisms[0]
        if organism not in self.organisms:
            given = "no organism was named" if organism is None else f"organism {organism!r}"
            raise ValueError(f"{given}; model {self.name} knows {', '.join(self.organisms)}")
        return organism

    def _select(self, organism: str, choice: Choice) -> tuple[Selection, Any]:
        """The tracks wanted, and the predictor that answers: this model, or its mean over both strands."""
        options: dict[str, Any] = dict(choice)
        if options.pop("spread", False) and not base.gives_spread(self.model):
            raise ValueError(
                f"spread: {self.name} tells none; ask an ensemble of teachers, or a student that was "
                "distilled with spread: variance"
            )
        both = options.pop("reverse_complement", False)
        selection = select_tracks(self.model.tracks(organism), organism, **options)
        return selection, BothStrands(self.model) if both else self.model

    def _predict(self, windows: Iterable[Window], organism: str, choice: Choice) -> Iterator[Any]:
        """Answers in order, in batches of windows of one length; a wrong choice fails before any work."""
        selection, model = self._select(organism, choice)
        calibration = self.calibrations.get(organism, {}) if choice.get("spread") else None
        return self._answers(windows, model, selection, calibration)

    def _answers(
        self, windows: Iterable[Window], model: Any, selection: Selection, calibration: Calibration | None
    ) -> Iterator[tuple[Window, list[Predictions]]]:
        for batch in _batches(windows, self.batch_size):
            yield from zip(batch, predict_windows(model, batch, selection, calibration), strict=True)


def _batches(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    """Neighbours of equal length and number of alleles, at most `size` sequences together (or one window)."""
    for (_, alleles), alike in groupby(windows, key=lambda w: (w.interval.length, len(w.codes))):
        while batch := list(islice(alike, max(1, size // alleles))):
            yield batch


def _open(genome: Genome | str | Path) -> Genome:
    return genome if isinstance(genome, Genome) else Genome.open(genome)


def _sequence_window(sequence: str | np.ndarray) -> Window:
    codes = sequence_codes(sequence)
    return Window(codes[None], Interval("sequence", 0, len(codes)))


def chromosome(genome: Genome, name: str) -> str:
    """The genome's name of a chromosome; ValueError where it has none."""
    chrom = genome.resolve(name)
    if chrom is None:
        raise ValueError(
            f"chromosome {name!r} is not in genome {genome.name}; it has {some_of(genome.lengths)}"
        )
    return chrom


def _interval_window(genome: Genome, interval: Interval) -> Window:
    chrom = chromosome(genome, interval.chrom)
    check_length(interval.length, f"interval {interval.chrom}:{interval.start}-{interval.end}")
    if interval.end <= 0 or interval.start >= genome.lengths[chrom]:
        raise ValueError(
            f"interval {interval.chrom}:{interval.start}-{interval.end} lies beyond {chrom} of genome "
            f"{genome.name} ({genome.lengths[chrom]:,} bp)"
        )
    codes = genome.codes(chrom, interval.start, interval.end)
    return Window(codes[None], Interval(chrom, interval.start, interval.end))


def _variant_window(genome: Genome, variant: Variant, length: int) -> Window:
    chrom = chromosome(genome, variant.chrom)
    variant = Variant(chrom, variant.position, variant.ref.upper(), variant.alt.upper())
    if parse_structural(variant.position, variant.alt) is not None:
        raise ValueError(
            f"variant {variant.variant_id}: is structural, its alleles are not drawn side by side; score it "
            "in a variant set (docs/scoring.md)"
        )
    if problem := check_variant(variant, genome, length // 2):
        raise ValueError(f"variant {variant.variant_id}: {': '.join(problem)}")
    start = window_start(variant.position, len(variant.ref), length)
    codes = np.stack(allele_codes(genome, variant, start, length))
    return Window(codes, Interval(chrom, start, start + length), variant)


def _answer(window: Window, found: Sequence[Predictions]) -> VariantPrediction:
    return VariantPrediction(window.variant, window.interval, *found)
