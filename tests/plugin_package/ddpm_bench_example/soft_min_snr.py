"""The signal-to-noise ratio, bounded without a corner."""

from dataclasses import dataclass

from torch import Tensor

from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class SoftMinSnr(Weighting):
    """w = SNR_t · gamma/(SNR_t + gamma), which is min_snr with its corner rounded off.

    Source: Crowson et al. 2024, Hourglass Diffusion Transformers, "soft-min-SNR".
    """

    gamma: float = 4.0
    """The bound that w approaches."""

    def __post_init__(self) -> None:
        require(self.gamma > 0, "gamma", f"must be positive, got {self.gamma}")

    def weight(self, snr: Tensor) -> Tensor | None:
        """SNR_t · gamma/(SNR_t + gamma)."""
        return snr * self.gamma / (snr + self.gamma)
