"""The schedule that is linear in the standard deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddpm_bench.diffusion.schedules import GIVEN_AT, Schedule, thousand_over
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class ScaledLinear(Schedule):
    """√β_t linear in t: the noise that a step adds grows evenly in standard deviation. Elsewhere called quadratic.

    β_t = (√first + (√last − √first) (t − 1)/(T − 1))² · 1000/T; without `scale` the factor 1000/T is left out. Between
    the same ends it adds less noise than `linear`: ᾱ_T is larger.

    Source: Ho et al. 2020, appendix B ("quadratic") and their code, get_beta_schedule, quad; Rombach et al. 2022,
    Latent diffusion, their code, make_beta_schedule, linear (with other ends).
    """

    first: float = 1e-4
    """β_1 at T = 1000."""
    last: float = 0.02
    """β_T at T = 1000."""
    scale: bool = True
    """Multiply by 1000/T, so that ᾱ_T hardly depends on T."""

    def __post_init__(self) -> None:
        require(0 < self.first < 1, "first", f"must lie between 0 and 1, got {self.first}")
        require(0 < self.last < 1, "last", f"must lie between 0 and 1, got {self.last}")

    def betas(self, num_timesteps: int) -> Tensor:
        """β_t, float64 [T]. Raises ValueError for T ≤ 20 when scaled: there the last β reaches 1."""
        largest = max(self.first, self.last)
        factor = thousand_over(num_timesteps, largest, "scaled_linear", self.name) if self.scale else 1.0
        roots = torch.linspace(math.sqrt(self.first), math.sqrt(self.last), num_timesteps, dtype=torch.float64)
        return roots**2 * factor

    def canonical(self, num_timesteps: int) -> Schedule:
        """With `scale` at T = 1000, where it changes nothing."""
        return replace(self, scale=True) if num_timesteps == GIVEN_AT else self
