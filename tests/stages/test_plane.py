"""The plane of a path against a singular value decomposition, and random walks against their closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddpm_bench.stages._plane import centred, principal_plane, shares_of, walk_gram


def path(num_points: int, num_dims: int) -> np.ndarray:
    """Points that wander, far from the origin."""
    rng = np.random.default_rng(0)
    return 30 + np.cumsum(rng.standard_normal((num_points, num_dims)) * np.linspace(3, 0.1, num_dims), axis=0)


# The plane


@pytest.mark.parametrize(("num_points", "num_dims"), [(3, 2), (5, 40), (21, 7), (12, 300)])
def test_against_a_singular_value_decomposition(num_points: int, num_dims: int) -> None:
    x = path(num_points, num_dims)
    moved = x - x.mean(0)
    u, s, vt = np.linalg.svd(moved, full_matrices=False)
    plane = principal_plane(centred(x @ x.T))
    wanted = np.zeros(num_points - 1)
    kept = min(num_points - 1, num_dims)
    wanted[:kept] = (s**2 / (s**2).sum())[:kept]
    # A Gram matrix squares what the decomposition sees, and moving it to the mean cancels the 30² of each point:
    # 10⁻¹⁶ · 30²·D against variances of order 1·D leaves 10⁻¹².
    np.testing.assert_allclose(plane.shares, wanted, atol=1e-11)
    for j in range(2):
        sign = np.sign(u[-1, j])
        np.testing.assert_allclose(plane.coordinates[:, j], sign * u[:, j] * s[j], atol=1e-9 * s[0])
        np.testing.assert_allclose(moved.T @ plane.combination[:, j], sign * vt[j], atol=1e-9)
    assert (plane.coordinates[-1] >= 0).all()
    np.testing.assert_allclose(plane.coordinates.sum(0), 0, atol=1e-9 * s[0])


def test_three_points_lie_in_their_plane() -> None:
    x = path(3, 1000)
    moved = x - x.mean(0)
    plane = principal_plane(centred(x @ x.T))
    assert plane.shares.sum() == pytest.approx(1)
    rebuilt = plane.coordinates @ (moved.T @ plane.combination).T
    np.testing.assert_allclose(rebuilt, moved, atol=1e-9)


def test_points_on_a_line_have_no_plane() -> None:
    x = np.outer(np.arange(5.0), np.ones(10))
    with pytest.raises(ValueError, match="lie on a line"):
        principal_plane(centred(x @ x.T))


# Random walks


@pytest.mark.parametrize("num_points", [3, 5, 21, 200])
def test_the_closed_form(num_points: int) -> None:
    """Eigenvalues 1/(4 sin²(kπ/2n)), whose sum is (n² − 1)/6. Equal up to the rounding of an eigenvalue solver."""
    k = np.arange(1, num_points)
    wanted = 1 / (4 * np.sin(k * math.pi / (2 * num_points)) ** 2) / ((num_points**2 - 1) / 6)
    found = shares_of(centred(walk_gram(range(num_points))))
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    # Where the walk began, and after how many steps one looks, say nothing.
    for steps in (range(7, num_points + 7), range(0, 50 * num_points, 50)):
        np.testing.assert_allclose(shares_of(centred(walk_gram(steps))), wanted, atol=1e-12)


def test_the_limit_of_many_points() -> None:
    """6/π² (1 + ¼) = 76 %. 1/sin²x = 1/x² + 1/3 + …, so n points have (0.76 + 1)/(n² − 1) more: below 2/n²."""
    found = shares_of(centred(walk_gram(range(500))))[:2].sum()
    assert 0 < found - 6 / math.pi**2 * 1.25 < 2 / 500**2


def simulated(steps: list[int], decays: np.ndarray | None, num_dims: int = 100_000) -> np.ndarray:
    """Shares of one random walk, or of its average, at these steps."""
    rng = np.random.default_rng(0)
    position, average = np.zeros(num_dims), np.zeros(num_dims)
    seen = [average.copy()] if steps[0] == 0 else []
    for m in range(1, steps[-1] + 1):
        position += rng.standard_normal(num_dims)
        average = position if decays is None else decays[m - 1] * average + (1 - decays[m - 1]) * position
        if m in steps:
            seen.append(average.copy())
    singular = np.linalg.svd(np.stack(seen) - np.mean(seen, axis=0), compute_uv=False)
    return (singular**2 / (singular**2).sum())[: len(steps) - 1]


STEPS = list(range(0, 101, 5))
WARM = np.array([min(0.9, (1 + n) / (10 + n)) for n in range(1, 101)])
"""The warm-up up to n = 80, then a constant."""


@pytest.mark.parametrize("decays", [None, WARM])
def test_against_a_walk_in_many_dimensions(decays: np.ndarray | None) -> None:
    """An eigenvalue of D dimensions has a relative standard deviation of about √(2/D) = 0.45 %; five of those."""
    found = shares_of(centred(walk_gram(STEPS, decays)))
    np.testing.assert_allclose(found[:3], simulated(STEPS, decays)[:3], rtol=5 * math.sqrt(2 / 100_000))


def test_an_average_wanders_less_freely_than_the_walk() -> None:
    """So that 76 % would be too low a null for averaged weights."""
    walk, average = (shares_of(centred(walk_gram(STEPS, decays)))[:2].sum() for decays in (None, WARM))
    assert walk + 0.05 < average < 1


@pytest.mark.parametrize("steps", [[0, 3, 6, 9, 12], [2, 5, 12], [0, 1, 2, 3], [4, 4, 10]])
def test_the_average_of_a_walk_over_unit_vectors(steps: list[int]) -> None:
    """Steps that are orthonormal vectors have the Gram matrix exactly: the recursion itself, on N dimensions."""
    decays = np.random.default_rng(0).uniform(0.2, 0.95, 12)
    position, average, seen = np.zeros(12), np.zeros(12), {0: np.zeros(12)}
    for m in range(1, 13):
        position = position + np.eye(12)[m - 1]
        average = decays[m - 1] * average + (1 - decays[m - 1]) * position
        seen[m] = average
    wanted = np.array([[seen[i] @ seen[j] for j in steps] for i in steps])
    np.testing.assert_allclose(walk_gram(steps, decays), wanted, atol=1e-12)


def test_an_average_without_memory_is_the_walk() -> None:
    np.testing.assert_allclose(walk_gram(STEPS, np.full(100, 1e-300)), walk_gram(STEPS), rtol=1e-12)


def test_a_long_memory_overflows_nothing() -> None:
    """Ten thousand steps of decay 0.5: e^6931 between the ends."""
    steps = list(range(0, 10_001, 500))
    found = shares_of(centred(walk_gram(steps, np.full(10_000, 0.5))))
    # The average lags a step behind; each end of a way of 500 moves by no more than that.
    np.testing.assert_allclose(found, shares_of(centred(walk_gram(steps))), rtol=1e-2)
