"""KL and errors over log SNR, against Gaussian data, where every term has a formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddpm_bench.log_snr import COLUMNS, GRID_STEP, chain_length, grid, kl_density, log_beta_range, on_grid, table_rows

LINEAR = np.linspace(1e-4, 0.02, 1000)


def cosine(num_steps: int) -> np.ndarray:
    f = np.cos((np.arange(num_steps + 1) / num_steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def log_snr_of(betas: np.ndarray) -> np.ndarray:
    """λ_t from β_t by the definition."""
    alpha_bar = np.cumprod(1 - betas)
    return np.log(alpha_bar) - np.log1p(-alpha_bar)


def gaussian_kl(log_snr: np.ndarray, s2: float) -> np.ndarray:
    """L_{t−1} in bits/dim of x_0 ~ N(·, s²) with the best x̂_0 and σ² = β̃: ½(SNR_s − SNR_t) Var(x_0|x_t); NaN at t = 1.

    Var(x_0|x_t) = s²/(1 + s² SNR_t).
    """
    snr = np.exp(log_snr)
    steps = 0.5 * (snr[:-1] - snr[1:]) * s2 / (1 + s2 * snr[1:]) / math.log(2)
    return np.concatenate([[np.nan], steps])


def epsilon_mse(log_snr: np.ndarray, s2: float) -> np.ndarray:
    """ᾱ s²/(ᾱ s² + 1 − ᾱ)."""
    return s2 * np.exp(log_snr) / (1 + s2 * np.exp(log_snr))


@pytest.mark.parametrize("s2", [0.0625, 1.0, 4.0])
def test_many_steps_give_half_the_epsilon_mse(s2: float):
    log_snr = np.arange(9.0, -9.0, -1e-3)
    t = np.arange(1, len(log_snr) + 1)
    points = np.arange(-8.0, 8.25, GRID_STEP)
    density = kl_density(t, log_snr, gaussian_kl(log_snr, s2), len(t), points)
    # The mean of ½ ε-MSE over an interval: ε-MSE is the derivative of ln(1 + s² e^λ).
    inside = np.log1p(s2 * np.exp(points + 0.25)) - np.log1p(s2 * np.exp(points - 0.25))
    # A step takes Var(x_0|x_t) at its noisier end; within Δλ = 1e-3 it changes by less than the factor e^Δλ.
    np.testing.assert_allclose(density, 0.5 * inside / GRID_STEP / math.log(2), rtol=1.001e-3)


def test_schedules_agree_where_their_timesteps_do_not():
    """The curves that one figure compares: equal data and network, two schedules, one line."""
    found = {}
    for name, betas in (("linear", LINEAR), ("cosine", cosine(1000))):
        log_snr, t = log_snr_of(betas), np.arange(1, 1001)
        errors = {"epsilon_mse": epsilon_mse(log_snr, 0.25)}
        table = on_grid(t, log_snr, gaussian_kl(log_snr, 0.25), errors, 1000)
        found[name] = {key: dict(zip(table["log_snr"], table[key], strict=True)) for key in table}
    common = [point for point in found["linear"]["log_snr"] if -6 <= point <= 4]
    assert len(common) == 21
    for point in common:
        first, second = (found[name]["kl_density"][point] for name in found)
        # Both exceed the limit by less than the factor e^Δλ; the widest step of the two there has Δλ = 0.0785.
        assert first == pytest.approx(second, rel=0.082)
        # Linear between two λ: off by at most Δλ²/8 times the curvature, which is below the value itself.
        near = pytest.approx(epsilon_mse(np.array(point), 0.25), rel=0.0786**2 / 8)
        assert all(found[name]["epsilon_mse"][point] == near for name in found)


def test_the_integral_over_the_grid_is_the_sum_of_the_steps():
    random = np.random.default_rng(0)
    inner = np.sort(random.uniform(-5.25, 5.25, 30))[::-1]  # steps wider and narrower than the grid's
    log_snr = np.concatenate([[5.25], inner, [-5.25]])  # the outer edges of the intervals around ±5
    kl = np.concatenate([[7.0], random.uniform(0.1, 1.0, 31)])
    t = np.arange(1, 33)
    density = kl_density(t, log_snr, kl, 32, np.arange(-5.0, 5.25, GRID_STEP))
    # Sums of 31 and of 21 numbers near 1: 52 · 1.1e-16 · 20.
    assert density.sum() * GRID_STEP == pytest.approx(kl[1:].sum(), rel=1e-13)


def test_nothing_is_extrapolated_and_the_grid_is_common():
    assert grid(np.array([1.2, 0.4, -1.6])).tolist() == [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0]
    assert set(grid(np.array([9.3, -3.0]))) >= set(grid(np.array([1.2, -1.6])))
    log_snr, t = np.array([1.2, 0.4, -1.6]), np.array([1, 2, 3])
    table = on_grid(t, log_snr, np.array([9.0, 0.8, 1.0]), {"x0_mse": np.array([1.0, 1.8, 3.8])}, 3)
    # x0_mse = 2.2 − λ at the three rows, and therefore between them; densities 0.8/0.8 and 1.0/2.0
    np.testing.assert_allclose(table["x0_mse"], 2.2 - table["log_snr"], rtol=1e-14)
    assert table["kl_density"].tolist()[:4] == [0.5] * 4
    # around 0.5: 0.25 … 0.4 of the wide step, 0.4 … 0.75 of the other one
    assert table["kl_density"][4] == pytest.approx((0.15 * 0.5 + 0.35 * 1.0) / 0.5, rel=1e-12)
    assert table["kl_density"][5] == pytest.approx(1.0, rel=1e-12)  # 0.75 … 1.2 covers more than half of it


def test_steps_that_were_not_evaluated_leave_their_neighbours_right():
    """Importance sampling: no row at some t, so the step after it has no width, unlike the steps of a short chain."""
    log_snr, t = np.arange(3.0, -3.0, -0.125), np.arange(1, 49)
    kl = np.full(48, 0.125)  # a density of 1
    kept = np.arange(48) % 5 != 3
    points = grid(log_snr)
    assert kl_density(t, log_snr, kl, 48, points).tolist() == [1.0] * len(points)
    some = kl_density(t[kept], log_snr[kept], kl[kept], 48, points)
    assert np.isfinite(some).sum() > 8
    assert set(some[np.isfinite(some)]) == {1.0}
    empty = kl_density(t, log_snr, np.where(kept, kl, np.nan), 48, points)
    assert set(empty[np.isfinite(empty)]) == {1.0}
    # every fourth step as a chain of its own has four times the width
    short = slice(3, None, 4)
    assert set(kl_density(t[short], log_snr[short], kl[short], 12, points[2:-2])) == {0.25}
    assert np.isnan(kl_density(t[short], log_snr[short], kl[short], 48, points)).all()


@pytest.mark.parametrize("betas", [LINEAR, cosine(1000), cosine(4000)], ids=["linear", "cosine", "cosine 4000"])
def test_the_range_of_the_variance_from_log_snr_alone(betas: np.ndarray):
    alpha_bar = np.cumprod(1 - betas)
    t, log_snr = np.arange(1, len(betas) + 1), log_snr_of(betas)
    beta_tilde = (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * betas[1:]
    low, high = log_beta_range(t, log_snr, len(betas))
    # λ is of the size 20 and known to 4e-15, a step to 8e-15 of at least 2e-3 (cosine 4000), and at t = 2 the oracle's
    # 1 − ᾱ_1 = 1e-5 to 1e-11: relative errors of β and β̃ below 4e-11.
    np.testing.assert_allclose(np.exp(high), betas, rtol=4e-11)
    np.testing.assert_allclose(np.exp(low[1:]), beta_tilde, rtol=4e-11)
    assert low[0] == low[1]
    # ln β − ln β̃ = −ln(1 − ᾱ_s) + ln(1 − ᾱ_t), by log1p of numbers that themselves have a relative error near 1e-13
    width = np.log1p(-alpha_bar[1:]) - np.log1p(-alpha_bar[:-1])
    # At the end the width shrinks to 1e-9 (cosine) while ln β and ln β̃ are of the size 10: 2e-15 of it.
    np.testing.assert_allclose((high - low)[1:], width, rtol=1e-9, atol=1e-14)


def test_the_range_of_short_chains():
    low, high = log_beta_range(np.array([1]), np.array([0.0]), 1)
    assert low[0] == high[0] == pytest.approx(math.log(0.5), rel=1e-15)
    low, high = log_beta_range(np.array([1, 2, 4]), np.array([2.0, 1.0, -1.0]), 4)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, False, True]
    assert chain_length({"timesteps": "1000", "sampling_steps": "all"}) == 1000
    assert chain_length({"timesteps": "1000", "sampling_steps": "50"}) == 50


def test_rows_of_the_table():
    rows = [
        {"cell_id": "a", "seed": "0", "t": t, "log_snr": value, "kl": kl, "epsilon_mse": "0.5", "x0_mse": "0.25"}
        for t, value, kl in (("1", "0.6", "2.0"), ("2", "-0.1", "0.7"))
    ]
    found = list(table_rows(rows, {"a": 2}))
    assert [dict(zip(COLUMNS, row, strict=True))["log_snr"] for row in found] == [0.0, 0.5]
    assert found[0][:2] == ["a", "0"]
    assert found[0][3:] == pytest.approx([1.0, 0.5, 0.25], rel=1e-14)
    rows[1]["kl"] = ""
    assert [row[3] for row in table_rows(rows, {"a": 2})] == [None, None]
