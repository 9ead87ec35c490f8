"""The vision transformer of DINOv2, with the names of its published weights.

torch-fidelity fetches code and weights of DINOv2 over the network; this needs neither. What is left out serves
training only (masks, stochastic depth).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

PATCH = 14
TRAINED_SIDE = 37
"""Patches per side that the position embeddings were trained for: images of 518 pixels."""


class Attention(nn.Module):
    """Multi-head self-attention; `qkv` stacks queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, tokens, width]."""
        queries, keys, values = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(queries, keys, values)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with a GELU between them, four times as wide inside."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, tokens, width]."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Scale(nn.Module):
    """x · gamma, one factor per channel."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, tokens, width]."""
        return x * self.gamma


class Block(nn.Module):
    """x + scaled attention of the normalised x, then the same with a perceptron."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.ls1 = Scale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.ls2 = Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, tokens, width]."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DinoV2(nn.Module):
    """Images [B, 3, H, W] of sides divisible by 14 → the normalised class token [B, width].

    Source: Oquab et al. 2023, DINOv2; facebookresearch/dinov2, dinov2/models/vision_transformer.py.
    """

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TRAINED_SIDE**2, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of the training; the weight file has it
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings for a grid of patches, [1, 1 + rows·columns, width].

        The reference interpolates by the factor (rows + 0.1)/37, an old guard against rounding to one row less, and the
        factor, not the number of rows, decides where the grid is read.
        """
        if (rows, columns) == (TRAINED_SIDE, TRAINED_SIDE):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].unflatten(1, (TRAINED_SIDE, TRAINED_SIDE)).permute(0, 3, 1, 2)
        factors = ((rows + 0.1) / TRAINED_SIDE, (columns + 0.1) / TRAINED_SIDE)
        resized = interpolate(grid, scale_factor=factors, mode="bicubic")
        assert resized.shape[2:] == (rows, columns), resized.shape
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised images, float32."""
        patches = self.patch_embed["proj"](x)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self.positions(*patches.shape[2:])
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 0]
