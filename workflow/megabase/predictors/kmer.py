"""A ridge model of local sequence content: what a plain model can see without any network.

Tracks: counts of k-mers in a 128-bp bin and GC of the bin and its two neighbours, ridge on log1p of the
bin's sum; a prediction never exceeds the largest value of the training windows. Contacts: distance and GC of
both bins. Splice sites: position-specific log-odds of the bases around the site (naive Bayes). Usage and
junctions: ridge on those bases, and on site scores and distance.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from megabase.examples import Example
from megabase.predictors.baselines import Arrays, Baseline, Means, by_distance, token_targets
from megabase.sequence import one_hot
from megabase.spec import OUTPUTS, PAIR, TOKEN, UNKNOWN_BASE, Kind, OutputType, SiteClass

FLANK = 10  # bases either side of a splice site that the splice models read
MAX_K = 6
MAX_LOG_COUNT = 20.0
SMALL_PENALTY = 1.0  # of regressions with few features
_GC = (1, 2)  # codes of C and G


def gc_share(codes: np.ndarray, size: int) -> np.ndarray:
    """Share of C and G in bins of `size` bases, float64 [S / size], of codes [S]; N counts as half."""
    value = np.isin(codes, _GC) + 0.5 * (codes == UNKNOWN_BASE)
    return value.reshape(-1, size).mean(1)


def token_features(codes: np.ndarray, k: int) -> np.ndarray:
    """float64 [T, 4**k + 4] of codes uint8 [S]: k-mers that start in each 128-bp bin, GC of the left, own and
    right bin (in bases), and 1. K-mers with an unknown base are not counted."""
    known = codes < UNKNOWN_BASE
    digits = np.where(known, codes, 0).astype(np.int64)
    starts = len(codes) - k + 1
    word = sum(digits[i : i + starts] * 4 ** (k - 1 - i) for i in range(k))
    whole = np.logical_and.reduce([known[i : i + starts] for i in range(k)])
    tokens, words = len(codes) // TOKEN, 4**k
    index = (np.arange(starts) // TOKEN * words + word)[whole]
    counts = np.bincount(index, minlength=tokens * words).reshape(tokens, words)
    gc = TOKEN * gc_share(codes, TOKEN)
    left, right = np.append(gc[:1], gc[:-1]), np.append(gc[1:], gc[-1:])
    return np.column_stack([counts, left, gc, right, np.ones(tokens)])


def pair_features(codes: np.ndarray) -> np.ndarray:
    """float64 [Q, Q, 3]: mean, product and difference of the GC shares of both bins, centered at 0.5."""
    gc = gc_share(codes, PAIR) - 0.5
    a, b = gc[:, None], gc[None, :]
    return np.stack([(a + b) / 2, 10 * a * b, np.abs(a - b)], -1)


def flank_features(codes: np.ndarray) -> np.ndarray:
    """float32 [S, 4 * (2 FLANK + 1)]: the bases around every base, one-hot."""
    bases = one_hot(torch.from_numpy(np.pad(codes, FLANK, constant_values=UNKNOWN_BASE)))
    return bases.unfold(0, 2 * FLANK + 1, 1).flatten(1).numpy()


class Ridge:
    """Normal equations of ridge regressions that share their features.

    penalty: of every weight but, where `intercept`, that of the last feature. highest: largest y [P].
    """

    def __init__(self, penalty: float, *, intercept: bool = True) -> None:
        self.penalty, self.intercept = penalty, intercept
        self.xx: np.ndarray | float = 0.0
        self.xy: np.ndarray | float = 0.0
        self.highest: np.ndarray | float = 0.0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Rows x [N, D], y [N, P]; a row with any missing y is left out."""
        whole = np.isfinite(y).all(1)
        x, y = (np.ascontiguousarray(v[whole], dtype=np.float64) for v in (x, y))
        self.xx, self.xy = self.xx + x.T @ x, self.xy + x.T @ y
        if len(y):
            self.highest = np.maximum(self.highest, y.max(0))

    def solve(self) -> np.ndarray:
        """Weights float32 [D, P]; the intercept is not penalized."""
        diagonal = np.full(len(self.xx), self.penalty)
        diagonal[-1] = 1e-9 if self.intercept else self.penalty
        return np.linalg.solve(self.xx + np.diag(diagonal), self.xy).astype(np.float32)


