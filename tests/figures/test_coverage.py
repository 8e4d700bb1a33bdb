"""How often the bands hold the truth: simulated models on simulated documents, under simulated orders of shuffle.

Documents differ in difficulty and orders in ability, both on the logit scale, so that probabilities stay in range.
`spread` is the standard deviation between orders of a score near one half; a score near 0 or 1 varies less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom

from painters.figures.bands import Estimate, draw_mean, median
from painters.figures.loops import best_loops
from painters.results.intervals import Z, score_limit
from painters.results.scoring import normalised, paired_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

HARDNESS = 1.5
"""Standard deviation of the difficulty of documents, in logits."""
SHARES = (0.02, 0.1, 0.5, 0.9, 0.98)
GRID = tuple(product((3, 10), (50, 500), (0.0, 0.05, 0.15)))
"""Orders, documents, spread."""


@dataclass(frozen=True)
class Size:
    """How many repetitions for each cell, and how far their noise may take coverages from 94 to 97 and 90 %."""

    repetitions: int
    draws: int
    slack: float
    cell: float


QUICK = Size(60, 1000, slack=0.7, cell=80)
"""Of 60 repetitions at 95 %, one cell in thousands has less than 80 %."""
THOROUGH = Size(500, 2000, slack=0.0, cell=90)
SIZES = [pytest.param(QUICK, id="quick"), pytest.param(THOROUGH, id="thorough", marks=pytest.mark.slow)]


@cache
def logit_of(share: float, deviation: float) -> float:
    """The centre of normal logits whose probabilities have the mean `share`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    low, high = -40.0, 40.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        mean = weights @ expit(middle + deviation * nodes) / weights.sum()
        low, high = (middle, high) if mean < share else (low, middle)
    return low


class Simulation:
    """Outcomes of plans, and the random weights that bands are drawn with."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size, self.random = size, np.random.default_rng(seed)

    def outcomes(self, share: float, hardness: Array, ability: Array | None = None, spread: float = 0.0) -> Array:
        """Outcomes `[repetitions, orders, documents]` of a score whose expectation is `share`."""
        deviation = math.hypot(HARDNESS, 4 * spread)
        logits = logit_of(share, deviation if ability is not None else HARDNESS) + HARDNESS * hardness[:, None, :]
        if ability is not None:
            logits = logits + 4 * spread * ability[:, :, None]
        return (self.random.random(logits.shape) < expit(logits)).astype(float)

    def normal(self, *shape: int) -> Array:
        return self.random.standard_normal((self.size.repetitions, *shape))

    def weights(self, documents: int) -> Array:
        return self.random.standard_normal((self.size.draws // 2, documents))

    def own(self) -> Array:
        half = self.random.standard_normal(self.size.draws // 2)
        return np.concatenate([half, -half])

    def orders(self, count: int) -> Array:
        half = self.random.standard_normal((count, self.size.draws // 2))
        half /= np.sqrt(count * self.random.chisquare(count - 1, self.size.draws // 2))
        return np.concatenate([half, -half], axis=1)


def covered(samples: Array, truth: float) -> float:
    """In how many per cent of the repetitions the band holds the truth."""
    low, high = np.percentile(samples, [2.5, 97.5], axis=-1)
    return 100 * float(((low <= truth) & (truth <= high)).mean())


def check(coverages: Sequence[float], size: Size) -> None:
    print(f"mean {np.mean(coverages):.1f}, lowest {min(coverages):.1f} of {len(coverages)} cells")
    assert 94 - size.slack <= np.mean(coverages) <= 97 + size.slack
    assert min(coverages) >= size.cell


def scores_of_orders(simulation: Simulation, orders: int, documents: int, spread: float, share: float) -> Array:
    abilities, hardness = simulation.normal(orders), simulation.normal(documents)
    return simulation.outcomes(share, hardness, abilities, spread)


@pytest.mark.parametrize("size", SIZES)
def test_bands_of_the_mean_over_orders(size: Size) -> None:
    simulation, coverages = Simulation(size, 1), []
    for (orders, documents, spread), share in product(GRID, SHARES):
        outcomes = scores_of_orders(simulation, orders, documents, spread, share)
        drawn = draw_mean(outcomes, simulation.weights(documents), simulation.own(), simulation.orders(orders))
        assert 0 <= drawn.min() <= drawn.max() <= 1
        coverages.append(covered(drawn, share))
    check(coverages, size)


def test_the_simulation_finds_bands_that_are_too_narrow() -> None:
    """Percentiles of a bootstrap over three orders and the documents hold the truth far too seldom."""
    simulation, coverages = Simulation(QUICK, 2), []
    documents = 500
    for share in (0.2, 0.35, 0.5, 0.65, 0.8):
        outcomes = scores_of_orders(simulation, 3, documents, 0.15, share)
        drawn = []
        for _ in range(300):
            orders = simulation.random.integers(0, 3, 3)
            chosen = simulation.random.integers(0, documents, documents)
            drawn.append(outcomes[:, orders][:, :, chosen].mean((1, 2)))
        coverages.append(covered(np.stack(drawn, axis=-1), share))
    assert np.mean(coverages) < 85, coverages


def test_intervals_of_one_proportion() -> None:
    """Exactly, without simulation: the probabilities of all counts whose interval holds the truth."""
    coverages = []
    for documents, share in product((30, 50, 100, 500), np.linspace(0.02, 0.98, 97)):
        counts = np.arange(documents + 1)
        low, high = (score_limit(counts / documents, documents, quantile) for quantile in (-Z, Z))
        holds = (low <= share) & (share <= high)
        coverages.append(100 * float(binom.pmf(counts, documents, share)[holds].sum()))
    assert 94 <= np.mean(coverages) <= 97
    assert min(coverages) >= 90


@pytest.mark.parametrize("size", SIZES)
def test_intervals_of_paired_differences(size: Size) -> None:
    simulation, coverages = Simulation(size, 3), []
    for documents, one, other in product((50, 500), SHARES, (0.02, 0.5, 0.9)):
        hardness = simulation.normal(documents)
        pairs = [simulation.outcomes(share, hardness)[:, 0] for share in (one, other)]
        limits = [paired_interval(first.tolist(), second.tolist()) for first, second in zip(*pairs, strict=True)]
        coverages.append(100 * np.mean([band[0] <= one - other <= band[1] for band in limits if band]))
    check(coverages, size)


# Scores of five tasks, the intact model's, and chance.
TASKS = {
    "near the ceiling": ((0.98, 0.95, 0.9, 0.85, 0.8), (0.99, 0.98, 0.95, 0.9, 0.9), (0.25, 0.0, 0.25, 0.5, 0.25)),
    "in the middle": ((0.5, 0.4, 0.7, 0.6, 0.8), (0.9, 0.9, 0.95, 0.95, 0.9), (0.25, 0.0, 0.25, 0.5, 0.25)),
    "near the floor": ((0.05, 0.02, 0.3, 0.52, 0.3), (0.9, 0.9, 0.9, 0.9, 0.95), (0.0, 0.0, 0.25, 0.5, 0.25)),
    "two tasks alike": ((0.9, 0.9, 0.95, 0.5, 0.3), (0.97, 0.97, 0.97, 0.9, 0.9), (0.0, 0.0, 0.0, 0.0, 0.0)),
    "three tasks alike": ((0.9, 0.9, 0.9, 0.5, 0.3), (0.95, 0.95, 0.95, 0.9, 0.9), (0.0, 0.0, 0.0, 0.0, 0.0)),
}


def of_tasks(
    simulation: Simulation, name: str, orders: int, documents: int, spread: float
) -> tuple[Array, Array, Array, Array]:
    """Draws of scores and of normalised scores `[tasks, repetitions, draws]`, the latter's values, and their truth."""
    scores, scaled, values, truths = [], [], [], []
    common = simulation.normal(orders)
    weights_of_orders = simulation.orders(orders) if orders > 1 else None
    for share, intact, chance in zip(*TASKS[name], strict=True):
        ability = math.sqrt(0.5) * (common + simulation.normal(orders)) if orders > 1 else None
        hardness, weights = simulation.normal(documents), simulation.weights(documents)
        outcomes = simulation.outcomes(share, hardness, ability, spread)
        drawn = draw_mean(outcomes, weights, simulation.own(), weights_of_orders)
        undamaged = simulation.outcomes(intact, hardness)
        base = draw_mean(undamaged, weights, simulation.own())
        scores.append(drawn)
        values.append((outcomes.mean((1, 2)) - chance) / (undamaged.mean((1, 2)) - chance))
        scaled.append((drawn - chance) / (base - chance))
        truths.append(normalised(share, intact, chance))
    return np.stack(scores), np.stack(scaled), np.stack(values), np.array(truths)


