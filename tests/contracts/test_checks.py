"""The contracts themselves: entries that break them are found, and those of a plugin can be checked."""

from __future__ import annotations

import pytest
import torch

from ddpm_bench import registry
from ddpm_bench.diffusion.losses import Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.samplers import Sampler
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.registry import get
from tests.contracts import checks


class Single(Schedule):
    """In float32."""

    def betas(self, num_timesteps):
        return torch.full((num_timesteps,), 0.01)


class Growing(Schedule):
    """Beyond 1 for a long chain, of which its process says nothing."""

    def process(self, num_timesteps):
        beta = self.betas(num_timesteps)
        return Process(beta, beta.cumsum(0).neg(), torch.arange(1, num_timesteps + 1), num_timesteps)

    def betas(self, num_timesteps):
        return torch.linspace(0.01, num_timesteps / 1000, num_timesteps, dtype=torch.float64)


class Normalised(Weighting):
    """Depends on what else is in the batch."""

    def weight(self, snr):
        return snr / snr.mean()


class Renamed(Weighting):
    """Says that it is something else."""

    def weight(self, snr):
        return snr.sqrt()

    def canonical(self):
        return get("weightings", "snr")()


class OfTheFullChain(Variance):
    """Takes β of the original chain, whatever chain is walked."""

    def log_sigma2(self, process, t, head=None, fit=None, first_step="beta_tilde_2"):
        full = checks.chain(process.num_original)
        return get("variances", "beta")().log_sigma2(full, process.original_index(t), first_step=first_step)


class Inverted(Prediction):
    """−ε, read as ε."""

    def target(self, x_0, eps, t, process):
        return -eps

    def to_x_0(self, output, x_t, t, process):
        return get("predictions", "epsilon")().to_x_0(output, x_t, t, process)

    def x_0_error_factor(self, process):
        return 1 / process.snr


class Noisy(Sampler):
    """Adds noise to the finished image."""

    def sample(self, denoise, x_T, process, timesteps, noise):
        for i in reversed(range(len(process))):
            x_0, _ = denoise(x_T, torch.full((len(x_T),), i))
            x_T = x_0 + 0.1 * noise(i)
        return x_T


class Total(Loss):
    """One number for the batch."""

    def per_image(self, output, batch, process, prediction):
        return (output[:, :2] - prediction.target(batch.x_0, batch.eps, batch.t, process)).square().mean()


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (checks.check_schedule, Single),
        (checks.check_schedule, Growing),
        (checks.check_weighting, Normalised),
        (checks.check_weighting, Renamed),
        (checks.check_variance, OfTheFullChain),
        (checks.check_prediction, Inverted),
        (checks.check_sampler, Noisy),
        (checks.check_loss, Total),
    ],
)
def test_the_contracts_are_broken_by_wrong_entries(check, wrong):
    with pytest.raises((AssertionError, ValueError)):
        check(wrong())


PLUGIN = '''
import math
from dataclasses import dataclass

import torch

from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Geometric(Schedule):
    """β_t grows by the same factor at every step."""

    first: float = 1e-5
    last: float = 0.05

    def betas(self, num_timesteps: int) -> torch.Tensor:
        ends = math.log10(self.first), math.log10(self.last)
        return torch.logspace(*ends, num_timesteps, dtype=torch.float64)
'''


def test_an_entry_of_a_plugin_can_be_checked(tmp_path):
    file = tmp_path / "contract_example.py"
    file.write_text(PLUGIN, encoding="utf-8")
    registry.load_plugin_file(file)
    try:
        checks.check(get("schedules", "contract_example")(last=0.04))
    finally:
        del registry._registered["schedules", "contract_example"]  # other tests walk over what is registered
