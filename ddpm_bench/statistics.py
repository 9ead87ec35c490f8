"""Statistics of paired differences: from one difference for each training seed to an interval, a p-value, a decision.

Everywhere d_1 … d_n are the differences of n ≥ 2 seeds, a sample of what another seed would give; d̄ is their mean, s
their standard deviation (n − 1 in the denominator) and se = s/√n. Equal differences (s = 0) are taken at their word: a
p-value is then 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALPHA = 0.05
"""Level of the tests, and 1 − the level of the intervals."""
MIN_SEEDS = 6
"""Seeds that a decision needs: with fewer, no two-sided sign-flip test reaches 5 % (2^(1 − n) > 0.05 for n ≤ 5)."""
POWER = 0.8
"""Chance of a decision that `seeds_to_decide` asks for."""
MOST_SEEDS = 1000
"""Where `seeds_to_decide` gives up."""
RESAMPLES = 2000
"""Of the bootstrap over images: the ends of its interval then wobble by about 4 % of its width."""


@dataclass(frozen=True)
class Moments:
    """Mean d̄ and standard deviation s of `num` differences."""

    mean: float
    deviation: float
    num: int

    @property
    def stderr(self) -> float:
        """se = s/√n."""
        return self.deviation / math.sqrt(self.num)

    def t(self, null: float) -> float:
        """(d̄ − null)/se; ±inf or 0 where se = 0."""
        gap = self.mean - null
        if self.stderr == 0:
            return math.copysign(math.inf, gap) if gap else 0.0
        return gap / self.stderr


def moments(differences: Sequence[float]) -> Moments:
    """Moments of n ≥ 2 differences. Raises ValueError for fewer.

    Sums are exact (`math.fsum`); differences that are equal to the last bits of their size count as equal.
    """
    num = len(differences)
    if num < 2:
        raise ValueError(f"needs two differences or more, got {num}")
    mean = math.fsum(differences) / num
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (num - 1))
    rounding = 8 * np.finfo(np.float64).eps * max(map(abs, differences))
    return Moments(mean, 0.0 if deviation <= rounding else deviation, num)


def t_half_width(differences: Sequence[float], level: float = 1 - ALPHA) -> float:
    """Half width of the t interval of the mean: t_{(1 + level)/2, n − 1} · s/√n.

    Raises ValueError for fewer than two differences. Source: Student 1908, § 3 (the distribution of t).
    """
    from scipy.special import stdtrit

    found = moments(differences)
    return float(stdtrit(found.num - 1, (1 + level) / 2)) * found.stderr


def t_interval(differences: Sequence[float], level: float = 1 - ALPHA) -> tuple[float, float]:
    """d̄ ± t_half_width. Source: Student 1908, § 3."""
    half, mean = t_half_width(differences, level), moments(differences).mean
    return mean - half, mean + half


def paired_t(differences: Sequence[float]) -> float:
    """Two-sided p of "the mean difference is 0": 2·P(T_{n−1} ≤ −|d̄|/se). Source: Student 1908, § 9 (paired plots)."""
    return 2 * _tail(moments(differences), 0.0, -1)


def equivalence(differences: Sequence[float], margin: float) -> float:
    """p of "the mean difference is `margin` or more away from 0", the larger of two one-sided tests:
    max[P(T ≤ (d̄ − margin)/se), P(T ≥ (d̄ + margin)/se)], T of n − 1 degrees of freedom.

    Small: equivalent. Source: Schuirmann 1987, § 3 (two one-sided tests).
    """
    found = moments(differences)
    return max(_lower(found.t(margin), found.num), _lower(-found.t(-margin), found.num))


def beyond(differences: Sequence[float], margin: float) -> float:
    """Two-sided p of "the mean difference is at most `margin` away from 0": 2·P(T ≤ −(|d̄| − margin)/se), at most 1.

    Small: not equivalent. It is below 5 % exactly where the 95 % t interval lies outside of ±margin; with margin = 0
    it is `paired_t`. Source: Schuirmann 1987, § 3, the same tests turned round.
    """
    return min(1.0, 2 * _tail(moments(differences), margin, -1))


def _tail(found: Moments, margin: float, sign: int) -> float:
    """P(T ≤ sign·(|d̄| − margin)/se)."""
    size = Moments(abs(found.mean), found.deviation, found.num)
    return _lower(sign * size.t(margin), found.num)


def _lower(t: float, num: int) -> float:
    from scipy.special import stdtr

    if math.isinf(t):
        return 0.0 if t < 0 else 1.0
    return float(stdtr(num - 1, t))


def sign_flip(differences: Sequence[float], margin: float | None = None) -> float:
    """p of the sign-flip test: were every d_s as likely as −d_s, how often would |d̄| be as large?

    Exact over all 2^n signs up to n = 16, over 99999 drawn ones (seed 0) above. With a margin the smaller of two: of
    equivalence within it, the larger of the one-sided p of d + margin and of margin − d; of a difference beyond it,
    twice the one-sided p of ±d − margin, the sign being that of d̄. The smallest possible value is 2^(1 − n), of an
    equivalence 2^(−n). Source: Fisher 1935, § 21 (Darwin's plants).
    """
    values = np.asarray(differences, dtype=np.float64)
    if margin is None:
        return _permuted(values, "two-sided")
    within = max(_permuted(values + margin, "greater"), _permuted(margin - values, "greater"))
    return min(within, 2 * _permuted(np.sign(values.mean()) * values - margin, "greater"))


def _permuted(values: np.ndarray, alternative: str) -> float:
    from scipy.stats import permutation_test

    found = permutation_test(
        (values,), np.mean, permutation_type="samples", alternative=alternative, n_resamples=99_999, axis=0,
        vectorized=True, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being one family: of the sorted p_(1) ≤ … ≤ p_(m), the largest (m − j + 1)·p_(j) up to the
    own place, at most 1.

    Claims with an adjusted p below 5 % are decided with at most a 5 % chance of any false decision among them. Source:
    Holm 1979, § 3 (sequentially rejective test).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def seeds_to_decide(differences: Sequence[float], alpha: float = ALPHA, margin: float | None = None) -> int | None:
    """The smallest number of seeds, MIN_SEEDS or more, that decides with probability POWER if d̄ and s are the truth.

    alpha: the level that the p-value has to reach (of a family of m claims ALPHA/m, Holm's hardest step); margin: of an
    equivalence. None where more than MOST_SEEDS would be needed. Power of the t test in the direction of d̄:
    P(T' > t_{1 − α/2, n − 1}), T' noncentral t of n − 1 degrees of freedom and noncentrality |d̄|√n/s; of the two
    one-sided tests the lower bound P(T'_low > t_{1 − α}) + P(T'_high < −t_{1 − α}) − 1. Source: Cohen 1988, § 12.2
    (power of t tests).
    """
    found = moments(differences)
    for num in range(MIN_SEEDS, MOST_SEEDS + 1):
        if _power(found, num, alpha, margin) >= POWER:
            return num
    return None


def _power(found: Moments, num: int, alpha: float, margin: float | None) -> float:
    from scipy.special import stdtrit

    if found.deviation == 0:
        return float(abs(found.mean) != (margin or 0.0))
    root, degrees = math.sqrt(num) / found.deviation, num - 1
    away = abs(found.mean) - (margin or 0.0)
    critical = float(stdtrit(degrees, 1 - alpha / 2))
    if margin is None or away >= 0:
        return 1 - _noncentral(degrees, away * root, critical)
    critical = float(stdtrit(degrees, 1 - alpha))
    low = 1 - _noncentral(degrees, (found.mean + margin) * root, critical)
    high = 1 - _noncentral(degrees, (margin - found.mean) * root, critical)
    return low + high - 1


def _noncentral(degrees: int, noncentrality: float, t: float) -> float:
    """P(T' ≤ t). Beyond a noncentrality of 30 it is below 1e-9 for every critical t met here and taken as 0."""
    from scipy.special import nctdtr

    return 0.0 if noncentrality > 30 + t else float(nctdtr(degrees, noncentrality, t))


def image_interval(per_image: np.ndarray, level: float = 1 - ALPHA) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of per-image differences [N] within one training, seed 0.

    It says how much other images would change the difference of these very networks, and nothing of another training.
    Source: Efron & Tibshirani 1993, § 13.3 (percentile interval).
    """
    from scipy.stats import bootstrap

    rows = max(1, 10**7 // len(per_image))
    found = bootstrap(
        (np.asarray(per_image, dtype=np.float64),), np.mean, n_resamples=RESAMPLES, confidence_level=level,
        method="percentile", batch=min(rows, RESAMPLES), vectorized=True, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)
