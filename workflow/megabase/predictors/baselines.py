"""Plain models that every trained one must beat, and the command that fits them.

`baseline-mean` predicts, wherever it looks, the mean of the training windows: of each track, of contacts by
distance, the frequencies of splice-site classes, mean usage, mean junction counts. `baseline-kmer` (module
`kmer`) reads local sequence content by ridge regression. Both are fitted on the training windows of one
scheme (`all`), so the reserved folds are new to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from megabase.channels import TrackRows
from megabase.examples import EVERY_SITE, Example, Source, read_example
from megabase.files import FileError, Stamp, atomic_path, hash_json, hash_path, read_json, write_json
from megabase.logs import progress
from megabase.model.heads import junction_mask
from megabase.predictors.base import KINDS, Predictions, check_request
from megabase.seeds import generator
from megabase.spec import OUTPUTS, PAIR, TOKEN, Kind, OutputType
from megabase.train import ALL_FOLDS, set_up

if TYPE_CHECKING:
    from megabase.settings.data import FoldSettings
    from megabase.settings.training import EvaluationSettings

Arrays = dict[str, np.ndarray]
MAX_WINDOWS = 2048  # windows of an organism that a baseline is fitted on (a seeded subset)


class Baseline:
    """A fitted plain model: `arrays` by `{organism}/{output type}/{name}`. Meets the predictor protocol."""

    kind: ClassVar[str]

    def __init__(self, arrays: Arrays, info: dict[str, Any], device: str | torch.device = "cpu") -> None:
        self.arrays, self.info, self.device = arrays, info, torch.device(device)
        self.name: str = info["name"]
        self.window: int = info["window"]
        self.organisms: list[str] = list(info["organisms"])

    @classmethod
    def open(cls, folder: str | Path, device: str | torch.device = "cpu") -> Baseline:
        """Load a folder that `fit_baseline` wrote; FileError if its halves do not belong together."""
        card = read_json(Path(folder) / "model.json", "model")
        weights = Path(folder) / "model.safetensors"
        if not weights.is_file() or hash_path(weights) != card["weights"]:
            raise FileError(f"{weights}: missing or not the one that model.json names; rerun fit-baseline")
        return cls(load_file(weights), card["info"], device)

    def tracks(self, organism: str) -> TrackRows:
        """Rows of TRACK_COLUMNS by output type, in channel order."""
        check_request(organism, self.organisms, 2048)
        return {OutputType(o): rows for o, rows in self.info["tracks"][organism].items()}

    def array(self, organism: str, output: OutputType, name: str) -> Tensor:
        """One fitted array, on the predictor's device."""
        return torch.from_numpy(self.arrays[f"{organism}/{output}/{name}"]).to(self.device)

    def predict(
        self,
        codes: np.ndarray | Tensor,
        organism: str,
        *,
        outputs: Sequence[OutputType] | None = None,
        splice_positions: Tensor | None = None,
    ) -> Predictions:
        """Predictions as in `megabase.predictors.base.Predictor.predict`.

        Without `splice_positions` the junction matrix is empty: a plain model chooses no sites.
        """
        codes = torch.as_tensor(codes).to(self.device)
        check_request(organism, self.organisms, codes.shape[-1])
        if splice_positions is None:
            splice_positions = torch.full((len(codes), 4, 1), -1, dtype=torch.int64)
        wanted = [o for o in self.tracks(organism) if outputs is None or o in outputs]
        return {o: self._one(o, codes, organism, splice_positions.to(self.device)) for o in wanted}

    def _one(self, output: OutputType, codes: Tensor, organism: str, positions: Tensor) -> dict[str, Tensor]:
        kind = OUTPUTS[output].kind
        if kind is Kind.TRACKS:
            tokens = self.tokens(output, codes, organism)
            found = {"128bp": tokens}
            if 1 in OUTPUTS[output].resolutions:
                found["1bp"] = tokens.repeat_interleave(TOKEN, 1) / TOKEN
            return found
        if kind is Kind.CONTACTS:
            return {"values": self.contacts(output, codes, organism)}
        if kind is Kind.SITES:
            return {"probabilities": self.sites(output, codes, organism)}
        if kind is Kind.USAGE:
            return {"probabilities": self.usage(output, codes, organism)}
        mask = junction_mask(positions, len(self.tracks(organism)[output]) // 2)
        values = self.junctions(output, codes, organism, positions).masked_fill(~mask, 0)
        return {"values": values, "positions": positions, "mask": mask}

    def tokens(self, output: OutputType, codes: Tensor, organism: str) -> Tensor:
        """Track sums of 128 bases [B, T, P]."""
        raise TypeError(f"{type(self).__name__} predicts no tracks")

    def contacts(self, output: OutputType, codes: Tensor, organism: str) -> Tensor:
        """Contact maps [B, Q, Q, P]: by distance; farther than in training, as at the farthest."""
        means, bins = self.array(organism, output, "distance"), codes.shape[-1] // PAIR
        place = torch.arange(bins, device=self.device)
        distance = (place[:, None] - place).abs().clamp_max(len(means) - 1)
        return means[distance].expand(len(codes), -1, -1, -1)

    def sites(self, output: OutputType, codes: Tensor, organism: str) -> Tensor:
        """Class probabilities [B, S, 5]."""
        return self.array(organism, output, "frequency").expand(*codes.shape, -1)

    def usage(self, output: OutputType, codes: Tensor, organism: str) -> Tensor:
        """Usage [B, S, P]."""
        return self.array(organism, output, "mean").expand(*codes.shape, -1)

    def junctions(self, output: OutputType, codes: Tensor, organism: str, positions: Tensor) -> Tensor:
        """Counts [B, K, K, P]."""
        sites = positions.shape[-1]
        return self.array(organism, output, "mean").expand(len(codes), sites, sites, -1)


class MeanPredictor(Baseline):
    """The mean of the training windows, everywhere."""

    kind = "baseline-mean"

    def tokens(self, output: OutputType, codes: Tensor, organism: str) -> Tensor:
        """Track sums of 128 bases [B, T, P]: the same at every token."""
        return self.array(organism, output, "mean").expand(len(codes), codes.shape[-1] // TOKEN, -1)


class Means:
    """Running means over values that are not NaN."""

    def __init__(self) -> None:
        self._sum: dict[str, np.ndarray] = {}
        self._count: dict[str, np.ndarray] = {}

    def add(self, name: str, values: np.ndarray, axes: int | tuple[int, ...]) -> None:
        """Count the known values of an array, summed over `axes`."""
        known = np.isfinite(values)
        total, count = np.where(known, values, 0).sum(axes, dtype=np.float64), known.sum(axes)
        self._sum[name] = self._sum.get(name, 0) + total
        self._count[name] = self._count.get(name, 0) + count

    def result(self) -> Arrays:
        """float32 means; 0 where nothing was known."""
        return {n: (s / np.maximum(self._count[n], 1)).astype(np.float32) for n, s in self._sum.items()}


def token_targets(output: OutputType, target: Tensor) -> np.ndarray:
    """Sums of 128 bases float32 [T, P] of a track target, which ChIP already is; NaN where one is missing."""
    if 1 in OUTPUTS[output].resolutions:
        target = target.unflatten(0, (-1, TOKEN)).sum(1)
    return target.numpy()


def by_distance(maps: np.ndarray) -> np.ndarray:
    """[Q, D = Q, P] of maps [Q, Q, P]: value at (i, i + d); NaN beyond the window."""
    bins = len(maps)
    place = np.arange(bins)
    partner = place[:, None] + place
    values = maps[place[:, None], np.minimum(partner, bins - 1)].astype(np.float64)
    values[partner >= bins] = np.nan
    return values


def fit_mean(examples: Iterable[Example]) -> Arrays:
    """Arrays `{output type}/{name}` of the mean model of one organism."""
    means = Means()
    for example in examples:
        for output, target in example.targets.items():
            if output == "splice_positions":
                continue
            kind = OUTPUTS[OutputType(output)].kind
            if kind is Kind.TRACKS:
                per = 1 if 1 in OUTPUTS[OutputType(output)].resolutions else TOKEN
                means.add(f"{output}/mean", target.numpy() * np.float64(TOKEN // per), 0)
            elif kind is Kind.CONTACTS:
                means.add(f"{output}/distance", by_distance(target.numpy()), 0)
            elif kind is Kind.SITES:
                classes = np.where(
                    target.numpy()[:, None] < 0, np.nan, target.numpy()[:, None] == np.arange(5)
                )
                means.add(f"{output}/frequency", classes, 0)
            elif kind is Kind.USAGE:
                means.add(f"{output}/mean", target.numpy(), 0)
            else:
                counts = target.numpy()
                means.add(f"{output}/mean", counts[(np.nan_to_num(counts) > 0).any(2)], 0)
    return means.result()


def training_examples(source: Source, intervals: Sequence[Any]) -> Iterator[Example]:
    """Training windows of one organism as they are; a seeded subset where there are very many."""
    chosen = list(intervals)
    if len(chosen) > MAX_WINDOWS:
        draw = generator(0, "baseline", source.organism).choice(len(chosen), MAX_WINDOWS, replace=False)
        chosen = [chosen[i] for i in sorted(draw)]
    with progress(len(chosen), f"baseline {source.organism}", "windows") as shown:
        for interval in chosen:
            yield read_example(source, interval, max_sites=EVERY_SITE)
            shown.advance()


def fit_baseline(
    shards: Sequence[str | Path],
    genomes: Sequence[str | Path],
    intervals: str | Path,
    output_dir: str | Path,
    settings: EvaluationSettings,
    fold_settings: FoldSettings,
    organisms: Sequence[str],
) -> Path:
    """Fit the plain model that the folder `output_dir` is named after, and write it there.

    The name is `baseline-mean` or `baseline-kmer`. Windows: the training windows of scheme `all`.
    ValueError for another name, or when the scheme `all` is not in the fold settings.
    """
    output = Path(output_dir)
    fit = _fitter(output.name, settings)
    setup = set_up(
        shards,
        genomes,
        None,
        intervals,
        organisms=organisms,
        scheme=ALL_FOLDS,
        folds=fold_settings,
        max_shift=0,
    )
    arrays: Arrays = {}
    for source in setup.sources:
        found = fit(training_examples(source, setup.splits["train"].get(source.organism, [])))
        arrays |= {f"{source.organism}/{name}": np.ascontiguousarray(array) for name, array in found.items()}
    tracks = {s.organism: {str(o): rows for o, rows in s.tracks.items()} for s in setup.sources}
    info = {
        "name": output.name, "predictor": output.name, "scheme": ALL_FOLDS, "seed": 0,
        "window": fold_settings.window, "organisms": list(organisms), "tracks": tracks,
        "settings": {"kmer": settings.kmer, "ridge": settings.ridge}, "inputs": setup.inputs,
    }  # fmt: skip
    _write(output, arrays, info)
    return output


def _fitter(name: str, settings: EvaluationSettings) -> Callable[[Iterable[Example]], Arrays]:
    if name == MeanPredictor.kind:
        return fit_mean
    if name == "baseline-kmer":
        kmer = import_module(KINDS[name][0])
        return lambda examples: kmer.fit_kmer(examples, k=settings.kmer, ridge=settings.ridge)
    raise ValueError(f"{name!r} is no plain model; name the output folder baseline-mean or baseline-kmer")


def _write(folder: Path, arrays: Arrays, info: dict[str, Any]) -> None:
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(arrays, temporary)
    stamp = Stamp("model", hash_json(info["settings"]), info["inputs"])
    card = {"weights": hash_path(folder / "model.safetensors"), "info": info}
    write_json(card, folder / "model.json", stamp)
