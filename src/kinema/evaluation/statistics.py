"""How sure a score is, and whether two scores differ.

Questions about one video are not independent, so all errors are clustered by video. Every score
here is a ratio of sums (a mean is one over ones) or a mean of such ratios, and comes with the
influence of each item on it; errors of ratios, macro averages and differences all follow from
influences (Woodruff 1971; Cameron and Miller 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
_SHUFFLES = 10_000


@dataclass(frozen=True, eq=False)
class Measured:
    """One score, each item's part in it, and what each item scored alone."""

    value: float
    influence: Floats | None = None
    """float64[N], summing to zero; None where a metric has no such thing (BLEU)."""
    per_item: Floats | None = None
    """float64[N], to find the worst items; NaN where an item has no score."""

    @staticmethod
    def mean(scores: Sequence[float] | Floats) -> Measured:
        """The mean of one score an item; NaN of nothing."""
        values = np.asarray(scores, dtype=np.float64)
        return Measured.ratio(values, np.ones(len(values)))

    @staticmethod
    def ratio(
        parts: Sequence[float] | Floats,
        wholes: Sequence[float] | Floats,
        *,
        scale: float = 1.0,
        empty: float = math.nan,
    ) -> Measured:
        """``scale * sum(parts) / sum(wholes)``; ``empty`` when the wholes sum to zero."""
        over = np.asarray(parts, dtype=np.float64) * scale
        under = np.asarray(wholes, dtype=np.float64)
        total = float(under.sum())
        if total == 0:
            return Measured(empty, np.zeros(len(over)), np.full(len(over), math.nan))
        value = float(over.sum()) / total
        alone = np.divide(over, under, out=np.full(len(over), math.nan), where=under > 0)
        return Measured(value, (over - value * under) / total, alone)


def macro(groups: Sequence[tuple[Measured, NDArray[np.int64]]], size: int) -> Measured:
    """The mean of scores of groups of items.

    Args:
        groups: each group's score and its items' positions.
        size: how many items there are.
    """
    value = float(np.mean([measured.value for measured, _ in groups]))
    influence, per_item = np.zeros(size), np.full(size, math.nan)
    for measured, where in groups:
        if measured.influence is None:
            return Measured(value)
        influence[where] += measured.influence / len(groups)
        per_item[where] = measured.per_item if measured.per_item is not None else math.nan
    return Measured(value, influence, per_item)


@dataclass(frozen=True)
class Interval:
    """A confidence interval and what it was made from."""

    low: float
    high: float
    standard_error: float
    clusters: int


def interval(influence: Floats | None, value: float, clusters: Sequence[str]) -> Interval | None:
    """The 95 % interval of a score, clustered; None with fewer than two clusters."""
    if influence is None or len(sums := _cluster_sums(influence, clusters)) < 2:
        return None
    count = len(sums)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum()))
    reach = error * t_quantile(0.5 + CONFIDENCE / 2, count - 1)
    return Interval(value - reach, value + reach, error, count)


def _cluster_sums(influence: Floats, clusters: Sequence[str]) -> Floats:
    codes = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)[1]
    sums: Floats = np.bincount(codes, influence).astype(np.float64)
    return sums


@dataclass(frozen=True)
class Difference:
    """Score of one run minus that of another on the same items."""

    value: float
    interval: Interval | None
    p_value: float | None
    """Chance of a difference at least as large if the runs were exchangeable, video by video."""


def paired_difference(one: Measured, other: Measured, clusters: Sequence[str]) -> Difference:
    """Compare two scores over the same items, in the same order.

    The p-value is of a sign-flip permutation test over clusters, with a fixed seed.
    """
    value = one.value - other.value
    if one.influence is None or other.influence is None:
        return Difference(value, None, None)
    gap = one.influence - other.influence
    share = _cluster_sums(gap + value / max(1, len(gap)), clusters)
    return Difference(value, interval(gap, value, clusters), _sign_flip_p(share))


def _sign_flip_p(sums: Floats) -> float | None:
    """Two-sided p of the sum of ``sums`` when each sign is a coin flip."""
    if len(sums) < 2:
        return None
    noise = np.random.default_rng(0)
    seen = abs(float(sums.sum()))
    larger = 1
    for start in range(0, _SHUFFLES, 1000):
        rows = min(1000, _SHUFFLES - start)
        signs = noise.integers(0, 2, (rows, len(sums)), dtype=np.int8) * 2 - 1
        larger += int((np.abs(signs @ sums) >= seen - 1e-12).sum())
    return larger / (_SHUFFLES + 1)


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t (exact for 1 and 2 degrees, else Hill's series of 1970)."""
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        centred = 2 * probability - 1
        return centred * math.sqrt(2 / (1 - centred**2))
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    series = (term / degrees**power for power, term in enumerate(terms, start=1))
    return float(z + sum(series))
