"""Networks that are formulas, for the stages to load: the best ones for known data, or worse by a known amount."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_bench.datasets import Dataset
from ddpm_bench.datasets.digits import Digits
from ddpm_bench.datasets.gaussian import Gaussian
from ddpm_bench.networks import Problem
from ddpm_bench.networks.unet import Unet
from ddpm_bench.store import Artifact
from tests.laws import Law
from tests.stages.workbench import Bench

SIDE = 4
NUM_DIMS = SIDE * SIDE


class ClosedNetwork(nn.Module):
    """E[x_0 | x_t] (1 + error) of independent values of a law, as whatever the problem wants to be predicted.

    Its head, if it has one, is v of σ² = β̃_t + c_t² Var(x_0 | x_t) per value (β̃_2 + Var at t = 1): the best there is.
    """

    def __init__(self, problem: Problem, law: Law, error: float = 0.0):
        super().__init__()
        self.problem, self.law, self.error = problem, law, error

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """[B, C or 2C, H, W]; computed in float64."""
        process, x = self.problem.process, x_t.double()

        def at(table: Tensor) -> Tensor:
            return table[t].reshape(-1, 1, 1, 1)

        best, variance = self.law.denoise(x, at(process.alpha_bar))
        guess = best * (1 + self.error)
        eps = (x - at(process.alpha_bar).sqrt() * guess) / at(process.one_minus_alpha_bar).sqrt()
        output = self.problem.prediction.target(guess, eps, t, process)
        if self.problem.outputs == self.problem.shape[0]:
            return output.to(x_t.dtype)
        low = torch.cat([process.beta_tilde[1:2], process.beta_tilde[1:]])
        sigma2 = at(low) + at(process.posterior_x_0) ** 2 * variance
        v = 2 * torch.log(sigma2 / at(low)) / torch.log(at(process.beta / low)) - 1
        return torch.cat([output, v], dim=1).to(x_t.dtype)


def use(monkeypatch: pytest.MonkeyPatch, law: Law, error: float = 0.0) -> None:
    """Let every U-Net be the network of the law."""
    monkeypatch.setattr(Unet, "build", lambda self, problem: ClosedNetwork(problem, law, error))


def data_of(bench: Bench, law: Law, **counts: int) -> Artifact:
    """Images of independent values: real ones, or 17 levels where the law has points alone."""
    counts = {"train": 200, "validation": 100, "test": 100, **counts}
    values = {
        name: law.draw((count, 1, SIDE, SIDE), seed) for seed, (name, count) in enumerate(counts.items())
    }  # fmt: skip
    if any(law.deviations):
        gaussian = len(law.weights) == 1
        chosen: Dataset = Gaussian(mean=law.means[0], standard_deviation=law.deviations[0]) if gaussian else Gaussian()
        return bench.data_of(chosen, {name: x.astype(np.float32) for name, x in values.items()})
    levels = {name: ((x + 1) * 8).round().astype(np.uint8) for name, x in values.items()}
    assert all(np.array_equal(level / 8 - 1, values[name]) for name, level in levels.items())
    return bench.data_of(Digits(), levels)


def bits(nats: float) -> float:
    """nats → bits."""
    return nats / math.log(2)
