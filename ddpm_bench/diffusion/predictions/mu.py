"""Prediction of the posterior mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process, extract
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Mu(Prediction):
    """The network predicts μ̃_t(x_t, x_0), the mean of q(x_{t−1} | x_t, x_0).

    μ̃_t = c_t x_0 + d_t x_t, hence x̂_0 = (μ̂ − d_t x_t) / c_t and |x_0 − x̂_0|² = |μ̃ − μ̂|² / c_t².

    Source: Ho et al. 2020, eq. 7 and 8.
    """

    symbol: ClassVar[str | None] = "μ"

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, process: Process) -> Tensor:
        """μ̃_t(x_t, x_0) of x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε."""
        return process.q_posterior_mean(x_0, process.q_sample(x_0, t, eps), t)

    def to_x_0(self, output: Tensor, x_t: Tensor, t: Tensor, process: Process) -> Tensor:
        """(μ̂ − d_t x_t) / c_t."""
        return (output - extract(process.posterior_x_t, t, x_t) * x_t) * extract(1.0 / process.posterior_x_0, t, x_t)

    def x_0_error_factor(self, process: Process) -> Tensor:
        """1 / c_t²."""
        return process.posterior_x_0**-2
