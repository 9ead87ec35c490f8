"""The perfect network for Gaussian data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_bench.diffusion.process import extract
from ddpm_bench.errors import require
from ddpm_bench.networks import Network, Problem
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class ClosedForm(Network):
    """The optimum for data x_0 ~ N(m, s²) in every dimension: known answers without training.

    x̂_0 = E[x_0 | x_t] = m + √ᾱ_t s² (x_t − √ᾱ_t m) / V_t with V_t = ᾱ_t s² + 1 − ᾱ_t, turned into what the prediction
    wants. It is linear in x_t, and so is the mean it gives: μ_θ(x_t, t) = g_t x_t + h_t.

    Source: conditioning of jointly normal variables, e.g. Bishop 2006, Pattern Recognition and Machine Learning,
    eq. 2.81; the mean: Ho et al. 2020, eq. 7.
    """

    relative_error: float = 0.0
    """δ: the gain of the mean over the full chain becomes g_t (1 + δ), its h_t stays: an imperfect network whose
    generated law is still known."""

    def __post_init__(self) -> None:
        require(math.isfinite(self.relative_error), "relative_error", f"must be finite, got {self.relative_error}")

    def build(self, problem: Problem) -> nn.Module:
        """The formula as a module without parameters. Raises ValueError where it has none."""
        gaussian = problem.dataset.gaussian
        if gaussian is None:
            raise ValueError(_not_gaussian(problem.dataset.name))
        if problem.outputs != problem.shape[0]:
            raise ValueError(_NO_HEAD)
        return ClosedFormModule(problem, *gaussian, self.relative_error)

    def refuse(self, cell: Any) -> str | None:
        """Data that are not Gaussian, a learned variance, training."""
        if cell.dataset.gaussian is None:
            return _not_gaussian(cell.dataset.name)
        if cell.learned_variance:
            return _NO_HEAD
        if cell.training.steps > 0:
            return "network closed_form has nothing to train: use training.steps = 0"
        return None


_NO_HEAD = "network closed_form has no variance head: use a variance that is not learned"


def _not_gaussian(name: str) -> str:
    return (
        f'network closed_form needs Gaussian data, and dataset {name} is not: use dataset "gaussian" or another network'
    )


class ClosedFormModule(nn.Module):
    """x̂_0 = slope_t x_t + offset_t, and the prediction it implies."""

    def __init__(self, problem: Problem, mean: float, standard_deviation: float, relative_error: float):
        super().__init__()
        self.process, self.prediction = problem.process, problem.prediction
        process, variance = problem.process, standard_deviation**2
        total = process.alpha_bar * variance + process.one_minus_alpha_bar
        # Plain attributes, not buffers: they are float64 whatever the module is converted to.
        self.slope = process.alpha_bar.sqrt() * variance / total
        self.offset = mean * process.one_minus_alpha_bar / total
        gain = process.posterior_x_0 * self.slope + process.posterior_x_t
        self.slope = self.slope + relative_error * gain / process.posterior_x_0

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The exact output at x_t [B, C, H, W], t int64 [B]: computed in float64, returned in the dtype of x_t."""
        x = x_t.to(torch.float64)
        x_0 = extract(self.slope, t, x) * x + extract(self.offset, t, x)
        eps = self.process.eps_from_x_0(x_0, x, t)
        return self.prediction.target(x_0, eps, t, self.process).to(x_t.dtype)
