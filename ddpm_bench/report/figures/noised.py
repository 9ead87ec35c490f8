"""x_t at a few t: the law of its pixels beside N(0, 1), and test images on their way there."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from PIL import Image

from ddpm_bench.report import words
from ddpm_bench.report.figures import INK, Drawing, export, new_figure, style
from ddpm_bench.report.figures.encoding import MOST_COLUMNS
from ddpm_bench.report.figures.forward import Forward, each, encoding_of, processes
from ddpm_bench.report.figures.gallery import GAP
from ddpm_bench.report.figures.samples import TILE, strip, value_range
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant

MAX_SHOWN = 8
"""Forward processes with pictures: nobody compares more of them by eye."""
MAX_VALUES = 500_000
"""Values in all pictures: noise does not compress, and the page is to stay below some megabytes."""
PALENESS = 0.3
"""Of a ridge: the share of its colour, the rest is white."""
RISE = 1.5
"""Height of the largest density of a ridge, in distances between ridges."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Images of one forward process, t from left to right. ticks: the t; pitch: pixels from one image to the next."""

    label: str
    png: bytes
    width: int
    height: int
    alternative: str
    ticks: list[str]
    pitch: int


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """A panel of ridges and a strip of images for each forward process, up to MAX_SHOWN; None without any."""
    every = processes(view, groups)
    if not every:
        return None
    shown = every[:MAX_SHOWN]
    colours = [look.colour for look in encoding_of(every).looks]
    svg, pdf = _draw(shown, colours)
    ends = each({item.label: _percent(distance_to_noise(item)) for item in shown}, len(every) == 1)
    arrays, low, high = _images(shown)
    return Drawing(
        name="noised",
        title="Pixels of x_t",
        caption=_caption(len(every), len(shown), ends, len(arrays[0]), (low, high)),
        alternative=f"Ridges of {words.count(len(shown), 'schedule')}, from the peaks of "
        f"the image's levels to a normal density: at t = T they differ from it in {ends} of their mass.",
        data=pd.concat([_data(item) for item in shown], axis=1).rename_axis("pixel").reset_index(),
        svg=svg,
        pdf=pdf,
        strips=[_strip(item, array, low, high) for item, array in zip(shown, arrays, strict=True)],
    )


def _caption(total: int, shown: int, ends: str, num_images: int, ends_of_grey: tuple[float, float]) -> str:
    black, white = (f"{end:g}".replace("-", "−") for end in ends_of_grey)
    text = (
        "The law of a pixel of x_t, over pixels of test images, from the image at t = 0 down to t = T, each t on a "
        f"scale of its own; the dashed line is N(0, 1) on it. At t = T the two differ in {ends} of their mass. "
        f"Below, {words.count(num_images, 'test image')} at these t; the noise of an image is the same at every t"
    )
    text += " and with every schedule" if shown > 1 else ""
    text += f". Black is {black}, white {white}; what lies outside is cut. Pixels are repeated, never smoothed."
    return text + (f" Shown are the first {shown} of {total} schedules." if total > shown else "")


def distance_to_noise(item: Forward) -> float:
    """The total variation distance ½ Σ |p − q| between the law of a pixel of x_T and N(0, 1), over the bins and what
    lies outside of them."""
    edges, law = item.array("edges"), item.array("pixels")[-1]
    normal = np.diff([0.5 * (1 + math.erf(edge / math.sqrt(2))) for edge in edges])
    outside = abs((1 - law.sum()) - (1 - normal.sum()))
    return float(0.5 * (np.abs(law - normal).sum() + outside))


def _percent(share: float) -> str:
    decimals = max(0, 1 - math.floor(math.log10(100 * share))) if share > 0 else 0
    return f"{words.number(100 * share, min(decimals, 4))} %"


def _density(item: Forward) -> tuple[np.ndarray, np.ndarray]:
    """The middles of the bins and the densities [times, bins]."""
    edges = np.asarray(item.array("edges"))
    return (edges[:-1] + edges[1:]) / 2, item.array("pixels") / np.diff(edges)


def _data(item: Forward) -> pd.DataFrame:
    middles, densities = _density(item)
    names = [f"density at t={t} of {item.label}" for t in item.info["times"]]
    return pd.DataFrame(densities.T, index=np.round(middles, 6), columns=names)


def _draw(shown: list[Forward], colours: list[str]) -> tuple[str, bytes]:
    rows = math.ceil(len(shown) / MOST_COLUMNS)
    columns = math.ceil(len(shown) / rows)
    with style():
        figure = new_figure(8.6, 0.3 + 3.1 * rows)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, item, colour in zip(panels, shown, colours, strict=False):
            _panel(axes, item, colour)
            axes.set_title(words.mathtext(item.label))
            axes.set_xlabel("pixel of $x_t$")
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        panels[0].set_ylabel("t")
        return export(figure)


def _panel(axes: Any, item: Forward, colour: str) -> None:
    middles, densities = _density(item)
    normal = np.exp(-0.5 * middles**2) / math.sqrt(2 * math.pi)
    pale = [1 - PALENESS * (1 - part) for part in to_rgb(colour)]
    for index, density in enumerate(densities):
        scale, base = RISE / float(density.max()), -float(index)
        # Opaque, so that a ridge stands before the one above it.
        axes.fill_between(middles, base, base + scale * density, color=pale, linewidth=0, zorder=3 * index)
        axes.plot(middles, base + scale * density, color=colour, linewidth=0.9, zorder=3 * index + 1)
        axes.plot(middles, base + scale * normal, color=INK, linewidth=0.7, linestyle=(0, (3, 2)), zorder=3 * index + 2)
    axes.set_yticks(-np.arange(len(densities)), [str(t) for t in item.info["times"]])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.0, y=0.02)
    axes.grid(axis="x", visible=False)


def _images(shown: list[Forward]) -> tuple[list[np.ndarray], float, float]:
    """[images, times, C, H, W] of each, and the values that are black and white."""
    every = [item.array("noised") for item in shown]
    count = max(1, min(len(every[0]), MAX_VALUES // sum(array[0].size for array in every)))
    arrays = [np.asarray(array[:count]) for array in every]
    low, high = value_range(arrays) if shown[0].info["levels"] is None else (-1.0, 1.0)
    return arrays, low, high


def _strip(item: Forward, images: np.ndarray, low: float, high: float) -> Strip:
    """images: [images, times, C, H, W]."""
    factor = max(1, math.ceil(TILE / images.shape[-2]))
    rows = [strip(of_one, low, high, factor, GAP) for of_one in images]
    white = np.full((GAP, *rows[0].shape[1:]), 255, np.uint8)
    pixels = np.concatenate([part for row in rows for part in (row, white)][:-1])
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", optimize=True)
    ticks = [str(t) for t in item.info["times"]]
    return Strip(
        label=item.label,
        png=png.getvalue(),
        width=pixels.shape[1],
        height=pixels.shape[0],
        alternative=f"{words.count(len(images), 'test image')} noised at t = {', '.join(ticks)}: {item.label}",
        ticks=ticks,
        pitch=images.shape[-1] * factor + GAP,
    )
