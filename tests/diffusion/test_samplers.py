"""Ancestral sampling of a linear network, whose samples are normal with known moments."""

from __future__ import annotations

import math

import pytest
import torch

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import kept_timesteps, respace
from ddpm_bench.registry import get
from tests import oracles


def gaussian_chain(process: Process, mean: float, sd: float, gain_error: float):
    """Gains and shifts of μ_θ(x_t) = g_t x_t + h_t for the optimal denoiser of N(m, s²), g off by a factor."""
    chain = oracles.chain(process.beta.tolist())
    gains, shifts = [], []
    for i in range(len(process)):
        total = chain.alpha_bar[i] * sd**2 + chain.one_minus_alpha_bar[i]
        slope = math.sqrt(chain.alpha_bar[i]) * sd**2 / total
        offset = mean * (1 - slope * math.sqrt(chain.alpha_bar[i]))
        gains.append((chain.posterior_x_0[i] * slope + chain.posterior_x_t[i]) * gain_error)
        shifts.append(chain.posterior_x_0[i] * offset)
    return chain, gains, shifts


def sample(process, gains, shifts, log_sigma2, count, seed=0, per_coordinate=False):
    """Draw with the sampler: the denoiser returns the x̂_0 that makes the mean g x + h. Also the calls of the noise."""
    generator = torch.Generator().manual_seed(seed)
    g, h = torch.tensor(gains, dtype=torch.float64), torch.tensor(shifts, dtype=torch.float64)
    calls: list[int] = []
    shape = (count, 1, 1, 2)

    def denoise(x_t, t):
        assert x_t.shape == shape
        assert t.dtype == torch.int64
        assert t.shape == (count,)
        i = int(t[0])
        assert bool((t == i).all())
        pred_x_0 = (g[i] * x_t + h[i] - process.posterior_x_t[i] * x_t) / process.posterior_x_0[i]
        return pred_x_0, log_sigma2[t].reshape(-1, 1, 1, 1).expand(shape) if per_coordinate else log_sigma2[t]

    def noise(i):
        calls.append(i)
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    x_T = torch.randn(shape, dtype=torch.float64, generator=generator)
    x_0 = get("samplers", "ancestral")().sample(denoise, x_T, process, process.timesteps, noise)
    return x_0, calls


CHAINS = [
    ("cosine", 50, None, "beta_tilde"),
    ("cosine", 1000, ("trailing", 20), "beta"),
    ("cosine", 1000, ("leading", 20), "beta"),
    ("linear", 1000, ("linspace", 30), "beta_tilde"),
    ("linear", 100, None, "beta"),
    ("cosine", 1000, ("quadratic", 10), "beta"),
    ("cosine", 1, None, "beta"),
    ("cosine", 2, None, "beta"),
    ("linear", 1000, ("trailing", 1), "beta"),
]


@pytest.mark.parametrize(("schedule", "num_timesteps", "spacing", "variance"), CHAINS)
@pytest.mark.parametrize("gain_error", [1.0, 1.01])
@pytest.mark.parametrize(("mean", "sd"), [(0.7, 0.25), (-1.0, 2.0)])
def test_samples_follow_the_law_of_the_chain(schedule, num_timesteps, spacing, variance, gain_error, mean, sd):
    process = get("schedules", schedule)().process(num_timesteps)
    if spacing is not None:
        process = respace(process, kept_timesteps(spacing[0], num_timesteps, spacing[1]))
    chain, gains, shifts = gaussian_chain(process, mean, sd, gain_error)
    log_sigma2 = get("variances", variance)().log_sigma2(process, torch.arange(len(process)))
    x_0, calls = sample(process, gains, shifts, log_sigma2, 20_000)
    assert calls == list(range(len(process) - 1, 0, -1))
    sigma2 = [0.0, *(chain.beta if variance == "beta" else chain.posterior_variance)[1:]]
    law_mean, law_variance = oracles.gaussian_law(gains, shifts, sigma2)
    n = x_0.numel()
    # Four standard errors of a mean and a variance of n normal draws.
    assert abs(float(x_0.mean()) - law_mean) < 4 * math.sqrt(law_variance / n)
    assert abs(float(x_0.var()) - law_variance) < 4 * law_variance * math.sqrt(2 / n)


def test_a_long_exact_chain_gives_the_data_back():
    """The optimal variance and mean of N(m, s²) over 200 steps: the law of the samples is that of the data, except for
    the start N(0, 1) instead of q(x_T) and the last step, which leaves out its noise σ_1² = Var(x_0 | x_1)."""
    process = get("schedules", "cosine")().process(200)
    mean, sd = 0.4, 0.5
    chain, gains, shifts = gaussian_chain(process, mean, sd, 1.0)
    left = [sd**2 * n / (a * sd**2 + n) for a, n in zip(chain.alpha_bar, chain.one_minus_alpha_bar, strict=True)]
    sigma2 = [v + c**2 * rest for v, c, rest in zip(chain.posterior_variance, chain.posterior_x_0, left, strict=True)]
    law_mean, law_variance = oracles.gaussian_law(gains, shifts, sigma2)
    # The start is off by √ᾱ_T m and ᾱ_T (s² − 1), shrunk by the chain to less than ᾱ_T = 6e-8 · 1/ᾱ_T^½.
    assert law_mean == pytest.approx(mean, abs=1e-3)
    assert law_variance + left[0] == pytest.approx(sd**2, abs=1e-3)
    x_0, _ = sample(process, gains, shifts, torch.tensor(sigma2, dtype=torch.float64).log(), 20_000)
    assert abs(float(x_0.mean()) - law_mean) < 4 * math.sqrt(law_variance / x_0.numel())
    assert abs(float(x_0.var()) - law_variance) < 4 * law_variance * math.sqrt(2 / x_0.numel())


def test_the_last_step_returns_the_mean():
    """Noise at t = 1 (as "if t > 0" adds it) would spread the samples of a constant network by σ_1."""
    process = get("schedules", "cosine")().process(10)
    constant = torch.full((5, 1, 2, 2), 0.3)

    def denoise(x_t, t):
        return constant, torch.zeros(5, dtype=torch.float64)

    generator = torch.Generator().manual_seed(0)
    x_0 = get("samplers", "ancestral")().sample(
        denoise,
        torch.randn(5, 1, 2, 2, generator=generator),
        process,
        process.timesteps,
        lambda i: torch.randn(5, 1, 2, 2, generator=generator),
    )
    assert torch.equal(x_0, constant)
    assert x_0.dtype == torch.float32


def test_one_variance_per_image_or_per_coordinate():
    process = get("schedules", "cosine")().process(20)
    _, gains, shifts = gaussian_chain(process, 0.0, 1.0, 1.0)
    log_sigma2 = process.beta.log()
    one, _ = sample(process, gains, shifts, log_sigma2, 50)
    other, _ = sample(process, gains, shifts, log_sigma2, 50, per_coordinate=True)
    assert torch.equal(one, other)
