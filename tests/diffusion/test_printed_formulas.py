"""Formulas that lecture notes print wrongly: the right form holds here, the printed one does not.

Tavares 2025, "The Maths Behind Denoising Diffusion Probabilistic Models"; "DDPM 2020" (handwritten notes, 2025);
Tang 2024, "A Collection of Frequently Asked Questions about Denoising Diffusion Probabilistic Models"; Hoang & Won
2025, "Denoising Diffusion Probabilistic Models" (slides); Bagge & Rørhauge 2024, "Introduction to Diffusion Models".
"""

from __future__ import annotations

import math

import pytest
import torch

from ddpm_bench.diffusion.gaussians import kl_mean_part, kl_normal, kl_variance_part
from ddpm_bench.diffusion.likelihood import decoder_nll, mean_cost, prior_kl, variance_cost
from ddpm_bench.registry import get
from tests import oracles

PROCESS = get("schedules", "linear")().process(1000)
CHAIN = oracles.chain(PROCESS.beta.tolist())
LATE = (500, 700, 1000)
"""t (1-based) at which ᾱ is far from 1: some printed products look right at small t."""


def one(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


@pytest.mark.parametrize("t", [2, 100, *LATE])
def test_factor_of_the_x_0_error(t):
    """Tavares, eq. 46: (1−ᾱ_t) ᾱ_{t−1}/(2 β_t (1−ᾱ_{t−1})) misses (β_t/(1−ᾱ_t))²."""
    i = t - 1
    beta, before = CHAIN.beta[i], CHAIN.alpha_bar[i - 1]
    late, rest = CHAIN.one_minus_alpha_bar[i], CHAIN.one_minus_alpha_bar[i - 1]
    log_sigma2 = torch.cat([PROCESS.beta[:1], PROCESS.beta_tilde[1:]]).log()
    factor = float(mean_cost(PROCESS, log_sigma2, torch.ones(1000, dtype=torch.float64))[i])
    printed = late * before / (2 * beta * rest)
    assert factor == pytest.approx(printed * (beta / late) ** 2, rel=1e-11)
    # The same factor as half the fall of the signal-to-noise ratio, which cancels where β is small: 1e-16/β.
    assert factor == pytest.approx((CHAIN.snr[i - 1] - CHAIN.snr[i]) / 2, rel=1e-9)
    assert abs(printed / factor - 1) > 0.9


@pytest.mark.parametrize("t", LATE)
def test_factor_of_the_noise_error(t):
    """Tavares, eq. 54: with the conversion β²/((1−ᾱ) α) the product is off by ᾱ_{t−1}; right is (1−ᾱ_t)/ᾱ_t."""
    i = t - 1
    beta, alpha = CHAIN.beta[i], 1 - CHAIN.beta[i]
    late, rest = CHAIN.one_minus_alpha_bar[i], CHAIN.one_minus_alpha_bar[i - 1]
    log_sigma2 = torch.cat([PROCESS.beta[:1], PROCESS.beta_tilde[1:]]).log()
    conversion = get("predictions", "epsilon")().x_0_error_factor(PROCESS)
    assert float(conversion[i]) == pytest.approx(late / CHAIN.alpha_bar[i], rel=1e-11)
    factor = float(mean_cost(PROCESS, log_sigma2, conversion)[i])
    assert factor == pytest.approx(beta**2 / (2 * CHAIN.posterior_variance[i] * alpha * late), rel=1e-10)
    printed = late * CHAIN.alpha_bar[i - 1] / (2 * beta * rest) * beta**2 / (late * alpha)
    assert printed / factor == pytest.approx(CHAIN.alpha_bar[i - 1], rel=1e-10)
    assert printed / factor < 0.1


@pytest.mark.parametrize("t", [100, *LATE])
def test_the_signal_is_scaled_by_the_cumulative_product(t):
    """Tavares, eq. 47–53, the "DDPM 2020" notes' ε form of L_{t−1}, and Bagge & Rørhauge, § 5.1: √α_t, √(1−α_t)."""
    index = torch.tensor([t - 1])
    x_t = PROCESS.q_sample(one(0.8), index, one(0.5))
    right = math.sqrt(CHAIN.alpha_bar[t - 1]) * 0.8 + math.sqrt(CHAIN.one_minus_alpha_bar[t - 1]) * 0.5
    assert float(x_t) == pytest.approx(right, rel=1e-11)
    alpha = 1 - CHAIN.beta[t - 1]
    for printed_noise in (CHAIN.one_minus_alpha_bar[t - 1], 1 - alpha):
        printed = math.sqrt(alpha) * 0.8 + math.sqrt(printed_noise) * 0.5
        assert abs(printed - right) > 0.02
    # Composing T single steps gives the cumulative form.
    signal, noise = 1.0, 0.0
    for beta in CHAIN.beta[:t]:
        signal, noise = math.sqrt(1 - beta) * signal, (1 - beta) * noise + beta
    assert float(x_t) == pytest.approx(signal * 0.8 + math.sqrt(noise) * 0.5, rel=1e-10)


def test_the_divergence_goes_from_the_posterior_to_the_model():
    """Tavares, eq. 40: KL[p ‖ q] for KL[q ‖ p], which differ as soon as σ² ≠ β̃."""
    found = float(variance_cost(PROCESS, PROCESS.beta.log())[1])
    q, p = CHAIN.posterior_variance[1], CHAIN.beta[1]
    assert found == pytest.approx(oracles.kl_by_quadrature(0.0, q, 0.0, p), rel=1e-9)
    assert abs(oracles.kl_by_quadrature(0.0, p, 0.0, q) / found - 1) > 0.3


def test_the_mean_part_has_one_half():
    """ "DDPM 2020" notes, L_{t−1} = E[1/σ² ‖μ̃ − μ_θ‖²] + C: the factor is 1/(2σ²)."""
    sigma2, apart = 0.03, 0.2
    found = float(kl_mean_part(torch.tensor(apart**2).double(), torch.tensor(sigma2).double().log()))
    assert found == pytest.approx(oracles.kl_by_quadrature(apart, sigma2, 0.0, sigma2), rel=1e-6)
    assert found == pytest.approx(0.5 * apart**2 / sigma2, rel=1e-6)


def test_the_sum_of_divergences_starts_at_2():
    """ "DDPM 2020" notes: Σ_{t>0}. At t = 1 the posterior is a point, its divergence infinite: L_0 is a decoder."""
    log_sigma2 = get("variances", "beta")().log_sigma2(PROCESS, torch.arange(1000))
    assert CHAIN.posterior_variance[0] == 0.0
    assert float(kl_variance_part(PROCESS.beta_tilde[0].log(), log_sigma2[0])) == math.inf
    assert float(variance_cost(PROCESS, log_sigma2)[0]) == 0.0
    assert float(mean_cost(PROCESS, log_sigma2, torch.ones(1000))[0]) == 0.0


def test_beta_tilde_is_optimal_for_a_point_only():
    """ "DDPM 2020" notes: "optimal if x_0 is not Gaussian". It is optimal iff nothing is left to know about x_0."""

    def cost(sigma2: torch.Tensor, remaining: float) -> torch.Tensor:
        squared = torch.full((1000,), remaining, dtype=torch.float64)
        return (variance_cost(PROCESS, sigma2.log()) + mean_cost(PROCESS, sigma2.log(), squared))[1:]

    small = torch.cat([PROCESS.beta[:1], PROCESS.beta_tilde[1:]])
    assert torch.all(cost(small, 0.0) == 0.0)
    for remaining in (0.01, 0.3):  # any data, normal or not, that x_t leaves uncertain
        better = small + PROCESS.posterior_x_0**2 * remaining
        assert torch.all(cost(better, remaining) < cost(small, remaining))


@pytest.mark.parametrize("spread", [0.25, 1.0, 2.0])
def test_the_variance_that_is_optimal_for_normal_data(spread):
    """ "DDPM 2020" notes: "β_t optimal if x_0 ~ N(0, I)" is right, and right for N(0, I) alone; of other normal data
    x_t leaves C_t = s²(1−ᾱ_t)/(ᾱ_t s² + 1 − ᾱ_t) uncertain, and neither β nor the notes' β̃ is the best σ²."""
    pairs = zip(CHAIN.alpha_bar, CHAIN.one_minus_alpha_bar, strict=True)
    remaining = torch.tensor([spread**2 * late / (now * spread**2 + late) for now, late in pairs], dtype=torch.float64)
    optimal = get("variances", "optimal")().fit(PROCESS, remaining, lambda log_sigma2: log_sigma2**2).exp()
    for t in (2, 100, 500):
        found, small, large = float(optimal[t - 1]), CHAIN.posterior_variance[t - 1], CHAIN.beta[t - 1]
        assert found > small * (1 + 1e-7)
        assert (abs(found / large - 1) < 1e-9) == (spread == 1.0)


def test_beta_tilde_is_made_of_alpha_bar():
    """ "DDPM 2020" notes: β̃_t = β_t (1 − β̄_{t−1})/(1 − β̄_t), without a word on β̄. As ᾱ_t is Π α_s, β̄_t would be Π β_s,
    which vanishes at once: β̃ would be β. Right is ᾱ."""
    product, before = 1.0, 1.0
    for i, t in enumerate(range(1, 1001)):
        product, before = product * CHAIN.beta[i], product
        if t in (2, 10, 100):
            right = (1 - CHAIN.alpha_bar[i - 1]) / (1 - CHAIN.alpha_bar[i]) * CHAIN.beta[i]
            printed = (1 - before) / (1 - product) * CHAIN.beta[i]
            assert float(PROCESS.beta_tilde[i]) == pytest.approx(right, rel=1e-9)
            assert printed == pytest.approx(CHAIN.beta[i], rel=2e-4)
            assert abs(printed / right - 1) > 0.01


def test_the_bins_of_the_decoder_do_not_depend_on_sigma():
    """ "DDPM 2020" notes: limits x ± σ. Then every σ would give the same ln(Φ(1) − Φ(−1)); right are x ± h."""
    level, mean = torch.full((1, 1, 1, 1), 100), one(2 * 100 / 255 - 1)
    nats = [float(decoder_nll(level, mean, torch.tensor(v).double().log(), 256)) for v in (1e-5, 1e-4, 1e-3)]
    printed = -math.log(math.erf(1 / math.sqrt(2)))
    for sigma2, value in zip((1e-5, 1e-4, 1e-3), nats, strict=True):
        assert value == pytest.approx(-math.log(math.erf(1 / 255 / math.sqrt(2 * sigma2))), rel=1e-5)
        assert abs(value - printed) > 0.05


def test_divergence_of_isotropic_normals():
    """Tang, corollary 2.1 (eq. 47) has −ln(σ_1/σ_2) where the determinants give −n ln(σ_1²/σ_2²): negative at n = 3."""
    n, sigma_1, sigma_2 = 3, 0.5, 2.0
    found = n * float(
        kl_normal(
            torch.zeros(()).double(),
            torch.tensor(2 * math.log(sigma_1)).double(),
            torch.zeros(()).double(),
            torch.tensor(2 * math.log(sigma_2)).double(),
        )
    )
    printed = 0.5 * (n * sigma_1**2 / sigma_2**2 - math.log(sigma_1 / sigma_2) - n)
    assert round(found, 4) == 2.7526
    assert round(printed, 4) == -0.7131
    assert found == pytest.approx(n * oracles.kl_by_quadrature(0, sigma_1**2, 0, sigma_2**2), rel=1e-6)


def test_the_product_starts_at_1():
    """Hoang & Won, eq. 3: ᾱ_t = Π_{s=0}^t α_s. There is no α_0; ᾱ_1 = 1 − β_1, and ᾱ_0 = 1."""
    assert float(PROCESS.alpha_bar[0]) == pytest.approx(1 - 1e-4, rel=1e-15)
    assert float(PROCESS.alpha_bar_prev[0]) == 1.0
    shifted = (1 - CHAIN.beta[0]) * CHAIN.alpha_bar[0]
    assert abs(float(PROCESS.alpha_bar[0]) - shifted) > 0.9e-4


def test_the_same_betas_for_500_and_1000_steps_leave_signal_behind():
    """Hoang & Won, results: β from 1e-4 to 0.02 at T = 500 and at T = 1000: 160 times the L_T."""
    schedule, x_0 = get("schedules", "linear")(scale=False), torch.ones(1, 1, 1, 1)
    short, long = (float(prior_kl(x_0, schedule.process(T))) / math.log(2) for T in (500, 1000))
    assert short == pytest.approx(4.6e-3, abs=0.05e-3)
    assert short > 150 * long


def test_a_step_adds_the_variance_beta():
    """Bagge & Rørhauge, § 2: standard deviation β. Then the variance would stay below β, x_T near 0, not N(0, I)."""
    right = printed = 0.0
    for beta in CHAIN.beta:
        right, printed = (1 - beta) * right + beta, (1 - beta) * printed + beta**2
    assert float(PROCESS.one_minus_alpha_bar[-1]) == pytest.approx(right, rel=1e-11)
    assert right > 0.9999
    assert printed < 0.02


def test_the_first_term_is_a_probability():
    """Bagge & Rørhauge, § 4.3: L_0 a density with σ_q²(1) = 0, hence infinite; and a density falls below 0 bits."""
    assert float(PROCESS.beta_tilde[0]) == 0.0
    level, mean = torch.full((1, 1, 1, 1), 100), one(2 * 100 / 255 - 1)
    log_sigma2 = get("variances", "beta_tilde")().log_sigma2(PROCESS, torch.tensor([0]))
    assert float(log_sigma2.exp()) == pytest.approx(CHAIN.posterior_variance[1], rel=1e-11)
    assert float(decoder_nll(level, mean, log_sigma2, 256)) / math.log(2) == pytest.approx(1.3054, abs=5e-5)
    assert float(decoder_nll(mean, mean, log_sigma2, None)) < 0
    assert not math.isfinite(float(decoder_nll(mean, mean, PROCESS.beta_tilde[0].log(), None)))


def test_the_sampler_scales_the_noise_by_the_cumulative_product():
    """Bagge & Rørhauge, § 5.1: (1−α_t)/(√(1−α_t) √α_t) ε̂; right is 1−ᾱ_t under the root. (Their "if t > 0", which
    adds noise to the finished image, is in test_samplers.)"""
    t = torch.tensor([600])
    x_t, eps = one(0.9), one(-1.3)
    pred_x_0 = get("predictions", "epsilon")().to_x_0(eps, x_t, t, PROCESS)
    found = float(PROCESS.q_posterior_mean(pred_x_0, x_t, t))
    alpha, beta = 1 - CHAIN.beta[600], CHAIN.beta[600]
    right = (0.9 + beta / math.sqrt(CHAIN.one_minus_alpha_bar[600]) * 1.3) / math.sqrt(alpha)
    printed = (0.9 + beta / math.sqrt(beta) * 1.3) / math.sqrt(alpha)
    assert found == pytest.approx(right, rel=1e-11)
    assert abs(found - printed) > 0.1
