"""The perception-prioritised weighting."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.diffusion.weightings.snr import Snr
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class P2(Weighting):
    """w = SNR_t/(k + SNR_t)^gamma: less weight on small t, where what remains to be learned cannot be seen.

    On the error of ε this is 1/(k + SNR_t)^gamma; with gamma = 0 it is the weighting `snr`.

    Source: Choi et al. 2022, Perception prioritized training of diffusion models, § 3 (P2 weighting, λ'_t); their code,
    GaussianDiffusion.training_losses, p2_gamma and p2_k.
    """

    k: float = 1.0
    """Keeps the weight on the error of ε finite where SNR_t vanishes: it is at most 1/k^gamma there."""
    gamma: float = 1.0
    """How strongly small t are played down; 0: not at all."""

    def __post_init__(self) -> None:
        require(self.k > 0, "k", f"must be positive, got {self.k}")
        require(self.gamma >= 0, "gamma", f"must not be negative, got {self.gamma}")

    def weight(self, snr: Tensor) -> Tensor | None:
        """SNR_t/(k + SNR_t)^gamma."""
        return snr / (self.k + snr) ** self.gamma

    def canonical(self) -> Weighting:
        """`snr` for gamma = 0, whatever k."""
        return Snr() if self.gamma == 0 else self
