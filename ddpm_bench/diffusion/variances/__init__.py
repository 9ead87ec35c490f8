"""The variance σ²_t of p_θ(x_{t−1} | x_t)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import Entry

FirstStep = Literal["beta_tilde_2", "beta_1"]
"""The rule for σ²_1, where β̃_1 = 0 is impossible: β̃_2 (Ho's and OpenAI's code) or β_1."""


class Variance(Entry, axis="variances"):
    """A choice of σ²_t."""

    needs_head: ClassVar[bool] = False
    """Whether the network must have a variance head."""
    needs_fit: ClassVar[bool] = False
    """Whether it is fitted to a score of the validation split."""
    uses_first_step: ClassVar[bool] = True
    """Whether the first-step rule decides σ²_1; where it does not, the rule is left out of keys."""

    def log_sigma2(
        self,
        process: Process,
        t: Tensor,
        head: Tensor | None = None,
        fit: Tensor | None = None,
        first_step: str = "beta_tilde_2",
    ) -> Tensor:
        """ln σ²_t, float64 [B]; [B, C, H, W] per coordinate where a head decides it.

        t: int64 [B]; head: the network's variance head [B, C, H, W]; fit: what `fit` returned, float64 [S].
        """
        raise NotImplementedError

    def fit(self, process: Process, mse: Tensor, mean_l_0: Callable[[float], float]) -> Tensor:
        """ln σ²_t of a chain from the errors of a network on the fit split, float64 [S]; where `needs_fit`.

        mse: E|x_0 − x̂_0|²/D at each step, float64 [S]; mean_l_0: ln σ²_1 → mean L_0 of the split (any unit).
        """
        raise NotImplementedError


def fixed_log_sigma2(table: Tensor, process: Process, t: Tensor, first_step: str) -> Tensor:
    """ln of the table at t with σ²_1 by the first-step rule, float64 [B]; a chain of one step has σ²_1 = β_1.

    Source: Ho et al. 2020, their code, GaussianDiffusion2 (fixedlarge, fixedsmall: posterior variance of t = 2).
    """
    first = smallest_first_step(process) if first_step == "beta_tilde_2" else process.beta[0]
    return torch.log(torch.cat([first.reshape(1), table[1:]])).to(t.device)[t]


def smallest_first_step(process: Process) -> Tensor:
    """What stands for β̃_1 = 0, float64 []: β̃_2, in a chain of one step β_1.

    Source: Ho et al. 2020, their code, GaussianDiffusion2 (posterior_log_variance_clipped).
    """
    return process.beta_tilde[1] if len(process) > 1 else process.beta[0]
