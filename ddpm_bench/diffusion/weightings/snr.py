"""Weighting by the signal-to-noise ratio."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Snr(Weighting):
    """w = SNR_t: the weighting that L_simple has when ε is predicted, for any prediction.

    Source: Salimans & Ho 2022, § 4 ("SNR weighting").
    """

    def weight(self, snr: Tensor) -> Tensor | None:
        """SNR_t."""
        return snr
