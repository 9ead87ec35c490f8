"""The four parametrisations are one model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_bench.diffusion.likelihood import mean_cost
from ddpm_bench.registry import get, names
from tests import oracles

PREDICTIONS = names("predictions")
CHAINS = [("linear", 100), ("linear", 1000), ("linear", 4000), ("cosine", 100), ("cosine", 1000), ("cosine", 4000)]
PROCESSES = {(schedule, T): get("schedules", schedule)().process(T) for schedule, T in CHAINS}


def draws(num_timesteps: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x_0 in [−1, 1], ε, and every t: one image of 2×3 pixels per step."""
    generator = torch.Generator().manual_seed(seed)
    x_0 = torch.rand(num_timesteps, 1, 2, 3, dtype=torch.float64, generator=generator) * 2 - 1
    eps = torch.randn(num_timesteps, 1, 2, 3, dtype=torch.float64, generator=generator)
    return x_0, eps, torch.arange(num_timesteps)


def test_the_four_predictions_exist():
    assert set(PREDICTIONS) >= {"epsilon", "mu", "v", "x0"}


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("chain", CHAINS)
def test_the_target_gives_x_0_back(name, chain):
    process, prediction = PROCESSES[chain], get("predictions", name)()
    x_0, eps, t = draws(chain[1])
    x_t = process.q_sample(x_0, t, eps)
    found = prediction.to_x_0(prediction.target(x_0, eps, t, process), x_t, t, process)
    # The worst conditioning is 1/√ᾱ_T = 81 165 (ε, cosine, T = 4000): 1e-16 · 8e4 = 1e-11.
    torch.testing.assert_close(found, x_0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("chain", CHAINS)
def test_one_estimate_in_any_prediction_has_one_divergence(chain):
    """x̂_0 = x_0 + error, written as ε̂, v̂, μ̂ and x̂_0, and read back: the same L_t to 1e-10."""
    process = PROCESSES[chain]
    x_0, eps, t = draws(chain[1])
    x_t = process.q_sample(x_0, t, eps)
    estimate = x_0 + 0.5 * draws(chain[1], seed=1)[1]
    its_eps = process.eps_from_x_0(estimate, x_t, t)
    costs = {}
    for name in PREDICTIONS:
        prediction = get("predictions", name)()
        output = prediction.target(estimate, its_eps, t, process)
        squared = (x_0 - prediction.to_x_0(output, x_t, t, process)).square().flatten(1).sum(1)
        costs[name] = mean_cost(process, process.beta.log(), squared)
    direct = mean_cost(process, process.beta.log(), (x_0 - estimate).square().flatten(1).sum(1))
    for name, cost in costs.items():
        torch.testing.assert_close(cost, direct, rtol=1e-10, atol=0, msg=name)


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("chain", CHAINS)
def test_the_error_factor_relates_the_two_errors(name, chain):
    process, prediction = PROCESSES[chain], get("predictions", name)()
    x_0, eps, t = draws(chain[1])
    x_t = process.q_sample(x_0, t, eps)
    target = prediction.target(x_0, eps, t, process)
    output = target + draws(chain[1], seed=2)[1]
    x_0_error = (x_0 - prediction.to_x_0(output, x_t, t, process)).square().flatten(1).sum(1)
    factor = prediction.x_0_error_factor(process)
    assert factor.dtype == torch.float64
    # The output error is O(1) and its image under to_x_0 at least √factor; μ at small c_t has the largest 1/c_t, 4e4.
    torch.testing.assert_close(x_0_error, factor * (target - output).square().flatten(1).sum(1), rtol=1e-9, atol=0)


@pytest.mark.parametrize("chain", CHAINS)
def test_the_error_factors_are_those_of_the_formulas(chain):
    process = PROCESSES[chain]
    expected = oracles.chain(process.beta.tolist())
    formulas = {
        "epsilon": [1 / snr for snr in expected.snr],
        "v": [1 / (snr + 1) for snr in expected.snr],
        "x0": [1.0] * chain[1],
        "mu": [1 / c**2 for c in expected.posterior_x_0],
    }
    for name, factor in formulas.items():
        assert get("predictions", name)().x_0_error_factor(process).tolist() == pytest.approx(factor, rel=1e-11)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    name=st.sampled_from(PREDICTIONS),
    chain=st.sampled_from(CHAINS),
    position=st.floats(0, 1),
    outputs=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    x_t=st.floats(-3, 3),
    weight=st.floats(0, 1),
)
def test_x_0_is_affine_in_the_output(name, chain, position, outputs, x_t, weight):
    process, prediction = PROCESSES[chain], get("predictions", name)()
    t = torch.tensor([round(position * (chain[1] - 1))])
    x = torch.tensor(x_t, dtype=torch.float64).reshape(1, 1, 1, 1)
    one, other = (torch.tensor(value, dtype=torch.float64).reshape(1, 1, 1, 1) for value in outputs)
    mixed = prediction.to_x_0(weight * one + (1 - weight) * other, x, t, process)
    ends = [prediction.to_x_0(output, x, t, process) for output in (one, other)]
    # Roundings of the mixed output are enlarged by at most √factor, 8.1e4 at the worst: 3 · 1e-16 · 8.1e4.
    torch.testing.assert_close(mixed, weight * ends[0] + (1 - weight) * ends[1], rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(("name", "weighting"), [("epsilon", "snr"), ("v", "snr_plus_one"), ("x0", None), ("mu", None)])
def test_native_weightings(name, weighting):
    """The weight on |x_0 − x̂_0|² that the plain error of the output already has is 1/factor."""
    assert get("predictions", name).native_weighting == weighting
