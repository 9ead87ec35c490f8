"""The fixed variances and the rule of the first step."""

from __future__ import annotations

import pytest
import torch

from ddpm_bench.diffusion.respacing import kept_timesteps, respace
from ddpm_bench.registry import get
from tests import oracles

FULL = get("schedules", "cosine")().process(1000)


@pytest.mark.parametrize("spacing", [None, "linspace", "leading", "trailing", "quadratic"])
@pytest.mark.parametrize("num_steps", [2, 10])
@pytest.mark.parametrize("first_step", ["beta_tilde_2", "beta_1"])
def test_log_variances_of_full_and_respaced_chains(spacing, num_steps, first_step):
    kept = None if spacing is None else kept_timesteps(spacing, 1000, num_steps).tolist()
    process = FULL if kept is None else respace(FULL, torch.tensor(kept))
    chain = oracles.chain(FULL.beta.tolist(), kept)
    first = chain.posterior_variance[1] if first_step == "beta_tilde_2" else chain.beta[0]
    t = torch.arange(len(process)).flip(0)
    for name, table in [("beta", chain.beta), ("beta_tilde", chain.posterior_variance)]:
        log_sigma2 = get("variances", name)().log_sigma2(process, t, first_step=first_step)
        assert log_sigma2.dtype == torch.float64
        assert log_sigma2.exp().flip(0).tolist() == pytest.approx([first, *table[1:]], rel=1e-11)


@pytest.mark.parametrize("name", ["beta", "beta_tilde"])
@pytest.mark.parametrize("first_step", ["beta_tilde_2", "beta_1"])
def test_a_chain_of_one_step_has_beta_1(name, first_step):
    for process in (respace(FULL, torch.tensor([1000])), get("schedules", "cosine")().process(1)):
        log_sigma2 = get("variances", name)().log_sigma2(process, torch.tensor([0]), first_step=first_step)
        assert float(log_sigma2) == float(process.beta[0].log())


def test_beta_tilde_is_the_smaller_and_the_rule_touches_the_first_step_only():
    t = torch.arange(1000)
    large, small = (get("variances", name)().log_sigma2(FULL, t) for name in ("beta", "beta_tilde"))
    assert float(large[0]) == float(small[0]) == float(FULL.beta_tilde[1].log())
    assert torch.all(small[1:] < large[1:])
    other = get("variances", "beta")().log_sigma2(FULL, t, first_step="beta_1")
    assert torch.equal(other[1:], large[1:])
    assert float(other[0]) > float(large[0])
