"""Prediction of the velocity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process, extract
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class V(Prediction):
    """The network predicts v = √ᾱ_t ε − √(1−ᾱ_t) x_0.

    x̂_0 = √ᾱ_t x_t − √(1−ᾱ_t) v̂, hence |x_0 − x̂_0|² = (1−ᾱ_t) |v − v̂|² = |v − v̂|² / (SNR_t + 1).

    Source: Salimans & Ho 2022, Progressive distillation, § 4 and appendix D.
    """

    symbol: ClassVar[str | None] = "v"
    native_weighting: ClassVar[str | None] = "snr_plus_one"

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, process: Process) -> Tensor:
        """√ᾱ_t ε − √(1−ᾱ_t) x_0."""
        signal, noise = extract(process.alpha_bar.sqrt(), t, x_0), extract(process.one_minus_alpha_bar.sqrt(), t, x_0)
        return signal * eps - noise * x_0

    def to_x_0(self, output: Tensor, x_t: Tensor, t: Tensor, process: Process) -> Tensor:
        """√ᾱ_t x_t − √(1−ᾱ_t) v̂."""
        signal, noise = extract(process.alpha_bar.sqrt(), t, x_t), extract(process.one_minus_alpha_bar.sqrt(), t, x_t)
        return signal * x_t - noise * output

    def x_0_error_factor(self, process: Process) -> Tensor:
        """1 − ᾱ_t."""
        return process.one_minus_alpha_bar
