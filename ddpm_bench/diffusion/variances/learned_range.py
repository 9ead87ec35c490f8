"""The learned variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.variances import Variance, smallest_first_step
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class LearnedRange(Variance):
    """σ²_t between β̃_t and β_t, per coordinate, decided by the network's variance head v.

    ln σ²_t = ((v + 1)/2) ln β_t + (1 − (v + 1)/2) ln β̃_t. v is not clamped: beyond ±1 it leaves the range. At the first
    step, where β̃_1 = 0, β̃_2 is the lower end (a chain of one step has σ²_1 = β_1).

    Source: Nichol & Dhariwal 2021, eq. 15; their code, GaussianDiffusion.p_mean_variance, LEARNED_RANGE.
    """

    symbol: ClassVar[str | None] = "σ²=learned"
    needs_head: ClassVar[bool] = True
    uses_first_step: ClassVar[bool] = False

    def log_sigma2(
        self,
        process: Process,
        t: Tensor,
        head: Tensor | None = None,
        fit: Tensor | None = None,
        first_step: str = "beta_tilde_2",
    ) -> Tensor:
        """ln σ²_t, float64 [B, C, H, W]; head: v [B, C, H, W]."""
        assert head is not None, "a legal cell has a head"
        low = torch.log(torch.cat([smallest_first_step(process).reshape(1), process.beta_tilde[1:]]))
        shape = (-1, *([1] * (head.dim() - 1)))
        lower, upper = (table.to(head.device)[t].reshape(shape) for table in (low, torch.log(process.beta)))
        return lower + 0.5 * (head.to(torch.float64) + 1.0) * (upper - lower)