class _Fit:
    """Everything that is summed over the training windows of one organism."""

    def __init__(self, k: int, penalty: float) -> None:
        self.k, self.penalty = k, penalty
        self.ridges: dict[str, Ridge] = {}
        self.means = Means()
        self.site_counts = np.zeros((len(SiteClass.NAMES), 2 * FLANK + 1, 4))
        self.site_total = np.zeros(len(SiteClass.NAMES))
        self.junctions: list[tuple[np.ndarray, Tensor, np.ndarray]] = []

    def ridge(self, name: str, penalty: float, *, intercept: bool = True) -> Ridge:
        """The regression called `name`, made at first use."""
        return self.ridges.setdefault(name, Ridge(penalty, intercept=intercept))

    def tracks(self, output: OutputType, features: np.ndarray, target: Tensor) -> None:
        """Count a track target."""
        self.ridge(output, self.penalty).add(features, np.log1p(np.maximum(token_targets(output, target), 0)))

    def contacts(self, output: OutputType, codes: np.ndarray, maps: np.ndarray) -> None:
        """Count a contact map: one feature a distance, then GC of both bins."""
        self.means.add(f"{output}/distance", by_distance(maps), 0)
        bins = len(maps)
        row, column = np.triu_indices(bins)
        distance = np.eye(bins)[column - row]
        gc = pair_features(codes)[row, column]
        ridge = self.ridge(output, SMALL_PENALTY, intercept=False)
        ridge.add(np.column_stack([distance, gc]), maps[row, column])

    def sites(self, flanks: np.ndarray, classes: np.ndarray) -> None:
        """Count bases around the bases of every class."""
        shaped = flanks.reshape(len(flanks), 4, -1)
        for number in range(len(SiteClass.NAMES)):
            at = classes == number
            self.site_counts[number] += shaped[at].sum(0, dtype=np.float64).T
            self.site_total[number] += at.sum()

    def usage(self, output: OutputType, flanks: np.ndarray, classes: np.ndarray, usage: np.ndarray) -> None:
        """Count usage at the labelled sites of each strand."""
        half = usage.shape[1] // 2
        for name, channels in (("plus", slice(0, half)), ("minus", slice(half, None))):
            wanted = (0, 1) if name == "plus" else (2, 3)
            at = np.flatnonzero(np.isin(classes, wanted))
            x = np.column_stack([flanks[at], np.ones(len(at))])
            self.ridge(f"{output}/{name}", SMALL_PENALTY).add(x, usage[at, channels])


def fit_kmer(examples: Iterable[Example], *, k: int, ridge: float) -> Arrays:
    """Arrays `{output type}/{name}` of the ridge model of one organism. ValueError for k above 6."""
    if not 1 <= k <= MAX_K:
        raise ValueError(f"evaluation.kmer is {k}; wanted 1 to {MAX_K} (4**k features are solved for)")
    fit = _Fit(k, ridge)
    for example in examples:
        _count(fit, example)
    return _solve(fit)


def _count(fit: _Fit, example: Example) -> None:
    codes = example.sequence.numpy()
    features = token_features(codes, fit.k)
    targets = {k: v for k, v in example.targets.items() if k != "splice_positions"}
    for name, target in targets.items():
        output = OutputType(name)
        if OUTPUTS[output].kind is Kind.TRACKS:
            fit.tracks(output, features, target)
        elif OUTPUTS[output].kind is Kind.CONTACTS:
            fit.contacts(output, codes, target.numpy().astype(np.float64))
    if OutputType.SPLICE_SITES not in targets:
        return
    classes, flanks = targets[OutputType.SPLICE_SITES].numpy(), flank_features(codes)
    fit.sites(flanks, classes)
    if (usage := targets.get(OutputType.SPLICE_SITE_USAGE)) is not None:
        fit.usage(OutputType.SPLICE_SITE_USAGE, flanks, classes, usage.numpy())
    if (counts := targets.get(OutputType.SPLICE_JUNCTIONS)) is not None:
        fit.junctions.append((flanks, example.targets["splice_positions"], counts.numpy()))


def _solve(fit: _Fit) -> Arrays:
    arrays = fit.means.result()
    for name, found in fit.ridges.items():
        if not np.isscalar(found.xx):
            arrays[f"{name}/weights"] = found.solve()
            arrays[f"{name}/highest"] = np.asarray(found.highest, np.float32)
    if fit.site_total.sum():
        site = OutputType.SPLICE_SITES
        weights, bias = site_log_odds(fit.site_counts, fit.site_total)
        arrays |= {f"{site}/weights": weights, f"{site}/bias": bias}
        arrays |= _solve_junctions(fit, weights)
    return arrays


