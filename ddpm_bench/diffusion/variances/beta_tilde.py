"""The small fixed variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.variances import Variance, fixed_log_sigma2
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class BetaTilde(Variance):
    """σ²_t = β̃_t ("fixed small"), the variance of q(x_{t−1} | x_t, x_0), optimal when x_0 is a single point.

    Source: Ho et al. 2020, § 3.2 and eq. 7.
    """

    symbol: ClassVar[str | None] = "σ²=β̃"

    def log_sigma2(
        self,
        process: Process,
        t: Tensor,
        head: Tensor | None = None,
        fit: Tensor | None = None,
        first_step: str = "beta_tilde_2",
    ) -> Tensor:
        """ln β̃_t, float64 [B]."""
        return fixed_log_sigma2(process.beta_tilde, process, t, first_step)
