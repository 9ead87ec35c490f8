"""The large fixed variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.variances import Variance, fixed_log_sigma2
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Beta(Variance):
    """σ²_t = β_t ("fixed large"), optimal for x_0 ~ N(0, I).

    Source: Ho et al. 2020, § 3.2.
    """

    symbol: ClassVar[str | None] = "σ²=β"

    def log_sigma2(
        self,
        process: Process,
        t: Tensor,
        head: Tensor | None = None,
        fit: Tensor | None = None,
        first_step: str = "beta_tilde_2",
    ) -> Tensor:
        """ln β_t, float64 [B]."""
        return fixed_log_sigma2(process.beta, process, t, first_step)
