"""A network and its noise with the pixels in another order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_bench.randomness import Stream

ORDER = torch.randperm(16, generator=torch.Generator().manual_seed(5))
"""Of the pixels of an image of 4×4."""


def move(images: Tensor, order: Tensor) -> Tensor:
    """The pixels of [B, C, 4, 4] in another order."""
    return images.flatten(2)[..., order].reshape(images.shape)


def permuted(values: np.ndarray) -> np.ndarray:
    """Images in the new order."""
    found: np.ndarray = move(torch.from_numpy(values), ORDER).numpy()
    return found


class Permuted(nn.Module):
    """A network that sees its images in the old order and answers in the new one."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The inner network's output."""
        return move(self.inner(move(x_t, torch.argsort(ORDER)), t), ORDER)


class PermutedStream(Stream):
    """The same noise in the new order."""

    def normal(self, step: int | Tensor, index: Tensor, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, [B, *shape]."""
        return move(super().normal(step, index, shape), ORDER)
