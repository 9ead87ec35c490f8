"""The signal-to-noise ratio plus one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class SnrPlusOne(Weighting):
    """w = SNR_t + 1 = 1/(1−ᾱ_t): the weighting that L_simple has when v is predicted, for any prediction.

    It is the sum of the squared errors of ε and of x_0.

    Source: Salimans & Ho 2022, § 4 ("SNR+1 weighting").
    """

    def weight(self, snr: Tensor) -> Tensor | None:
        """SNR_t + 1."""
        return snr + 1.0
