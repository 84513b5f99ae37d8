"""Dealing clusters to folds as an integer program: every fold gets the same share of every quantity."""

from __future__ import annotations

import time

import numpy as np
import pulp

from megabase.files import FileError
from megabase.logs import LOGGER
from megabase.seeds import generator

MAX_LOTS = 400  # more clusters than this are dealt in lots of neighbours
GAP = 0.02  # a largest deviation this small is good enough
MAX_NODES = 50  # bounds the search by work, not by the clock, so that every machine finds the same deal


def deal(loads: np.ndarray, folds: int, *, weights: np.ndarray, seed: int, time_limit: int) -> np.ndarray:
    """Fold number int64 [C] of each of C clusters; loads float [C, Q] are its amounts of Q quantities.

    Minimises the largest weighted relative deviation of a fold's amount from an equal share. Clusters are
    dealt whole and in order: beyond MAX_LOTS, neighbours are first put together. FileError if there are
    fewer clusters than folds.
    """
    if len(loads) < folds:
        raise FileError(
            f"folds: {len(loads)} homology clusters cannot fill {folds} folds; use a smaller folds.unit, a "
            "higher folds.homology_threshold, or fewer folds.names"
        )
    totals = loads.sum(axis=0)
    shares = loads[:, totals > 0] / totals[totals > 0]
    lots = _lots(shares.mean(axis=1), folds)
    amounts = np.zeros((lots.max() + 1, shares.shape[1]))
    np.add.at(amounts, lots, shares)
    weights = weights[totals > 0]
    start = _swapped(amounts, _greedy(amounts, folds, weights), folds, weights)
    if deviation(amounts, start, folds, weights) <= GAP or folds == 1:
        return start[lots]
    return _solve(amounts, folds, weights, start, seed, time_limit)[lots]


def deviation(amounts: np.ndarray, fold: np.ndarray, folds: int, weights: np.ndarray) -> float:
    """Largest weighted |amount / equal share - 1| of a fold; each column of amounts [C, Q] sums to 1."""
    sums = np.zeros((folds, amounts.shape[1]))
    np.add.at(sums, fold, amounts)
    return float((np.abs(sums * folds - 1) * weights).max(initial=0.0))


def _lots(sizes: np.ndarray, folds: int) -> np.ndarray:
    """Lot number [C] of clusters in order: each alone if they are few, else neighbours together."""
    if len(sizes) <= max(MAX_LOTS, folds):
        return np.arange(len(sizes))
    return np.unique((np.cumsum(sizes) - sizes / 2) // (sizes.sum() / MAX_LOTS), return_inverse=True)[1]


def _greedy(amounts: np.ndarray, folds: int, weights: np.ndarray) -> np.ndarray:
    """Largest first, each to the fold where the sum of squares grows least: a start for the program."""
    fold = np.zeros(len(amounts), dtype=np.int64)
    sums = np.zeros((folds, amounts.shape[1]))
    order = np.argsort(-amounts.max(axis=1), kind="stable")
    for rank, lot in enumerate(order):
        cost = (weights * ((sums + amounts[lot]) ** 2 - sums**2)).sum(axis=1)
        fold[lot] = rank if rank < folds else int(np.argmin(cost))  # the first ones make no fold empty
        sums[fold[lot]] += amounts[lot]
    return fold


def _swapped(amounts: np.ndarray, fold: np.ndarray, folds: int, weights: np.ndarray) -> np.ndarray:
    """Move lots of the fold that is furthest off, or swap them with others', while the deviations shrink.

    The sum of fourth powers of the weighted deviations stands for the largest one: it tells two swaps apart
    that leave the largest as it is.
    """
    fold = fold.copy()
    sums = np.zeros((folds, amounts.shape[1]))
    np.add.at(sums, fold, amounts)

    def cost(total: np.ndarray) -> np.ndarray:
        return (((total * folds - 1) * weights) ** 4).sum(axis=-1)

    for _ in range(len(fold) * folds):
        worst = int(np.argmax(cost(sums)))
        own, others = np.flatnonzero(fold == worst), np.flatnonzero(fold != worst)
        if len(own) == 1:
            break  # its only lot cannot leave
        # the last `folds` candidates are no lot at all: a move
        partner = np.concatenate([fold[others], np.arange(folds)])
        given = np.concatenate([amounts[others], np.zeros((folds, amounts.shape[1]))])
        change = given[None] - amounts[own][:, None]
        gain = cost(sums[worst] + change) + cost(sums[partner][None] - change)
        gain -= cost(sums[worst]) + cost(sums[partner])[None]
        gain[:, partner == worst] = 0.0
        i, j = np.unravel_index(np.argmin(gain), gain.shape)
        if gain[i, j] > -1e-15:
            break
        sums[worst] += change[i, j]
        sums[partner[j]] -= change[i, j]
        fold[own[i]] = partner[j]
        if j < len(others):
            fold[others[j]] = worst
    return fold


def _solve(
    amounts: np.ndarray, folds: int, weights: np.ndarray, start: np.ndarray, seed: int, time_limit: int
) -> np.ndarray:
    """The integer program, by CBC from `start`: the better of its deal and `start`."""
    lots, quantities = amounts.shape
    problem = pulp.LpProblem("folds", pulp.LpMinimize)
    largest = pulp.LpVariable("largest_deviation", lowBound=0)
    chosen = [[pulp.LpVariable(f"x_{i}_{f}", cat="Binary") for f in range(folds)] for i in range(lots)]
    problem += largest
    for i in range(lots):
        problem += pulp.lpSum(chosen[i]) == 1
        for f in range(folds):
            chosen[i][f].setInitialValue(int(start[i] == f))
    for f in range(folds):
        problem += pulp.lpSum(row[f] for row in chosen) >= 1
        for q in range(quantities):
            amount = pulp.lpSum(float(amounts[i, q]) * folds * chosen[i][f] for i in range(lots))
            problem += float(weights[q]) * (amount - 1) <= largest
            problem += float(weights[q]) * (1 - amount) <= largest
    first = int(np.argmax(amounts.max(axis=1)))
    problem += (
        chosen[first][int(start[first])] == 1
    )  # folds are interchangeable: one deal of each kind is enough
    largest.setInitialValue(deviation(amounts, start, folds, weights))
    _run(problem, generator(seed, "deal").integers(1, 2**31 - 1), time_limit)
    found = np.array([int(np.argmax([x.varValue or 0.0 for x in row])) for row in chosen], dtype=np.int64)
    if len(set(found)) < folds:
        return start
    better = deviation(amounts, found, folds, weights) < deviation(amounts, start, folds, weights)
    return found if better else start


def _run(problem: pulp.LpProblem, seed: int, time_limit: int) -> None:
    """Run CBC on one thread; the node limit ends a long search, the clock only guards against a stall."""
    options = [f"randomCbcSeed {seed}", f"randomSeed {seed}"]
    solver = pulp.PULP_CBC_CMD(
        msg=False,
        threads=1,
        timeLimit=time_limit,
        gapAbs=GAP,
        maxNodes=MAX_NODES,
        warmStart=True,
        options=options,
    )
    began = time.monotonic()
    try:
        problem.solve(solver)
    except pulp.PulpSolverError as error:
        raise FileError(f"folds: the solver CBC failed ({error}); reinstall pulp") from error
    if problem.status == pulp.LpStatusInfeasible:
        raise FileError(
            "folds: the integer program has no solution; use fewer folds.names or a smaller folds.unit"
        )
    if time.monotonic() - began >= time_limit:
        LOGGER.warning(
            "folds: stopped by folds.time_limit (%d s); another machine may deal otherwise", time_limit
        )
