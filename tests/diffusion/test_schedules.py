"""The betas of the schedules, and where they do not exist."""

from __future__ import annotations

import pytest
import torch

from ddpm_bench.errors import FieldError
from ddpm_bench.registry import get
from tests import oracles


@pytest.mark.parametrize("num_timesteps", [21, 100, 1000, 4000])
def test_linear_betas(num_timesteps):
    betas = get("schedules", "linear")().betas(num_timesteps)
    assert betas.tolist() == pytest.approx(oracles.linear_betas(num_timesteps), rel=1e-13, abs=0)


@pytest.mark.parametrize("num_timesteps", [1, 2, 20, 500])
def test_linear_betas_without_scaling_keep_their_ends(num_timesteps):
    betas = get("schedules", "linear")(scale=False).betas(num_timesteps)
    assert betas.tolist() == pytest.approx(oracles.linear_betas(num_timesteps, scale=False), rel=1e-13, abs=0)
    assert float(betas[0]) == 1e-4
    assert num_timesteps == 1 or float(betas[-1]) == 0.02


@pytest.mark.parametrize("num_timesteps", [1, 2, 3, 10, 100, 1000, 4000])
def test_cosine_betas(num_timesteps):
    betas = get("schedules", "cosine")().betas(num_timesteps)
    # 1 − ratio loses 1e-16/β: 1e-11 at β_1 of T = 4000; the last cosine, of an angle near π/2, loses 1e-13 there.
    assert betas.tolist() == pytest.approx(oracles.cosine_betas(num_timesteps), rel=1e-10, abs=0)
    capped = (betas == 0.999).nonzero().flatten().tolist()
    assert capped == [num_timesteps - 1]


@pytest.mark.parametrize("num_timesteps", [1, 2, 19, 20])
def test_scaled_linear_betas_reach_1_at_20_steps_and_are_refused(num_timesteps):
    with pytest.raises(ValueError, match="needs more than 20 timesteps"):
        get("schedules", "linear")().process(num_timesteps)
    assert len(get("schedules", "linear")().process(21)) == 21


@pytest.mark.parametrize(
    ("schedule", "parameters"),
    [("linear", {"first": 0.0}), ("linear", {"last": 1.0}), ("cosine", {"s": 0.0}), ("cosine", {"max_beta": 1.0})],
)
def test_parameters_out_of_range_are_refused(schedule, parameters):
    with pytest.raises(FieldError, match=next(iter(parameters))):
        get("schedules", schedule)(**parameters)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_forget_the_data(schedule):
    """ᾱ falls from nearly 1 to nearly 0 (Bagge & Rørhauge 2024, § 2.1, print the two ends exchanged)."""
    alpha_bar = get("schedules", schedule)().process(1000).alpha_bar
    assert alpha_bar[0] > 0.9998
    assert alpha_bar[-1] < 5e-5
    assert torch.all(alpha_bar.diff() < 0)
