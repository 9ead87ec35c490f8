"""A cell's samples as one picture."""

from __future__ import annotations

import math

import numpy as np


def sample_grid(images: np.ndarray, levels: int | None) -> np.ndarray:
    """Up to 64 images as one picture of eight columns, enlarged without interpolation.

    images: [N, C, H, W], levels 0 … levels−1, or real values (levels None), which are stretched from their least to
    their greatest. Returns uint8 [height, width] for C = 1, [height, width, 3] for C = 3; of other C the first channel.
    """
    values = np.nan_to_num(np.asarray(images[:64], dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = (0.0, levels - 1.0) if levels is not None else (values.min(), values.max())
    shades = np.rint(255 * (values - low) / (high - low if high > low else 1.0)).clip(0, 255).astype(np.uint8)
    if shades.shape[1] != 3:
        shades = shades[:, :1]
    scale, gap, columns = max(1, 64 // max(shades.shape[2:])), 2, 8
    tiles = shades.transpose(0, 2, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = tiles.shape[1] + gap, tiles.shape[2] + gap
    rows = math.ceil(len(tiles) / columns)
    grid = np.full((rows * height - gap, columns * width - gap, tiles.shape[3]), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        grid[row * height :, column * width :][: height - gap, : width - gap] = tile
    return grid[..., 0] if grid.shape[2] == 1 else grid
