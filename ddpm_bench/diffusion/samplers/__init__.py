"""Samplers: from x_T to x_0."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import Entry

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""denoise(x_t, t) → (x̂_0 after thresholding [B, C, H, W], ln σ²_t [B] or [B, C, H, W]); t: the chain's index [B]."""

Noise = Callable[[int], Tensor]
"""noise(i) → z ~ N(0, I) of the chain's index i, [B, C, H, W]."""


class Sampler(Entry, axis="samplers"):
    """A way through the chain of a (respaced) process."""

    uses_variance: ClassVar[bool] = True
    """Whether σ² matters; where it does not, it is left out of the sample's key."""

    def sample(self, denoise: Denoise, x_T: Tensor, process: Process, timesteps: Tensor, noise: Noise) -> Tensor:
        """x_0, [B, C, H, W].

        x_T: [B, C, H, W]; process: the chain to walk; timesteps: its t in the original chain, int64 [S], ascending.
        """
        raise NotImplementedError
