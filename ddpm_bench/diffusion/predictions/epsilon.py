"""Prediction of the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process, extract
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Epsilon(Prediction):
    """The network predicts ε.

    x̂_0 = (x_t − √(1−ᾱ_t) ε̂) / √ᾱ_t, hence |x_0 − x̂_0|² = |ε − ε̂|² / SNR_t.

    Source: Ho et al. 2020, eq. 9, 11 and 15.
    """

    symbol: ClassVar[str | None] = "ε"
    native_weighting: ClassVar[str | None] = "snr"

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, process: Process) -> Tensor:
        """ε."""
        return eps

    def to_x_0(self, output: Tensor, x_t: Tensor, t: Tensor, process: Process) -> Tensor:
        """(x_t − √(1−ᾱ_t) ε̂) / √ᾱ_t."""
        noise = extract(process.one_minus_alpha_bar.sqrt(), t, x_t)
        return (x_t - noise * output) * extract(process.alpha_bar.rsqrt(), t, x_t)

    def x_0_error_factor(self, process: Process) -> Tensor:
        """1 / SNR_t."""
        return 1.0 / process.snr
