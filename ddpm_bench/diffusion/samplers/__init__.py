"""Samplers: from x_T to x_0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import Entry

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""denoise(x_t, t) → (x̂_0 after thresholding [B, C, H, W], ln σ²_t [B] or [B, C, H, W]); t: the chain's index [B]."""

Noise = Callable[[int], Tensor]
"""noise(i) → z ~ N(0, I) of the chain's index i, [B, C, H, W]."""


def affine(first: Tensor, a: float, second: Tensor, b: float) -> Tensor:
    """a · first + b · second, the update of every sampler. The coefficients are numbers: nothing is copied to the
    device, and nothing waits for it."""
    return (first * a).add_(second, alpha=b)


def steps(process: Process, x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(i, t) from the last step of the chain to the first: its index, and the same for every image, int64 [B]."""
    for i in reversed(range(len(process))):
        yield i, torch.full((len(x),), i, dtype=torch.int64, device=x.device)


class Sampler(Entry, axis="samplers"):
    """A way through the chain of a (respaced) process."""

    uses_variance: ClassVar[bool] = True
    """Whether σ² matters; where it does not, it is left out of the sample's key."""
    has_bound: ClassVar[bool] = False
    """Whether it draws from the chain whose bound is evaluated: the p_θ of bits/dim are those of ancestral sampling."""

    def sample(self, denoise: Denoise, x_T: Tensor, process: Process, timesteps: Tensor, noise: Noise) -> Tensor:
        """x_0, [B, C, H, W].

        x_T: [B, C, H, W]; process: the chain to walk; timesteps: its t in the original chain, int64 [S], ascending.
        """
        raise NotImplementedError