CELLS = [*product(TASKS, (3, 10), (50, 500), (0.0, 0.15)), *product(TASKS, (1,), (50, 500), (0.0,))]


@pytest.mark.parametrize("size", SIZES)
def test_bands_over_tasks(size: Size) -> None:
    """The mean of scores over tasks, the normalised score of one task, and the median of those over tasks."""
    simulation = Simulation(size, 4)
    means, singles, medians = [], [], []
    for name, orders, documents, spread in CELLS:
        scores, scaled, values, truths = of_tasks(simulation, name, orders, documents, spread)
        means.append(covered(scores.mean(0), float(np.mean(TASKS[name][0]))))
        singles.append(covered(scaled[1], truths[1]))
        holds = []
        for tasks, of_task in zip(scaled.swapaxes(0, 1), values.T, strict=True):
            band = median([Estimate(float(value), task) for value, task in zip(of_task, tasks, strict=True)]).band
            holds.append(band is not None and band[0] <= np.median(truths) <= band[1])
        medians.append(100 * float(np.mean(holds)))
    for coverages in (means, singles, medians):
        check(coverages, size)


@pytest.mark.parametrize("shares", [(0.8, 0.86, 0.88, 0.87), (0.5, 0.7, 0.6, 0.3), (0.95, 0.97, 0.975, 0.98)])
@pytest.mark.parametrize("documents", [50, 500])
def test_bars_of_the_best_number_of_loops(shares: Sequence[float], documents: int) -> None:
    """They hold the truly best number at least as often as they say; whole numbers make them cautious."""
    simulation = Simulation(Size(200, 1000, 0, 0), 5)
    hardness, weights = simulation.normal(documents), simulation.weights(documents)
    scores = [simulation.outcomes(share, hardness) for share in shares]
    drawn = [draw_mean(outcomes, weights, simulation.own()) for outcomes in scores]
    truth, held = 1 + int(np.argmax(shares)), 0
    for number in range(200):
        column = {
            loops: Estimate(float(outcomes[number].mean()), samples[number])
            for loops, (outcomes, samples) in enumerate(zip(scores, drawn, strict=True), 1)
        }
        best = best_loops(column)
        assert best.low is not None
        assert best.high is not None
        held += best.low <= truth <= best.high
    assert held >= 0.93 * 200
