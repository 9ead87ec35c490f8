"""The Wiener denoiser's error against simulation of the linear denoiser in pixels, and limits known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.wiener import error_moments
from tests import oracles

EIGENVALUES = np.array([3.0, 0.8, 0.8, 0.05, 1e-3, 0.0])
STEPS = (1, 2, 40, 200, 400)


def linear(num_timesteps: int = 1000) -> Process:
    return Process.from_betas(torch.tensor(oracles.linear_betas(num_timesteps), dtype=torch.float64))


def at(table: torch.Tensor, t: int) -> float:
    return float(table[t - 1])


def simulate(t: int, num_images: int = 1500, num_draws: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean of e, variance of e, covariance of e and |ε|²) over ε at each image, [num_images] each.

    In pixels, with the covariance Σ = Q diag(λ) Qᵀ of a random rotation Q and images that are no Gaussians (uniform
    along the axes of Q): the best linear estimate is √ᾱ Σ (ᾱ Σ + (1−ᾱ) I)⁻¹ x_t.
    """
    rng = np.random.default_rng(t)
    alpha_bar = oracles.chain(oracles.linear_betas(1000)).alpha_bar[t - 1]
    size = len(EIGENVALUES)
    rotation, _ = np.linalg.qr(rng.standard_normal((size, size)))
    covariance = rotation @ np.diag(EIGENVALUES) @ rotation.T
    x_0 = rng.uniform(-(3**0.5), 3**0.5, (num_images, size)) * EIGENVALUES**0.5 @ rotation.T
    eps = rng.standard_normal((num_images, num_draws, size))
    x_t = alpha_bar**0.5 * x_0[:, None] + (1 - alpha_bar) ** 0.5 * eps
    filtered = alpha_bar**0.5 * covariance @ np.linalg.inv(alpha_bar * covariance + (1 - alpha_bar) * np.eye(size))
    e = ((x_0[:, None] - x_t @ filtered.T) ** 2).sum(-1)
    norm = (eps**2).sum(-1)
    centred_e, centred_norm = e - e.mean(1, keepdims=True), norm - norm.mean(1, keepdims=True)
    unbiased = num_draws / (num_draws - 1)
    return e.mean(1), (centred_e**2).mean(1) * unbiased, (centred_e * centred_norm).mean(1) * unbiased


@pytest.mark.parametrize("t", STEPS)
def test_moments_of_the_error_are_those_of_a_simulation(t):
    moments = error_moments(linear(), torch.from_numpy(EIGENVALUES))
    for table, found in zip((moments.mean, moments.variance, moments.covariance), simulate(t), strict=True):
        # Images are independent: the mean over them has this standard error, and 15 comparisons stay within 4 of it.
        error = found.std(ddof=1) / len(found) ** 0.5
        assert abs(found.mean() - at(table, t)) < 4 * error
        assert error < 0.1 * found.mean()  # precise enough to tell a missing factor of 2


def test_equal_eigenvalues_by_hand():
    """λ = 1: V = 1, a = 1 − ᾱ, b² = ᾱ(1 − ᾱ)."""
    num_dims = 7
    moments = error_moments(linear(), torch.ones(num_dims, dtype=torch.float64))
    alpha_bar = np.array(oracles.chain(oracles.linear_betas(1000)).alpha_bar)
    noise = 1 - alpha_bar
    cross = num_dims * 4 * noise**3 * alpha_bar
    # 1 − ᾱ of the oracle's rounded ᾱ has lost 1e-16/1e-4.
    np.testing.assert_allclose(moments.mean, num_dims * noise, rtol=1e-11)
    np.testing.assert_allclose(moments.variance, cross + 2 * num_dims * (alpha_bar * noise) ** 2, rtol=1e-11)
    np.testing.assert_allclose(moments.covariance, 2 * num_dims * alpha_bar * noise, rtol=1e-11)
    # |ε|² explains the whole of Σ b⁴ε⁴: the cross term is left. At t = 1 it is a difference of numbers 5000 times as
    # large.
    np.testing.assert_allclose(moments.residual, cross, rtol=1e-7)


def test_the_residual_is_the_variance_after_the_best_multiple_of_the_norm():
    """min over k of Var(e − k(|ε|² − D)) = Var − 2k Cov + k² · 2D on a fine grid of k."""
    moments = error_moments(linear(), torch.from_numpy(EIGENVALUES))
    k = torch.linspace(0, 3, 30001, dtype=torch.float64)
    for t in STEPS:
        grid = at(moments.variance, t) - 2 * k * at(moments.covariance, t) + 2 * len(EIGENVALUES) * k**2
        # The grid's best k is within 5e-5 of the minimum: 2D · (5e-5)² above it.
        assert at(moments.residual, t) == pytest.approx(float(grid.min()), abs=4e-8)


def test_dimensions_add_and_constant_ones_add_nothing():
    process = linear(50)
    many = torch.rand(600, dtype=torch.float64, generator=torch.Generator().manual_seed(0))  # more than one block
    whole = error_moments(process, many)
    padded = error_moments(process, torch.cat([torch.zeros(5, dtype=torch.float64), many]))
    apart = [error_moments(process, part) for part in many.split(1)]
    for name in ("mean", "variance", "covariance"):
        added = torch.stack([getattr(one, name) for one in apart]).sum(0)
        torch.testing.assert_close(getattr(whole, name), added, rtol=1e-12, atol=0)
        torch.testing.assert_close(getattr(padded, name), added, rtol=1e-12, atol=0)
    assert torch.all(padded.residual > whole.residual)  # |ε|² has five parts more that say nothing
    for table in vars(error_moments(process, torch.zeros(3, dtype=torch.float64))).values():
        assert table.tolist() == [0.0] * 50


def test_the_error_is_small_at_the_start_of_a_chain_and_the_data_at_its_end():
    mean = error_moments(linear(4000), torch.from_numpy(EIGENVALUES)).mean
    # λ(1−ᾱ)/V is below (1−ᾱ)/ᾱ = 2.5e-5 a dimension at the start, and above λ − ᾱλ² at the end, ᾱ_T = 4.25e-5.
    assert at(mean, 1) < 5 * 2.6e-5
    assert EIGENVALUES.sum() - 4.3e-5 * (EIGENVALUES**2).sum() < at(mean, 4000) < EIGENVALUES.sum()
    assert torch.all(mean.diff() > 0)