def site_log_odds(counts: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Naive Bayes of bases around a site: weights float32 [5, 4, 2 FLANK + 1] and log priors float32 [5].

    counts [5, 2 FLANK + 1, 4] of bases by class, total [5] bases of each class; one pseudocount a base.
    """
    share = (counts + 1) / (counts + 1).sum(-1, keepdims=True)
    odds = np.log(share / share[SiteClass.NONE]).transpose(0, 2, 1)
    prior = np.log((total + 1) / (total + 1).sum())
    return np.ascontiguousarray(odds, dtype=np.float32), prior.astype(np.float32)


def junction_features(scores: np.ndarray, donors: np.ndarray, acceptors: np.ndarray) -> np.ndarray:
    """float64 [D, A, 4]: scores [S, 2] of donor and acceptor, log distance, 1."""
    shape = (len(donors), len(acceptors))
    distance = np.log1p(np.abs(donors[:, None] - acceptors[None]))
    left = np.broadcast_to(scores[donors, 0][:, None], shape)
    right = np.broadcast_to(scores[acceptors, 1][None], shape)
    return np.stack([left, right, distance, np.ones(shape)], -1)


def _solve_junctions(fit: _Fit, odds: np.ndarray) -> Arrays:
    """Ridge of log1p counts of the observed junctions of each strand on site scores and distance."""
    ridges = {0: Ridge(SMALL_PENALTY), 1: Ridge(SMALL_PENALTY)}
    for flanks, positions, counts in fit.junctions:
        scores = flanks @ odds.reshape(len(odds), -1).T
        half = counts.shape[2] // 2
        for strand, ridge in ridges.items():
            donor, acceptor = positions[2 * strand].numpy(), positions[2 * strand + 1].numpy()
            donor, acceptor = donor[donor >= 0], acceptor[acceptor >= 0]
            known = counts[: len(donor), : len(acceptor), strand * half : (strand + 1) * half]
            seen = (np.nan_to_num(known) > 0).any(2)
            x = junction_features(scores[:, 2 * strand : 2 * strand + 2], donor, acceptor)
            ridge.add(x[seen], np.log1p(known[seen]))
    name = OutputType.SPLICE_JUNCTIONS
    solved = {s: r for s, r in ridges.items() if not np.isscalar(r.xx)}
    return {f"{name}/{s}/weights": r.solve() for s, r in solved.items()}


class KmerPredictor(Baseline):
    """Ridge regression on local sequence content."""

    kind = "baseline-kmer"

    def tokens(self, output: OutputType, codes: Tensor, organism: str) -> Tensor:
        """Track sums of 128 bases [B, T, P]."""
        weights = self.array(organism, output, "weights").cpu().numpy()
        k = self.info["settings"]["kmer"]
        logs = np.stack([token_features(row, k).astype(np.float32) @ weights for row in codes.cpu().numpy()])
        highest = self.array(organism, output, "highest").cpu().numpy()
        return torch.from_numpy(np.expm1(np.clip(logs, 0, highest))).to(self.device)

    def contacts(self, output: OutputType, codes: Tensor, organism: str) -> Tensor:
        """Contact maps [B, Q, Q, P]: distance and GC of both bins."""
        weights = self.array(organism, output, "weights")
        known, bins = len(weights) - 3, codes.shape[-1] // PAIR
        place = torch.arange(bins, device=self.device)
        distance = (place[:, None] - place).abs().clamp_max(known - 1)
        features = np.stack([pair_features(row) for row in codes.cpu().numpy()]).astype(np.float32)
        return weights[distance] + torch.from_numpy(features).to(self.device) @ weights[known:]

    def site_scores(self, codes: Tensor, organism: str) -> Tensor:
        """Log-odds against `none` [B, S, 5], without the prior."""
        weights = self.array(organism, OutputType.SPLICE_SITES, "weights")
        bases = pad(one_hot(codes).transpose(1, 2), (FLANK, FLANK))
        return conv1d(bases, weights).transpose(1, 2)

    def sites(self, output: OutputType, codes: Tensor, organism: str) -> Tensor:
        """Class probabilities [B, S, 5]."""
        return (self.site_scores(codes, organism) + self.array(organism, output, "bias")).softmax(-1)

    def usage(self, output: OutputType, codes: Tensor, organism: str) -> Tensor:
        """Usage [B, S, P], 0 to 1."""
        bases = pad(one_hot(codes).transpose(1, 2), (FLANK, FLANK))
        halves = []
        for name in ("plus", "minus"):
            weights = self.array(organism, output, f"{name}/weights")
            kernel = weights[:-1].T.reshape(weights.shape[1], 4, -1)
            halves.append(conv1d(bases, kernel, weights[-1]).transpose(1, 2))
        return torch.cat(halves, -1).clamp(0, 1)

    def junctions(self, output: OutputType, codes: Tensor, organism: str, positions: Tensor) -> Tensor:
        """Counts [B, K, K, P]."""
        scores = self.site_scores(codes, organism).cpu().numpy()
        places = positions.clamp_min(0).cpu().numpy()
        rows = []
        for score, place in zip(scores, places, strict=True):
            halves = []
            for s in (0, 1):
                x = junction_features(score[:, 2 * s : 2 * s + 2], place[2 * s], place[2 * s + 1])
                weights = self.array(organism, output, f"{s}/weights").cpu().numpy()
                halves.append(np.expm1(np.clip(x.astype(np.float32) @ weights, 0, MAX_LOG_COUNT)))
            rows.append(np.concatenate(halves, -1))
        return torch.from_numpy(np.stack(rows)).to(self.device)
