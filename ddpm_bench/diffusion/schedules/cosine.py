"""The cosine schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_bench.diffusion.schedules import Schedule, betas_from_alpha_bar
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """ᾱ_t falls like a squared cosine.

    ᾱ_t = f(t/T)/f(0), f(u) = cos²((u + s)/(1 + s) · π/2); β_t from the ratios, capped at max_beta (only β_T meets it).

    Source: Nichol & Dhariwal 2021, Improved DDPM, eq. 17.
    """

    s: float = 0.008
    """Offset that keeps β_1 from vanishing."""
    max_beta: float = 0.999
    """Cap of β_t."""

    def __post_init__(self) -> None:
        require(self.s > 0, "s", f"must be positive, got {self.s}")
        require(0 < self.max_beta < 1, "max_beta", f"must lie between 0 and 1, got {self.max_beta}")

    def betas(self, num_timesteps: int) -> Tensor:
        """β_t, float64 [T]."""
        u = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
        return betas_from_alpha_bar(torch.cos((u + self.s) / (1 + self.s) * (math.pi / 2)) ** 2, self.max_beta)
