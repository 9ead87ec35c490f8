"""Generated images, one row for each variant; a column holds what the variants make of the same noise."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant

WIDTH = 780
"""Pixels that a row of images may take: it then stands beside its label on the page."""

TILE = 36
"""Smaller images are enlarged by a whole factor to at least this many pixels."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One variant's row. png: None when there are no images, then `reason` says why."""

    variant: Variant
    cell: str
    png: bytes | None
    width: int = 0
    height: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All rows for one seed. mapping: how values became grey levels, in words."""

    seed: int
    count: int
    strips: list[Strip]
    mapping: str


def draw(view: ResultsView, groups: list[Variant]) -> Grid | None:
    """The grid of the seed that most variants have samples of (the smallest of equals)."""
    if view.data["data"] is None:
        return None
    height = view.data["data"]["shape"][1]
    factor = max(1, math.ceil(TILE / height))
    count = max(1, WIDTH // (view.data["data"]["shape"][2] * factor + 3))
    found: dict[int, dict[str, np.ndarray]] = {}
    for group in groups:
        for cell in group.cells:
            images = view.samples(cell, count) if cell["artifacts"].get("samples") else None
            if images is not None:
                found.setdefault(cell["seed"], {})[group.key] = images
    if not found:
        return None
    seed = min(found, key=lambda item: (-len(found[item]), item))
    levels = view.data["data"]["levels"]
    low, high = value_range(list(found[seed].values())) if levels is None else (0.0, levels - 1.0)
    strips = []
    for group in groups:
        cell = next((cell for cell in group.cells if cell["seed"] == seed), group.cells[0])
        images = found[seed].get(group.key)
        if images is None:
            reason = cell["reason"] or ("no samples in the store" if cell["status"] == "done" else cell["status"])
            strips.append(Strip(variant=group, cell=cell["id"], png=None, reason=reason))
            continue
        picture = strip(images, low, high, factor)
        png = io.BytesIO()
        Image.fromarray(picture).save(png, "PNG", optimize=True)
        size = {"width": picture.shape[1], "height": picture.shape[0]}
        strips.append(Strip(variant=group, cell=cell["id"], png=png.getvalue(), **size))
    mapping = f"values from {low:g} (black) to {high:g} (white)" if levels is None else f"{levels} levels, 0 black"
    return Grid(seed=seed, count=count, strips=strips, mapping=mapping)


def value_range(images: list[np.ndarray]) -> tuple[float, float]:
    """The symmetric range that holds 99.8 % of all values, to two significant digits: one for all variants."""
    bound = float(np.quantile(np.abs(np.concatenate([item.ravel() for item in images])), 0.998))
    bound = float(f"{bound:.1e}") or 1.0
    return -bound, bound


def strip(images: np.ndarray, low: float, high: float, factor: int, gap: int = 3) -> np.ndarray:
    """[n, C, H, W] in a row: uint8 [H·factor, width] (grey) or [H·factor, width, 3], pixels repeated, white gaps.

    A value v becomes round(255 (v − low)/(high − low)), clamped.
    """
    scaled = (images.astype(np.float64) - low) * (255.0 / (high - low))
    pixels = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    pixels = pixels.repeat(factor, axis=2).repeat(factor, axis=3)
    if pixels.shape[1] not in (1, 3):
        pixels = pixels[:, :1]
    pixels = np.pad(pixels, ((0, 0), (0, 0), (0, 0), (0, gap)), constant_values=255)
    row = np.concatenate(list(pixels), axis=2)[:, :, :-gap]
    return row[0] if row.shape[0] == 1 else row.transpose(1, 2, 0)
