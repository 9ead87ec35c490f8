"""A schedule whose log SNR falls on a straight line."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddpm_bench.diffusion.schedules import Schedule, betas_from_alpha_bar
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class LogLinear(Schedule):
    """The logarithm of the signal-to-noise ratio is linear in t.

    ln SNR_t = first + (last − first) t/T, ᾱ_t = SNR_t/(1 + SNR_t).

    Source: Kingma et al. 2021, Variational Diffusion Models, the comparison of noise schedules ("log SNR-linear").
    """

    symbol: ClassVar[str | None] = "log-linear"

    first: float = 8.0
    """ln SNR before the first step."""
    last: float = -10.0
    """ln SNR_T."""

    def __post_init__(self) -> None:
        require(self.first > self.last, "first", f"must be larger than last = {self.last}, got {self.first}")

    def betas(self, num_timesteps: int) -> Tensor:
        """β_t, float64 [T]."""
        t = torch.arange(1, num_timesteps + 1, dtype=torch.float64)
        log_snr = self.first + (self.last - self.first) * t / num_timesteps
        alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(log_snr)])
        return betas_from_alpha_bar(alpha_bar, max_beta=0.999)
