"""The parts of the U-Net: time embedding, residual block, self-attention, changes of resolution.

Images are [B, C, H, W]; an embedding of time is [B, E].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def num_groups(channels: int, most: int) -> int:
    """The largest divisor of `channels` that is at most `most` and leaves at least four channels to a group.

    Ho et al. have 128 channels in 32 groups. Groups of one channel, which narrow networks would get without the second
    condition, remove the mean of every channel: 16 channels at 8×8 then have a sixth more ε-error after 500 steps.
    """
    return max(n for n in range(1, max(1, min(channels // 4, most)) + 1) if channels % n == 0)


def sinusoids(time: Tensor, dimension: int) -> Tensor:
    """Sines and cosines of `time` at geometric frequencies from 1 to 1/10 000, float32 [B, dimension].

    time: float32 [B]; dimension: even, at least 4.

    Source: Vaswani et al. 2017, Attention is all you need, § 3.5, in the form of Ho et al. 2020's code
    (nn.get_timestep_embedding).
    """
    half = dimension // 2
    frequencies = torch.exp(torch.arange(half, device=time.device) * (-math.log(10_000.0) / (half - 1)))
    angles = time[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def initialise(layer: nn.Conv2d | nn.Linear, scale: float = 1.0) -> None:
    """Weights uniform with variance scale · 2 / (fan_in + fan_out), biases zero. Source: Glorot & Bengio 2010, eq. 16;
    Ho et al. 2020's code, nn.default_init, which has 1e-10 where scale is 0 here."""
    nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(scale))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def convolution(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, scale: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps H and W (divided by the stride), initialised."""
    layer = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2)
    initialise(layer, scale)
    return layer


def linear(features_in: int, features_out: int, scale: float = 1.0) -> nn.Linear:
    """A linear layer, initialised."""
    layer = nn.Linear(features_in, features_out)
    initialise(layer, scale)
    return layer


class ResidualBlock(nn.Module):
    """x + f(x, time): two convolutions with the time added between them; the identity at initialisation.

    Source: Ho et al. 2020, appendix B; their code, unet.resnet_block.
    """

    def __init__(self, channels_in: int, channels_out: int, embedding: int, groups: int, dropout: float):
        super().__init__()
        self.norm_in = nn.GroupNorm(num_groups(channels_in, groups), channels_in)
        self.conv_in = convolution(channels_in, channels_out)
        self.time = linear(embedding, channels_out)
        self.norm_out = nn.GroupNorm(num_groups(channels_out, groups), channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = convolution(channels_out, channels_out, scale=0.0)
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else convolution(channels_in, channels_out, kernel=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """[B, channels_out, H, W]; embedding has its nonlinearity behind it."""
        h = self.conv_in(F.silu(self.norm_in(x))) + self.time(embedding)[:, :, None, None]
        h = self.conv_out(self.dropout(F.silu(self.norm_out(h))))
        return self.skip(x) + h


class Attention(nn.Module):
    """x + attention between all pixels of x; the identity at initialisation.

    Source: Ho et al. 2020, appendix B; their code, unet.attn_block, with several heads as in Nichol & Dhariwal 2021.
    """

    def __init__(self, channels: int, heads: int, groups: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(num_groups(channels, groups), channels)
        self.query, self.key, self.value = (linear(channels, channels) for _ in range(3))
        self.out = linear(channels, channels, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W]."""
        b, c, h, w = x.shape
        rows = self.norm(x).permute(0, 2, 3, 1).reshape(b, h * w, c)
        query, key, value = (
            layer(rows).reshape(b, h * w, self.heads, c // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(b, h * w, c)
        return x + self.out(mixed).reshape(b, h, w, c).permute(0, 3, 1, 2)


class Upsample(nn.Module):
    """Every pixel repeated 2×2, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 2H, 2W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
