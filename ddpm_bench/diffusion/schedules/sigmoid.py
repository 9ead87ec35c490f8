"""The sigmoid schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Sigmoid(Schedule):
    """ᾱ_t falls like a logistic function S.

    ᾱ_t = [S(b) − S(x_t)] / [S(b) − S(a)], x_t = a + (b − a) t/T, a = start/tau, b = end/tau; β_t from the ratios,
    capped at max_beta (with the default only β_T, which would be 1, meets it).

    Source: Jabri et al. 2022, Scalable adaptive computation for iterative generation, figure 8; Chen 2023, On the
    importance of noise scheduling for diffusion models, algorithm 1, sigmoid_schedule.
    """

    start: float = -3.0
    """Where the part of the logistic function begins that ᾱ_t follows."""
    end: float = 3.0
    """Where it ends."""
    tau: float = 1.0
    """Temperature: start and end are divided by it. A larger one makes ᾱ_t more like a straight line."""
    max_beta: float = 0.999
    """Cap of β_t."""

    def __post_init__(self) -> None:
        require(self.tau > 0, "tau", f"must be positive, got {self.tau}")
        require(self.start < self.end, "start", f"must be less than end, got {self.start} and {self.end}")
        require(0 < self.max_beta < 1, "max_beta", f"must lie between 0 and 1, got {self.max_beta}")

    def betas(self, num_timesteps: int) -> Tensor:
        """β_t, float64 [T]."""
        # S(y) − S(x) = S(y) S(−x) (1 − e^{x−y}) turns 1 − ᾱ_t/ᾱ_{t−1} into a product: nothing cancels at small t, where
        # one minus the ratio keeps eleven digits, nor at the end, where ᾱ_t → 0.
        end, step = self.end / self.tau, (self.end - self.start) / self.tau / num_timesteps
        left = torch.arange(num_timesteps, 0, -1, dtype=torch.float64)  # steps from x_{t−1} to the end
        x = end - (left - 1) * step
        beta = torch.exp(logsigmoid(x) - logsigmoid(x[-1])) * (math.expm1(-step) / torch.expm1(-left * step))
        return torch.clamp(beta, max=self.max_beta)
