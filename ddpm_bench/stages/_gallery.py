"""What a gallery shows beside samples: where a chain is looked at, and noise between two noises."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def evenly(num_steps: int, count: int) -> list[int]:
    """`count` of a chain's indices S − 1 … 0, both ends among them, as evenly as integers can; all of a shorter chain.

    Descending, as the chain is walked: round((S − 1)(1 − j/(count − 1))), halves up.
    """
    if num_steps <= count:
        return list(reversed(range(num_steps)))
    return [math.floor((num_steps - 1) * (1 - j / (count - 1)) + 0.5) for j in range(count)]


def along_arcs(z: Tensor, points: int) -> Tensor:
    """The noises z and, behind them, what lies between those of each pair (0, 1), (2, 3), …

    Between a and b stands cos(λπ/2) a + sin(λπ/2) b at λ = 1/(points − 1) … (points − 2)/(points − 1): a spherical
    interpolation whose angle is π/2, that of independent noises. The squared weights add up to 1 and do not depend on a
    and b, so that each interpolant of independent N(0, I) is N(0, I) itself, exactly. With the angle measured between a
    and b, or with linear weights, it would not be.

    z: [2P, C, H, W] → [2P + P (points − 2), C, H, W], pair by pair.
    Source: Shoemake 1985, Animating rotation with quaternion curves (the interpolation); Song, Meng & Ermon
    2021, Denoising Diffusion Implicit Models, § 5.3 (between the x_T of a deterministic sampler).
    """
    angles = [0.5 * math.pi * j / (points - 1) for j in range(1, points - 1)]
    pairs = zip(z[0::2], z[1::2], strict=True)
    between = [a * math.cos(angle) + b * math.sin(angle) for a, b in pairs for angle in angles]
    return torch.cat([z, torch.stack(between)]) if between else z


def in_order(images: Tensor, num_ends: int, points: int) -> Tensor:
    """What was made of `along_arcs`, each pair's ends around what lies between: [P, points, C, H, W]."""
    ends, between = images[:num_ends], images[num_ends:]
    inner = between.reshape(num_ends // 2, points - 2, *images.shape[1:])
    return torch.cat([ends[0::2].unsqueeze(1), inner, ends[1::2].unsqueeze(1)], dim=1)
