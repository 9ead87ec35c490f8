"""The signal-to-noise ratio, not below 1."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class TruncatedSnr(Weighting):
    """w = max(SNR_t, 1): the larger of the squared errors of ε and of x_0, for any prediction.

    Unlike `snr` it does not vanish at large t, where a small error of ε is a large one of x_0.

    Source: Salimans & Ho 2022, § 4 ("truncated SNR weighting").
    """

    def weight(self, snr: Tensor) -> Tensor | None:
        """max(SNR_t, 1)."""
        return snr.clamp(min=1.0)
