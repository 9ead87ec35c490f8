"""No weighting."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class NoWeighting(Weighting):
    """The plain squared error of what the network predicts, which weighs |x_0 − x̂_0|² differently for each prediction.

    Source: Ho et al. 2020, eq. 14.
    """

    def weight(self, snr: Tensor) -> Tensor | None:
        """None."""
        return None
