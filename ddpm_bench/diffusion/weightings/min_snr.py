"""The signal-to-noise ratio, not above a bound."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class MinSnr(Weighting):
    """w = min(SNR_t, gamma): the many nearly clean images of small t do not drown the others.

    On the error of ε this is min(1, gamma/SNR_t), on that of v min(SNR_t, gamma)/(SNR_t + 1).

    Source: Hang et al. 2023, Efficient diffusion training via Min-SNR weighting strategy, § 3.4; § 4.2 (other
    predictions).
    """

    gamma: float = 5.0
    """The largest weight."""

    def __post_init__(self) -> None:
        require(self.gamma > 0, "gamma", f"must be positive, got {self.gamma}")

    def weight(self, snr: Tensor) -> Tensor | None:
        """min(SNR_t, gamma)."""
        return snr.clamp(max=self.gamma)
