"""The U-Net of the DDPM papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_bench.datasets import data_root
from ddpm_bench.errors import require
from ddpm_bench.networks import Network, Problem
from ddpm_bench.networks._blocks import Attention, ResidualBlock, Upsample, convolution, linear, num_groups, sinusoids
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Unet(Network):
    """The U-Net of Ho et al.: residual blocks with group normalisation, self-attention, sinusoidal time.

    The defaults with dropout = 0.1 are their CIFAR-10 network (35 746 307 parameters). The output is zero at
    initialisation, as is the change that every residual block and every attention makes. Time enters as t·1000/T, so
    that networks for chains of different length see one range; with T = 1000 that is their t.

    Differences from their code: strided convolutions pad all sides (theirs pads right and bottom), and what they
    initialise with scale 1e-10 is zero.

    Source: Ho et al. 2020, appendix B, and their code, unet.model; time scale: Nichol & Dhariwal 2021's code,
    rescale_timesteps.
    """

    channels: int = 128
    """Channels at full resolution; the embedding of time has four times as many features."""
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Channels at each resolution, in multiples of `channels`; each entry after the first halves height and width."""
    residual_blocks: int = 2
    """Residual blocks per resolution on the way down; one more on the way up."""
    attention_resolutions: tuple[int, ...] = (16,)
    """Heights at which every residual block is followed by attention; the middle always has it."""
    attention_heads: int = 1
    dropout: float = 0.0
    """Probability, inside the residual blocks."""
    groups: int = 32
    """Groups of a normalisation: the largest divisor of its channels that is at most this and a quarter of them."""

    def __post_init__(self) -> None:
        require(self.channels >= 4 and self.channels % 2 == 0, "channels", f"must be even and ≥ 4, got {self.channels}")
        require(len(self.channel_multipliers) > 0, "channel_multipliers", "is empty")
        require(min(self.channel_multipliers, default=1) >= 1, "channel_multipliers", "must all be at least 1")
        for name in ("residual_blocks", "attention_heads", "groups"):
            require(getattr(self, name) >= 1, name, f"must be at least 1, got {getattr(self, name)}")
        for multiplier in self.channel_multipliers:
            width = self.channels * multiplier
            text = f"must divide the channels where there is attention; {self.attention_heads} does not divide {width}"
            require(width % self.attention_heads == 0, "attention_heads", text)
        require(0 <= self.dropout < 1, "dropout", f"must lie in [0, 1), got {self.dropout}")

    def build(self, problem: Problem) -> nn.Module:
        """The network. Raises ValueError for a shape that its halvings do not divide."""
        reason = self._misfit(problem.shape)
        if reason is not None:
            raise ValueError(reason)
        return UnetModule(self, problem.shape, problem.outputs, len(problem.process))

    def refuse(self, cell: Any) -> str | None:
        """A shape that the halvings do not divide."""
        return self._misfit(cell.dataset.shape(data_root()))

    def _misfit(self, shape: tuple[int, int, int]) -> str | None:
        halvings = len(self.channel_multipliers) - 1
        _, height, width = shape
        if height % 2**halvings == 0 and width % 2**halvings == 0:
            return None
        return (
            f"network unet with {halvings + 1} channel_multipliers halves images {halvings} times, and "
            f"{height}×{width} is not divisible by {2**halvings}: use fewer channel_multipliers or another size"
        )


class UnetModule(nn.Module):
    """The module of a `Unet`; num_timesteps is T of the chain whose index it is given."""

    def __init__(self, config: Unet, shape: tuple[int, int, int], outputs: int, num_timesteps: int):
        super().__init__()
        self.time_scale = 1000.0 / num_timesteps
        self.time_features = config.channels
        embedding = 4 * config.channels
        self.time_in, self.time_out = linear(config.channels, embedding), linear(embedding, embedding)
        self.conv_in = convolution(shape[0], config.channels)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()

        def block(channels_in: int, channels_out: int) -> ResidualBlock:
            return ResidualBlock(channels_in, channels_out, embedding, config.groups, config.dropout)

        def attention(channels: int, height: int | None) -> nn.Module:
            wanted = height is None or height in config.attention_resolutions
            return Attention(channels, config.attention_heads, config.groups) if wanted else nn.Identity()

        height, width = shape[1], config.channels
        skips = [width]
        last = len(config.channel_multipliers) - 1
        for level, multiplier in enumerate(config.channel_multipliers):
            for _ in range(config.residual_blocks):
                channels = config.channels * multiplier
                self.down.append(nn.ModuleList([block(width, channels), attention(channels, height)]))
                width = channels
                skips.append(width)
            if level < last:
                self.down.append(convolution(width, width, stride=2))
                skips.append(width)
                height //= 2
        self.middle_in, self.middle_out = block(width, width), block(width, width)
        self.middle_attention = attention(width, None)
        for level, multiplier in reversed(list(enumerate(config.channel_multipliers))):
            for _ in range(config.residual_blocks + 1):
                channels = config.channels * multiplier
                self.up.append(nn.ModuleList([block(width + skips.pop(), channels), attention(channels, height)]))
                width = channels
            if level > 0:
                self.up.append(Upsample(width))
                height *= 2
        self.norm_out = nn.GroupNorm(num_groups(width, config.groups), width)
        self.conv_out = convolution(width, outputs, scale=0.0)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The output [B, outputs, H, W] at x_t [B, C, H, W], t int64 [B] (0-based)."""
        time = sinusoids(t.to(torch.float32) * self.time_scale, self.time_features)
        embedding = F.silu(self.time_out(F.silu(self.time_in(time))))
        if x_t.is_cuda:
            # The layout of tensor cores. Convolutions follow their input, so weights stay as they are. On a CPU it is
            # slower (group normalisation: a training step at 8×8 takes 1.2 to 1.5 times as long).
            x_t = x_t.contiguous(memory_format=torch.channels_last)
        h = self.conv_in(x_t)
        skips = [h]
        for stage in self.down:
            h = stage[1](stage[0](h, embedding)) if isinstance(stage, nn.ModuleList) else stage(h)
            skips.append(h)
        h = self.middle_out(self.middle_attention(self.middle_in(h, embedding)), embedding)
        for stage in self.up:
            if isinstance(stage, nn.ModuleList):
                h = stage[1](stage[0](torch.cat([h, skips.pop()], dim=1), embedding))
            else:
                h = stage(h)
        return self.conv_out(F.silu(self.norm_out(h)))
