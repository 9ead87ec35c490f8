"""Stateless random numbers: every draw is a function of (seed, purpose, step, sample index).

A counter-based generator, vectorised over samples: image i does not depend on how many images are drawn with it, on
the device, or on what was drawn before, so a run can be resumed, sharded and extended without changing a bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_ROUND_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10: four 32-bit words (in int64 tensors) for each 128-bit counter.

    counter: four int64 tensors of equal (broadcast) shape with values in [0, 2³²); key: two 32-bit integers.

    Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", § 3.3.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # A product of two 32-bit words wraps modulo 2⁶⁴ in int64; the mask undoes the sign after the shift.
        p0, p1 = c0 * _ROUND_MULTIPLIERS[0], c2 * _ROUND_MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _KEY_INCREMENTS[0]) & _MASK, (k1 + _KEY_INCREMENTS[1]) & _MASK
    return c0, c1, c2, c3


def derive_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed for generators of other libraries, one per (seed, purpose, step)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(frozen=True)
class Stream:
    """The draws of one (seed, purpose)."""

    seed: int
    purpose: str

    def _words(self, step: int | Tensor, index: Tensor, num_blocks: int) -> tuple[Tensor, ...]:
        digest = hashlib.sha256(f"{self.seed}/{self.purpose}".encode()).digest()
        key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))
        index = index.reshape(-1, 1)
        if isinstance(step, int):  # filled in on the device: a copy from the host would wait for it
            steps = torch.full((1, 1), step, dtype=torch.int64, device=index.device)
        else:
            steps = step.to(index.device, torch.int64).reshape(-1, 1)
        block = torch.arange(num_blocks, device=index.device).reshape(1, -1)
        c0, c1, c2, c3 = torch.broadcast_tensors(block, steps, index & _MASK, (index >> 32) & _MASK)
        return philox((c0, c1, c2, c3), key)

    def uniform(self, step: int | Tensor, index: Tensor, size: int = 1) -> Tensor:
        """Uniform numbers in (0, 1), float64 [B, size]; index: int64 [B]; step: one number or int64 [B]."""
        w0, w1, w2, w3 = self._words(step, index, -(-size // 2))
        pairs = [_to_unit(w0, w1), _to_unit(w2, w3)]
        return torch.stack(pairs, dim=-1).flatten(1)[:, :size]

    def normal(self, step: int | Tensor, index: Tensor, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, float32 [B, *shape], by Box-Muller in float64; index: int64 [B]."""
        size = math.prod(shape)
        w0, w1, w2, w3 = self._words(step, index, -(-size // 4))
        draws = [*_box_muller(w0, w1), *_box_muller(w2, w3)]
        return torch.stack(draws, dim=-1).flatten(1)[:, :size].reshape(-1, *shape)


def _to_unit(high: Tensor, low: Tensor) -> Tensor:
    """52 random bits to the middle of their cell in (0, 1); with 53 the last cell's middle would round to 1."""
    return ((high * 2**20 + (low >> 12)).to(torch.float64) + 0.5) * 2.0**-52


def _box_muller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    radius = torch.sqrt(-2.0 * torch.log((a.to(torch.float64) + 0.5) * 2.0**-32))
    angle = (b.to(torch.float64) + 0.5) * (2.0**-32 * 2.0 * math.pi)
    return (radius * torch.cos(angle)).to(torch.float32), (radius * torch.sin(angle)).to(torch.float32)
