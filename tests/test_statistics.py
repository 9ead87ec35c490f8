"""Statistics of paired differences against published examples, scipy's own tests and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ddpm_bench import statistics

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Additional hours of sleep, one drug minus the other (Cushny & Peebles' data in Student 1908, § 9)."""
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
"""Crossed minus self-fertilised plants, eighths of an inch (Fisher 1935, § 17)."""

some = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=2, max_size=12)


def spread(values: list[float]) -> bool:
    """Whether the differences differ by more than rounding; equal ones have tests of their own."""
    return max(values) - min(values) > 1e-2


def test_students_sleep() -> None:
    """t = 4.0621, p = 0.00283 and 0.70 to 2.46 hours, as every textbook has them."""
    assert statistics.paired_t(SLEEP) == pytest.approx(0.002833, abs=5e-7)
    assert statistics.t_interval(SLEEP) == pytest.approx((0.7001, 2.4599), abs=5e-5)


def test_fishers_count_of_signs() -> None:
    """Fisher 1935, § 21: of the 2^15 sums, 863 are as large as Darwin's 314 or larger."""
    assert statistics.sign_flip(DARWIN) == 2 * 863 / 2**15


def test_smallest_p_of_signs() -> None:
    assert statistics.sign_flip([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 2 ** (1 - 6)
    assert statistics.sign_flip([0.1, -0.2, 0.1, 0.0, 0.1, -0.1], margin=1.0) == 2**-6
    assert statistics.sign_flip([-1.0, -2.0, -1.5, -1.1, -3.0, -1.2], margin=0.5) == 2 ** (1 - 6)


def test_many_seeds_draw_their_signs() -> None:
    """Over 99999 draws p = 0.3 has a standard error of 0.0014; the t test of normal data is near."""
    values = np.random.default_rng(0).normal(0.2, 1.0, 20).tolist()
    assert statistics.sign_flip(values) == pytest.approx(statistics.paired_t(values), abs=0.02)


@given(some.filter(spread))
def test_the_t_test_is_scipys(values: list[float]) -> None:
    """Two programs of the same formula: rounding of sums of at most 12 terms of size 5, conditioned by the spread."""
    assert statistics.paired_t(values) == pytest.approx(
        scipy.stats.ttest_1samp(values, 0.0).pvalue, rel=1e-6, abs=1e-12
    )


@given(some.filter(spread), st.floats(0.01, 3))
def test_equivalence_is_two_one_sided_tests_of_scipy(values: list[float], margin: float) -> None:
    below = scipy.stats.ttest_1samp(values, margin, alternative="less").pvalue
    above = scipy.stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    assert statistics.equivalence(values, margin) == pytest.approx(max(below, above), rel=1e-6, abs=1e-12)


@given(some.filter(spread), st.floats(0, 3))
def test_beyond_is_the_interval_outside_of_the_margin(values: list[float], margin: float) -> None:
    low, high = statistics.t_interval(values)
    outside = low > margin or high < -margin
    p = statistics.beyond(values, margin)
    assert (p < 0.05) == outside or p == pytest.approx(0.05, rel=1e-6)


@given(some, st.floats(0.01, 3))
def test_reversed_differences_change_the_sign_alone(values: list[float], margin: float) -> None:
    back = [-value for value in values]
    low, high = statistics.t_interval(values)
    assert statistics.t_interval(back) == (-high, -low)
    assert statistics.paired_t(back) == statistics.paired_t(values)
    assert statistics.equivalence(back, margin) == statistics.equivalence(values, margin)
    assert statistics.beyond(back, margin) == statistics.beyond(values, margin)


def test_equal_differences_are_taken_at_their_word() -> None:
    assert statistics.paired_t([0.0] * 6) == 1.0
    assert statistics.paired_t([0.3] * 6) == 0.0
    # 0.1 + 0.2 − 0.3 and the like: equal but for rounding
    assert statistics.paired_t([0.3, 0.1 + 0.2, 0.3]) == 0.0
    assert statistics.equivalence([0.3] * 6, 0.5) == 0.0
    assert statistics.equivalence([0.3] * 6, 0.2) == 1.0
    assert statistics.beyond([0.3] * 6, 0.2) == 0.0
    assert statistics.beyond([0.3] * 6, 0.5) == 1.0
    assert statistics.t_interval([0.3] * 6) == (0.3, 0.3)
    assert statistics.seeds_to_decide([0.0] * 6) is None
    assert statistics.image_interval(np.full(50, 0.25)) == (0.25, 0.25)


def test_one_difference_is_none() -> None:
    with pytest.raises(ValueError, match="needs two differences or more, got 1"):
        statistics.paired_t([1.0])


def test_holm() -> None:
    """By hand: sorted 0.005·4, 0.01·3, 0.03·2 and 0.04·1, none smaller than the one before; the first example of the
    method's article in Wikipedia."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.7, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_its_definition(p_values: list[float]) -> None:
    """A claim is decided at level a when it and all with smaller p pass a/(number of claims that are left)."""
    for level in (0.01, 0.05, 0.3):
        left, decided = sorted(range(len(p_values)), key=lambda i: p_values[i]), set()
        while left and p_values[left[0]] * len(left) < level:
            decided.add(left.pop(0))
        assert {i for i, p in enumerate(statistics.holm(p_values)) if p < level} == decided


@pytest.mark.parametrize(("size", "seeds"), [(0.5, 34), (0.8, 15), (1.0, 10), (2.0, 6)])
def test_seeds_of_published_power_tables(size: float, seeds: int) -> None:
    """Two-sided paired t test at 5 % with power 0.8 (as G*Power prints it for one sample): 34, 15 and 10 pairs
    for d̄/s of 0.5, 0.8 and 1; a size of 2 needs 5, and no verdict is given with fewer than 6."""
    values = [size + 1 / math.sqrt(2), size - 1 / math.sqrt(2)]  # mean `size`, standard deviation 1
    assert statistics.seeds_to_decide(values) == seeds


def test_seeds_of_an_equivalence_have_the_promised_power() -> None:
    """Simulated: 4000 samples of the number it names have power 0.8 ± 4·√(0.8·0.2/4000) = 0.025; the bound it uses and
    the last whole seed leave at most 0.05 more."""
    margin, mean, deviation = 1.0, 0.3, 0.9
    values = [mean + deviation / math.sqrt(2), mean - deviation / math.sqrt(2)]
    num = statistics.seeds_to_decide(values, margin=margin)
    assert num is not None
    drawn = np.random.default_rng(0).normal(mean, deviation, (4000, num))
    power = np.mean([statistics.equivalence(row.tolist(), margin) < 0.05 for row in drawn])
    assert 0.8 - 0.025 < power < 0.8 + 0.05 + 0.025
    assert statistics.seeds_to_decide(values, margin=mean) is None  # on the margin no number settles it


def test_an_effect_that_is_too_small_is_never_settled() -> None:
    assert statistics.seeds_to_decide([1.001, -1.0]) is None


def differences(repeats: int, seeds: int, effect: float) -> np.ndarray:
    """Per-seed differences [repeats, seeds] of two variants in three contexts. What a seed does to both cancels; what
    it does to each variant, and evaluation noise of the same size (drawn once for both where they share it, and again
    for each), remains."""
    random = np.random.default_rng(0)
    shape = (repeats, seeds, 3)
    common_noise = random.normal(0, 1, shape)
    values = [
        mean + random.normal(0, 1, (repeats, seeds, 1)) + random.normal(0, 1, shape) + common_noise
        for mean in (effect, 0.0)
    ]
    return (values[0] - values[1]).mean(axis=2)


@pytest.mark.parametrize("seeds", [2, 6, 8])
def test_coverage_of_the_interval(seeds: int) -> None:
    """4000 repeats: 95 % ± 4·√(0.95·0.05/4000) = 1.4 %."""
    found = [statistics.t_interval(row.tolist()) for row in differences(4000, seeds, 0.7)]
    assert np.mean([low < 0.7 < high for low, high in found]) == pytest.approx(0.95, abs=0.014)


def test_false_positives_of_both_tests() -> None:
    """4000 repeats: 5 % ± 4·√(0.05·0.95/4000) = 1.4 %; p of the sign-flip test at n = 8 steps by 1/128, so that 4.7 %
    are at or below 6/128."""
    rows = differences(4000, 8, 0.0).tolist()
    assert np.mean([statistics.paired_t(row) < 0.05 for row in rows]) == pytest.approx(0.05, abs=0.014)
    flips = [statistics.sign_flip(row) for row in rows[:1000]]
    # 1000 repeats: ± 4·√(0.047·0.953/1000) = 2.7 %
    assert np.mean([p <= 6 / 128 + 1e-12 for p in flips]) == pytest.approx(6 / 128, abs=0.027)


def test_false_equivalence_on_the_margin() -> None:
    """The truth is exactly the margin away: equivalent in at most 5 % (+ 1.4 %), beyond it in at most 5 % as well."""
    rows = differences(4000, 8, 0.7).tolist()
    assert np.mean([statistics.equivalence(row, 0.7) < 0.05 for row in rows]) < 0.05 + 0.014
    assert np.mean([statistics.beyond(row, 0.7) < 0.05 for row in rows]) < 0.05 + 0.014


def test_a_family_of_null_claims_is_rarely_decided() -> None:
    """Five claims with no effect, on common seeds: any false decision in at most 5 % (+ 4·√(0.05·0.95/2000) = 2 %)."""
    families = differences(10_000, 8, 0.0).reshape(2000, 5, 8)
    wrong = [min(statistics.holm([statistics.paired_t(row.tolist()) for row in family])) < 0.05 for family in families]
    assert np.mean(wrong) < 0.05 + 0.02


def test_the_bootstrap_covers_the_mean_of_images() -> None:
    """360 skewed differences, 300 repeats: 95 % ± 4·√(0.95·0.05/300) = 5 %, and 1 % of the percentile method."""
    random = np.random.default_rng(0)
    found = [statistics.image_interval(random.exponential(1.0, 360)) for _ in range(300)]
    assert np.mean([low < 1.0 < high for low, high in found]) == pytest.approx(0.95, abs=0.06)
