"""The constant schedule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """Every step adds the same noise.

    β_t = beta, hence ᾱ_t = (1 − beta)^t. No value of beta suits every T: with T · beta = 10 the chain ends about where
    the linear schedule ends.

    Source: Ho et al. 2020, appendix B ("constant") and their code, get_beta_schedule, const.
    """

    beta: float
    """β_t of every step."""

    def __post_init__(self) -> None:
        require(0 < self.beta < 1, "beta", f"must lie between 0 and 1, got {self.beta}")

    def betas(self, num_timesteps: int) -> Tensor:
        """beta, T times, float64 [T]."""
        return torch.full((num_timesteps,), self.beta, dtype=torch.float64)
