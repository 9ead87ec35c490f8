"""Prediction of the clean image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class X0(Prediction):
    """The network predicts x_0.

    Source: Ho et al. 2020, § 3.2 (mentioned and set aside); Salimans & Ho 2022, § 4.
    """

    symbol: ClassVar[str | None] = "x₀"

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, process: Process) -> Tensor:
        """x_0."""
        return x_0

    def to_x_0(self, output: Tensor, x_t: Tensor, t: Tensor, process: Process) -> Tensor:
        """The output itself."""
        return output

    def x_0_error_factor(self, process: Process) -> Tensor:
        """1."""
        return torch.ones_like(process.beta)
