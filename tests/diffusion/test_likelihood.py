"""The bound on data whose bound is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_bench.diffusion.likelihood import bits_per_dim, decoder_nll, mean_cost, prior_kl, variance_cost
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import kept_timesteps, respace
from ddpm_bench.registry import get
from tests import oracles

GAUSSIANS = [(m, s) for m in (0.0, 0.7, -3.0) for s in (0.25, 1.0, 2.0)]


def hermite(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of E f(z), z ~ N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def expected_squared_error(process: Process, denoise, data) -> torch.Tensor:
    """E |x_0 − x̂_0(x_t, t)|² for every t, [T]: q_sample on the product grid of (x_0, ε).

    denoise(x_t, t): x̂_0 of [T, N, 1, 1]; data: nodes and weights of x_0.
    """
    (x, x_weights), (e, e_weights) = data, hermite()
    grid_x, grid_e = (part.reshape(1, -1, 1, 1) for part in torch.meshgrid(x, e, indexing="ij"))
    weights = torch.outer(x_weights, e_weights).flatten()
    t = torch.arange(len(process))
    x_0, eps = grid_x.expand(len(t), -1, 1, 1), grid_e.expand(len(t), -1, 1, 1)
    pred_x_0 = denoise(process.q_sample(x_0, t, eps), t)
    return ((x_0 - pred_x_0).square().flatten(1) * weights).sum(1)


def gaussian(mean: float, sd: float):
    """Nodes of N(m, s²), its optimal denoiser, and Var(x_0 | x_t), by conditioning of joint normals."""
    nodes, weights = hermite()

    def moments(process):
        alpha_bar, noise = process.alpha_bar, process.one_minus_alpha_bar
        total = alpha_bar * sd**2 + noise
        return alpha_bar.sqrt() * sd**2 / total, sd**2 * noise / total, alpha_bar.sqrt() * mean

    def denoise(process):
        gain, _, centre = (part.reshape(-1, 1, 1, 1) for part in moments(process))
        return lambda x_t, t: mean + gain[t] * (x_t - centre[t])

    return (mean + sd * nodes, weights), denoise, lambda process: moments(process)[1]


def bits_from_second_step(process: Process, sigma2: torch.Tensor, squared_error: torch.Tensor) -> float:
    """Σ_{t≥2} L_{t−1} in bits per dimension."""
    cost = variance_cost(process, sigma2.log()) + mean_cost(process, sigma2.log(), squared_error)
    assert float(cost[0]) == 0.0
    return float(bits_per_dim(cost.sum(), 1))


@pytest.mark.parametrize(
    ("schedule", "sd", "beta", "beta_tilde"),
    [
        ("linear", 1.0, 6.643827, 7.314525),
        ("linear", 0.5, 5.645641, 6.302437),
        ("cosine", 1.0, 7.282025, 7.868684),
    ],
)
def test_gaussian_data_cost_the_known_number_of_bits(schedule, sd, beta, beta_tilde):
    process = get("schedules", schedule)().process(1000)
    data, denoise, remaining = gaussian(0.0, sd)
    squared_error = expected_squared_error(process, denoise(process), data)
    # The square of a linear function: 20 nodes are exact, what is left are roundings (1/√ᾱ_T is not involved).
    torch.testing.assert_close(squared_error, remaining(process), rtol=1e-10, atol=0)
    assert bits_from_second_step(process, process.beta, squared_error) == pytest.approx(beta, abs=5.1e-7)
    small = torch.cat([process.beta[:1], process.beta_tilde[1:]])  # β̃_1 = 0 belongs to L_0 and is not used
    assert bits_from_second_step(process, small, squared_error) == pytest.approx(beta_tilde, abs=5.1e-7)


def test_clipping_gaussian_data_costs_hundreds_of_bits():
    """With x̂_0 clipped to [−1, 1] the Σ of N(0, 1) is 635 bits instead of 6.64: a hidden clip cannot stay hidden."""
    process = get("schedules", "linear")().process(1000)
    data, denoise, _ = gaussian(0.0, 1.0)
    exact = denoise(process)
    error = expected_squared_error(process, lambda x_t, t: exact(x_t, t).clamp(-1, 1), data)
    # 20 nodes do not resolve the kink of the clip: a few per cent.
    assert bits_from_second_step(process, process.beta, error) == pytest.approx(635, rel=0.1)


@pytest.mark.parametrize(("mean", "sd"), GAUSSIANS)
@pytest.mark.parametrize(("schedule", "num_timesteps"), [("linear", 1000), ("cosine", 100), ("cosine", 4000)])
def test_with_the_optimal_variance_only_the_end_of_the_chain_costs(mean, sd, schedule, num_timesteps):
    """σ² = β̃ + c² Var(x_0 | x_t) at every step: bound − entropy = KL(q(x_T) ‖ N(0, 1))."""
    process = get("schedules", schedule)().process(num_timesteps)
    data, denoise, remaining = gaussian(mean, sd)
    squared_error = expected_squared_error(process, denoise(process), data)
    sigma2 = process.beta_tilde + process.posterior_x_0**2 * remaining(process)
    assert torch.all(sigma2 >= process.beta_tilde)
    assert torch.all(sigma2 <= process.beta / (1 - process.beta) * (1 + 1e-12))
    steps = (variance_cost(process, sigma2.log()) + mean_cost(process, sigma2.log(), squared_error)).sum()
    # The density decoder is linear in the squared distance: its expectation is its value at the root mean square.
    root = squared_error[0].sqrt().reshape(1, 1, 1, 1)
    first = decoder_nll(root, torch.zeros_like(root), sigma2[0].log(), None)
    nodes, weights = data
    last = (weights * prior_kl(nodes.reshape(-1, 1, 1, 1), process)).sum()
    bound = float(last + steps + first)
    entropy = 0.5 * math.log(2 * math.pi * math.e * sd**2)
    alpha_bar = oracles.chain(process.beta.tolist()).alpha_bar[-1]
    variance = alpha_bar * sd**2 + 1 - alpha_bar
    gap = 0.5 * (variance - 1 - math.log1p(alpha_bar * (sd**2 - 1)) + alpha_bar * mean**2)
    # A sum of up to 4000 terms, of size 1 altogether.
    assert bound - entropy == pytest.approx(gap, abs=1e-11)


@pytest.mark.parametrize("spacing", ["linspace", "trailing", "quadratic"])
def test_the_same_holds_in_respaced_chains(spacing):
    full = get("schedules", "cosine")().process(1000)
    process = respace(full, kept_timesteps(spacing, 1000, 10))
    data, denoise, remaining = gaussian(0.7, 0.25)
    squared_error = expected_squared_error(process, denoise(process), data)
    sigma2 = process.beta_tilde + process.posterior_x_0**2 * remaining(process)
    steps = (variance_cost(process, sigma2.log()) + mean_cost(process, sigma2.log(), squared_error)).sum()
    first = 0.5 * math.log(2 * math.pi * math.e * float(sigma2[0]))
    nodes, weights = data
    last = (weights * prior_kl(nodes.reshape(-1, 1, 1, 1), process)).sum()
    alpha_bar = float(process.alpha_bar[-1])
    variance = alpha_bar * 0.25**2 + 1 - alpha_bar
    gap = 0.5 * (variance - 1 - math.log(variance) + alpha_bar * 0.7**2)
    assert float(last + steps) + first - 0.5 * math.log(2 * math.pi * math.e * 0.25**2) == pytest.approx(gap, abs=1e-11)


def test_beta_is_optimal_for_standard_normal_data_and_beta_tilde_for_a_point():
    process = get("schedules", "linear")().process(1000)
    _, _, remaining = gaussian(0.0, 1.0)
    optimal = process.beta_tilde + process.posterior_x_0**2 * remaining(process)
    torch.testing.assert_close(optimal, process.beta, rtol=1e-12, atol=0)
    nothing_left = torch.zeros(1000, dtype=torch.float64)
    small = torch.cat([process.beta[:1], process.beta_tilde[1:]])
    assert bits_from_second_step(process, small, nothing_left) == 0.0
    assert bits_from_second_step(process, process.beta, nothing_left) > 0.4


def test_no_prediction_at_all_is_best_served_by_beta_over_alpha():
    """ε̂ = 0: E|x_0 − x̂_0|² = (1−ᾱ)/ᾱ per dimension, and β̃ + c² (1−ᾱ)/ᾱ = β/α."""
    process = get("schedules", "cosine")().process(1000)
    optimal = process.beta_tilde + process.posterior_x_0**2 / process.snr
    torch.testing.assert_close(optimal, process.beta / (1 - process.beta), rtol=1e-9, atol=0)


def test_two_points():
    """x_0 = ±a: x̂_0 = a tanh(a √ᾱ x/(1−ᾱ)). β̃ is optimal where the point is known (small t) and
    where it does not matter (large t)."""
    a = 0.5
    process = get("schedules", "linear")().process(1000)
    factor = (a * process.alpha_bar.sqrt() / process.one_minus_alpha_bar).reshape(-1, 1, 1, 1)
    data = (torch.tensor([a, -a], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64))
    error = expected_squared_error(process, lambda x_t, t: a * torch.tanh(factor[t] * x_t), data)
    # SNR_10 a² = 131: tanh differs from the sign by e^-131.
    assert torch.all(error[:10] < 1e-12)
    # Almost no signal: the best guess is 0, the error a² up to the signal-to-noise ratio.
    assert float(error[-1]) == pytest.approx(a**2, rel=1e-4)
    excess = process.posterior_x_0**2 * error / process.beta_tilde.clamp(min=1e-300)
    assert torch.all(excess[1:10] < 1e-9)
    # In between the optimum is 1 % above β̃, and the share falls again as c_t² does.
    assert 0.005 < float(excess.max()) < 0.02
    assert float(excess[500:].max()) < 1e-3


@settings(deadline=None, derandomize=True)
@given(index=st.integers(1, 99), log_ratio=st.floats(-5, 5), squared=st.floats(0, 100), num_dims=st.integers(1, 64))
def test_each_term_is_the_divergence_of_the_two_normals(index, log_ratio, squared, num_dims):
    """D dimensions of KL(q ‖ p) by its formula in variances, with means c |x_0 − x̂_0| apart."""
    process = get("schedules", "cosine")().process(100)
    chain = oracles.chain(process.beta.tolist())
    log_sigma2 = process.beta.log() + log_ratio
    found = float(num_dims * variance_cost(process, log_sigma2)[index])
    found += float(mean_cost(process, log_sigma2, torch.full((100,), squared).double())[index])
    q, p = chain.posterior_variance[index], chain.beta[index] * math.exp(log_ratio)
    apart = chain.posterior_x_0[index] ** 2 * torch.full((), squared).double().item()
    expected = num_dims * 0.5 * (q / p - 1 + math.log(p / q)) + apart / (2 * p)
    # The variance part cancels to second order in ln(q/p), which is never below 1e-4 here except by chance.
    assert found == pytest.approx(expected, rel=1e-9, abs=num_dims * 1e-14)


def test_the_terms_take_a_batch_of_errors():
    process = get("schedules", "cosine")().process(10)
    errors = torch.rand(3, 10, generator=torch.Generator().manual_seed(0))
    both = mean_cost(process, process.beta.log(), errors)
    assert both.dtype == torch.float64
    for row, error in zip(both, errors, strict=True):
        torch.testing.assert_close(row, mean_cost(process, process.beta.log(), error), rtol=0, atol=0)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("x", [0.0, 0.3, 1.0, 5.0])
def test_prior_term_is_the_divergence_from_a_standard_normal(schedule, x):
    process = get("schedules", schedule)().process(100)
    alpha_bar = oracles.chain(process.beta.tolist()).alpha_bar[-1]
    found = float(prior_kl(torch.full((1, 3, 2, 2), x), process)) / 12
    x = float(torch.tensor(x))  # images are float32
    # −ᾱ − ln(1−ᾱ) as its series: the closed form cancels.
    series = math.fsum(alpha_bar**k / k for k in range(2, 30))
    assert found == pytest.approx(0.5 * (alpha_bar * x**2 + series), rel=1e-9, abs=1e-18)
    assert found >= 0


def test_prior_term_by_quadrature():
    process = get("schedules", "linear")(scale=False).process(200)
    alpha_bar = float(process.alpha_bar[-1])
    expected = oracles.kl_by_quadrature(math.sqrt(alpha_bar) * 0.8, 1 - alpha_bar, 0.0, 1.0)
    assert float(prior_kl(torch.full((1, 1, 1, 1), 0.8).double(), process)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("schedule", "num_timesteps"), [("cosine", 1), ("cosine", 2), ("linear", 1), ("linear", 2)])
def test_chains_of_one_and_two_steps(schedule, num_timesteps):
    parameters = {"scale": False} if schedule == "linear" else {}
    process = get("schedules", schedule)(**parameters).process(num_timesteps)
    log_sigma2 = get("variances", "beta_tilde")().log_sigma2(process, torch.arange(num_timesteps))
    cost = variance_cost(process, log_sigma2) + mean_cost(process, log_sigma2, torch.ones(num_timesteps))
    assert torch.isfinite(cost).all()
    assert float(cost[0]) == 0.0
    assert torch.isfinite(prior_kl(torch.ones(2, 1, 2, 2), process)).all()


def test_decoder_sums_over_the_dimensions_of_an_image():
    process = get("schedules", "cosine")().process(100)
    log_sigma2 = process.beta_tilde[1].log()
    target = torch.tensor([[[[0, 3], [8, 16]]], [[[1, 2], [3, 4]]]])
    mean = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    expected = [
        -sum(
            oracles.log_bin_probability(level, x, float(process.beta_tilde[1]), 17)
            for level, x in zip(image.flatten().tolist(), place.flatten().tolist(), strict=True)
        )
        for image, place in zip(target, mean, strict=True)
    ]
    assert decoder_nll(target, mean, log_sigma2, 17).tolist() == pytest.approx(expected, rel=1e-9)
    assert bits_per_dim(torch.tensor(8 * math.log(2)), 4) == pytest.approx(2.0)
