"""The loss around the path of each training, in the plane of its two principal components, beside what a random walk
would put into such a plane."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.colors import BoundaryNorm
from matplotlib.lines import Line2D

from ddpm_bench.report import words
from ddpm_bench.report.figures import INK, Drawing, export, legend, new_figure, style
from ddpm_bench.report.landscapes import Landscape, caption, load, percent, places_of, short, table
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant

MAX_SHOWN = 8
"""Panels: nobody compares more of them by eye."""
LEVELS = 10
"""Colours between the least loss and the greatest one on a path; each is twice as wide as the one below it."""
WIDTH = 8.6
"""Of the figure, in inches."""
TITLE = 110
"""Characters of the titles of a row of panels."""
COLOURS = "viridis"
"""Light to dark in one direction, so that it can be read without colour vision and in grey."""
OUTSIDE = "#d4d4d4"
"""Where the loss is not finite."""


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """A panel for each training that has a landscape with a loss that is finite, up to MAX_SHOWN; None without any."""
    places = places_of(view, groups)
    shown = [load(view, place, cells) for place, cells in list(places.items())[:MAX_SHOWN]]
    shown = [item for item in shown if np.isfinite(item.own).any()]
    if not shown:
        return None
    levels = levels_of(shown)
    svg, pdf = _draw(shown, levels)
    seed = next(iter(places.values()))[0]["seed"]
    return Drawing(
        name="landscape",
        title="Loss landscape",
        caption=caption(shown, seed, len(places)),
        alternative=f"Contours of bits/dim around the {'path' if len(shown) == 1 else 'paths'} of "
        f"{words.count(len(shown), 'training')}, from the first to the last checkpoint: "
        + "; ".join(f"{item.label} from {short(item.own[0])} to {short(item.own[-1])}" for item in shown)
        + ".",
        data=pd.concat([table(item) for item in shown], ignore_index=True),
        svg=svg,
        pdf=pdf,
    )


def levels_of(shown: list[Landscape]) -> np.ndarray:
    """The borders of the colours, one scale for all panels: least + (most − least) 2^−k, k = LEVELS − 1 … 0.

    Loss falls by orders of magnitude along a path, and may be negative for data without levels: so distances from the
    least loss are halved, not losses.
    """
    every = np.concatenate([values.ravel() for item in shown for values in (item.grid, item.own)])
    least = float(every[np.isfinite(every)].min())
    most = float(np.nanmax(np.concatenate([item.own for item in shown])))
    return least + (most - least or 1.0) * 0.5 ** np.arange(LEVELS - 1, -1, -1)


def _draw(shown: list[Landscape], levels: np.ndarray) -> tuple[str, bytes]:
    columns = 1 if len(shown) == 1 else 2 if len(shown) <= 4 else 3
    rows = math.ceil(len(shown) / columns)
    width = WIDTH if columns > 1 else 0.7 * WIDTH
    panel = (width - 1.0) / columns - 0.6
    flatness = max(np.ptp(item.found["axes"][1]) / np.ptp(item.found["axes"][0]) for item in shown)
    titles = [words.mathtext("\n".join(textwrap.wrap(item.label, TITLE // columns))) for item in shown]
    lines = max(title.count("\n") + 1 for title in titles)
    norm = BoundaryNorm(levels, matplotlib.colormaps[COLOURS].N, extend="both")
    with style(), matplotlib.rc_context({"axes.grid": False}):
        figure = new_figure(width, 0.5 + rows * (panel * flatness + 0.72 + 0.13 * lines))
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, item, title in zip(panels, shown, titles, strict=False):
            filled = _panel(axes, item, title, levels, norm)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        bar = figure.colorbar(filled, ax=list(panels), ticks=levels, shrink=0.9, aspect=30, pad=0.02)
        bar.ax.set_yticklabels([_tick(level, levels) for level in levels])
        bar.ax.minorticks_off()
        bar.set_label("bits/dim")
        legend(figure, [Line2D([], [], label=label, **look) for label, look in _MARKS.items()])
        return export(figure)


def _panel(axes: Any, item: Landscape, title: str, levels: np.ndarray, norm: Any) -> Any:
    places, path = item.found["axes"], np.array(item.found["coordinates"])
    axes.set_facecolor(OUTSIDE)
    grid = np.ma.masked_invalid(item.grid)
    colours = {"cmap": COLOURS, "norm": norm}
    filled = axes.contourf(*places, grid, levels=levels, extend="both", **colours)
    axes.contour(*places, grid, levels=levels, colors="white", linewidths=0.4, alpha=0.6)
    outline = [patheffects.Stroke(linewidth=2.4, foreground=INK), patheffects.Normal()]
    axes.plot(*path.T, color="white", linewidth=1.1, path_effects=outline, zorder=3)
    axes.scatter(*path.T, c=item.own, s=16, edgecolors="white", linewidths=0.7, zorder=4, **colours)
    for look, place in zip(_MARKS.values(), path[[0, -1]], strict=True):
        axes.plot(*place, **look, zorder=5)
    axes.set_aspect("equal")
    share = sum(item.found["shares"][:2])
    null = item.record["null_averaged"] or item.record["null"]
    axes.set_title(f"{title}\nplane {percent([share])}, random walk {percent([null])}")
    for index, name in enumerate("xy"):
        axes.set(**{f"{name}label": f"component {index + 1} ({percent([item.found['shares'][index]])})"})
    return filled


_MARKS: dict[str, dict[str, Any]] = {
    "first checkpoint": {"marker": "o", "markersize": 7, "color": "white", "markeredgecolor": INK, "ls": "none"},
    "last checkpoint": {"marker": "*", "markersize": 11, "color": "white", "markeredgecolor": INK, "ls": "none"},
}


def _tick(level: float, levels: np.ndarray) -> str:
    """As many decimals as tell the level from its neighbour."""
    decimals = max(0, min(6, 1 - math.floor(math.log10(float(levels[1] - levels[0])))))
    return words.number(level, decimals if level < levels[LEVELS // 2] else max(0, decimals - 1))
