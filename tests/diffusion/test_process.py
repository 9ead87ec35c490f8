"""Every coefficient of a chain against the product rule in 50 digits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_bench.diffusion.process import Process, extract
from ddpm_bench.diffusion.respacing import SPACINGS, kept_timesteps, respace
from ddpm_bench.registry import get
from tests import oracles

# (schedule, its parameters, T): the scaled linear schedule does not exist for T ≤ 20.
FULL = [
    ("linear", {"scale": False}, 1),
    ("linear", {"scale": False}, 2),
    ("linear", {"scale": False}, 500),
    ("linear", {}, 21),
    ("linear", {}, 100),
    ("linear", {}, 1000),
    ("linear", {}, 4000),
    ("cosine", {}, 1),
    ("cosine", {}, 2),
    ("cosine", {}, 100),
    ("cosine", {}, 1000),
    ("cosine", {}, 4000),
]
RESPACED = [
    (schedule, num_timesteps, spacing, num_steps)
    for schedule in ("linear", "cosine")
    for num_timesteps in (100, 1000, 4000)
    for spacing in SPACINGS
    for num_steps in (1, 2, 10, 50)
    # √(0.8 T)/(S − 1) < √½ makes the second quadratic step round to the first: refused.
    if spacing != "quadratic" or num_steps < 10 or num_timesteps / num_steps**2 > 1
]


def assert_tables(process: Process, chain: oracles.Chain) -> None:
    # A sum of S logarithms in float64 errs by at most about S·2⁻⁵³·|Σ| < 4000·1.1e-16·23 = 1e-11, and by far less
    # in practice; everything else is a few roundings.
    for name, expected in [
        ("beta", chain.beta),
        ("alpha_bar", chain.alpha_bar),
        ("one_minus_alpha_bar", chain.one_minus_alpha_bar),
        ("snr", chain.snr),
        ("beta_tilde", chain.posterior_variance),
        ("posterior_x_0", chain.posterior_x_0),
        ("posterior_x_t", chain.posterior_x_t),
    ]:
        table = getattr(process, name)
        assert table.dtype == torch.float64, name
        assert table.tolist() == pytest.approx(expected, rel=1e-11, abs=0), name
    assert process.alpha_bar_prev.tolist() == [1.0, *process.alpha_bar[:-1].tolist()]


@pytest.mark.parametrize(("schedule", "parameters", "num_timesteps"), FULL)
def test_tables_of_full_chains(schedule, parameters, num_timesteps):
    process = get("schedules", schedule)(**parameters).process(num_timesteps)
    assert_tables(process, oracles.chain(process.beta.tolist()))
    assert process.timesteps.tolist() == list(range(1, num_timesteps + 1))
    assert process.num_original == len(process) == num_timesteps


@pytest.mark.parametrize(("schedule", "num_timesteps", "spacing", "num_steps"), RESPACED)
def test_tables_of_respaced_chains(schedule, num_timesteps, spacing, num_steps):
    full = get("schedules", schedule)().process(num_timesteps)
    kept = kept_timesteps(spacing, num_timesteps, num_steps)
    process = respace(full, kept)
    assert len(process) == num_steps
    assert process.num_original == num_timesteps
    assert_tables(process, oracles.chain(full.beta.tolist(), kept.tolist()))


def test_a_short_chain_keeps_the_digits_of_its_last_signal():
    """1 − β at the single step T of cosine 4000 has lost nine digits; ᾱ_T must not be computed from it."""
    full = get("schedules", "cosine")().process(4000)
    short = respace(full, torch.tensor([4000]))
    assert abs(float((1 - short.beta[0]) / full.alpha_bar[-1]) - 1) > 1e-8
    assert torch.equal(short.alpha_bar, full.alpha_bar[-1:])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_alpha_bar_starts_at_t_1_and_posterior_of_the_first_step_is_x_0(schedule):
    process = get("schedules", schedule)().process(100)
    # One rounding of a logarithm and one of its exponential.
    assert float(process.alpha_bar[0]) == pytest.approx(1 - float(process.beta[0]), rel=1e-15)
    assert float(process.beta_tilde[0]) == 0.0
    assert float(process.posterior_x_0[0]) == pytest.approx(1.0, rel=1e-15)
    assert float(process.posterior_x_t[0]) == 0.0


@pytest.mark.parametrize("bad", [[0.0], [1.0], [0.1, -0.1], [0.1, float("nan")], [0.5, 1.5]])
def test_betas_outside_the_open_interval_are_refused(bad):
    with pytest.raises(ValueError, match=f"beta_{len(bad)}" if bad[0] in (0.1, 0.5) else "beta_1"):
        Process.from_betas(torch.tensor(bad, dtype=torch.float64))


@pytest.mark.parametrize("bad", [torch.tensor([0.1]), torch.zeros(0).double(), torch.full((2, 2), 0.1).double()])
def test_betas_of_wrong_type_or_shape_are_refused(bad):
    with pytest.raises(ValueError, match="float64 of shape"):
        Process.from_betas(bad)


def test_extract_multiplies_images_in_their_dtype():
    table = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    for like in (torch.zeros(3, 2, 4, 5), torch.zeros(3, 7, dtype=torch.float64)):
        values = extract(table, torch.tensor([1, 0, 1]), like)
        assert values.dtype == like.dtype
        assert values.shape == (3, *([1] * (like.dim() - 1)))
        assert torch.equal(values.flatten(), table[[1, 0, 1]].to(like.dtype))


def test_noised_images_have_the_mean_and_variance_of_q():
    process = get("schedules", "cosine")().process(50)
    generator = torch.Generator().manual_seed(0)
    n, index, x = 200_000, 20, -0.7
    eps = torch.randn(n, 1, 1, 1, dtype=torch.float64, generator=generator)
    t = torch.full((n,), index)
    x_t = process.q_sample(torch.full_like(eps, x), t, eps)
    chain = oracles.chain(process.beta.tolist())
    variance = chain.one_minus_alpha_bar[index]
    # Standard errors of a mean and of a variance of normal draws: √(V/n) and V √(2/n); four of them.
    assert abs(float(x_t.mean()) - math.sqrt(chain.alpha_bar[index]) * x) < 4 * math.sqrt(variance / n)
    assert abs(float(x_t.var()) - variance) < 4 * variance * math.sqrt(2 / n)


@settings(deadline=None, derandomize=True)
@given(index=st.integers(0, 99), x_0=st.floats(-1, 1), eps=st.floats(-5, 5))
def test_noise_is_recovered_and_the_two_forms_of_the_posterior_mean_agree(index, x_0, eps):
    """μ̃ from (x_0, x_t) and (x_t − β ε/√(1−ᾱ_t))/√α_t from (ε, x_t)."""
    process = get("schedules", "linear")().process(100)
    t = torch.tensor([index])
    x, noise = (torch.tensor(value, dtype=torch.float64).reshape(1, 1, 1, 1) for value in (x_0, eps))
    x_t = process.q_sample(x, t, noise)
    # Dividing by √(1−ᾱ_1) = 0.03 turns roundings of 1e-16 into 1e-14.
    assert float(process.eps_from_x_0(x, x_t, t)) == pytest.approx(eps, abs=1e-13)
    chain = oracles.chain(process.beta.tolist())
    beta = chain.beta[index]
    expected = (float(x_t) - beta * eps / math.sqrt(chain.one_minus_alpha_bar[index])) / math.sqrt(1 - beta)
    assert float(process.q_posterior_mean(x, x_t, t)) == pytest.approx(expected, abs=1e-13)


def test_the_network_of_a_respaced_chain_sees_the_original_index():
    process = respace(get("schedules", "cosine")().process(1000), torch.tensor([1, 250, 1000]))
    assert process.original_index(torch.tensor([2, 0, 1, 1])).tolist() == [999, 0, 249, 249]
