"""Figures made of lines: one for each variant in panels that share their axes, one or more quantities of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator

from ddpm_bench.report import words
from ddpm_bench.report.figures import FAINT, export, legend, log_axis, new_figure, style
from ddpm_bench.report.figures.encoding import Encoding

FEW = 6
"""Places on a logarithmic axis that are named one by one."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What is drawn over x. lines: y by x for each line of the encoding, an empty one is left out.

    errors: half widths of error bars, as `lines`; height: inches of a panel; levels: (y, label) of horizontal
    reference lines; dot_at: an x whose value belongs to no line and is drawn as a dot.
    """

    label: str
    lines: Sequence[pd.Series]
    errors: Sequence[pd.Series] | None = None
    log: bool = False
    height: float = 2.1
    limits: tuple[float, float] | None = None
    levels: Sequence[tuple[float, str]] = ()
    dot_at: float | None = None
    points: bool = False


def draw_lines(
    encoding: Encoding,
    quantities: Sequence[Quantity],
    x_label: str,
    log_x: bool = False,
    x_limits: tuple[float, float] | None = None,
) -> tuple[str, bytes]:
    """The figure as (SVG, PDF): quantities beside each other where there is one panel, else each row of panels by
    quantity below each other."""
    beside = len(encoding.panels) == 1 and len(quantities) > 1 and all(item.height >= 2 for item in quantities)
    bands = [(row, [item]) for row in encoding.rows for item in quantities]
    if beside:
        wide = 2 if len(quantities) in (2, 4) else 3
        starts = range(0, len(quantities), wide)
        bands = [(encoding.rows[0], list(quantities[start : start + wide])) for start in starts]
    columns = max(len(band) for _, band in bands) if beside else encoding.num_columns
    heights = [band[0].height if columns > 1 or len(bands) > 1 else 3.0 for _, band in bands]
    with style():
        figure = new_figure(8.6, 0.5 + 0.25 * len(encoding.rows) + sum(heights))
        grid = figure.add_gridspec(len(bands), columns, height_ratios=heights)
        leaders: dict[int, Any] = {}
        bottom: dict[int, Any] = {}
        first_x: Any = None
        for band_index, (row, band) in enumerate(bands):
            cells = [(row[0], item) for item in band] if beside else [(title, band[0]) for title in row]
            for column, (title, item) in enumerate(cells):
                if title is None:
                    continue
                leader = leaders.get(id(item))
                axes = figure.add_subplot(grid[band_index, column], sharex=first_x, sharey=leader)
                leaders.setdefault(id(item), axes)
                first_x = first_x or axes
                bottom[column] = axes
                _panel(axes, encoding, encoding.panels[title], item)
                if title == [shown for shown in row if shown is not None][-1]:
                    _name_levels(axes, item)
                if beside or item is quantities[0]:
                    axes.set_title(words.mathtext(item.label if beside else title))
                if column == 0 and not beside:
                    axes.set_ylabel(words.mathtext(item.label))
                elif not beside:
                    axes.tick_params(labelleft=False)
                axes.tick_params(labelbottom=False)
        for axes in bottom.values():
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(words.mathtext(x_label))
        for item in quantities:
            _scale_y(leaders[id(item)], item)
        _scale_x(first_x, quantities, log_x, x_limits)
        legend(figure, *encoding.handles())
        return export(figure)


def _panel(axes: Any, encoding: Encoding, chosen: list[int], item: Quantity) -> None:
    for level, _ in item.levels:
        axes.axhline(level, color=FAINT, linewidth=0.8, zorder=1)
    for index in chosen:
        line = item.lines[index].dropna()
        line = line[line > 0] if item.log else line
        look = encoding.looks[index].style()
        apart = line[line.index == item.dot_at] if item.dot_at is not None else line[:0]
        joined = line.drop(apart.index)
        if item.points or len(joined) == 1:  # one point has no line
            look |= {"marker": look.get("marker", "o"), "markersize": 3.2, "markevery": 1}
        axes.plot(joined.index, joined, **look)
        axes.plot(apart.index, apart, "o", markersize=3.5, color=look["color"])
        if item.errors is not None:
            bars = item.errors[index].reindex(joined.index)
            axes.errorbar(joined.index, joined, bars, fmt="none", ecolor=look["color"], elinewidth=0.9, capsize=2)


def _name_levels(axes: Any, item: Quantity) -> None:
    """The names of the reference lines, to the right of the last panel of a row."""
    for level, label in item.levels:
        axes.annotate(
            words.mathtext(label), (1, level), xycoords=("axes fraction", "data"), xytext=(4, 0), fontsize=8,
            textcoords="offset points", va="center", annotation_clip=False,
        )  # fmt: skip


def _scale_y(axes: Any, item: Quantity) -> None:
    values = pd.concat([line.dropna() for line in item.lines])
    if item.log:
        values = values[values > 0]
        axes.set_yscale("log")
        if len(values):
            log_axis(axes.yaxis, float(values.min()), float(values.max()))
    if item.limits is not None:
        axes.set_ylim(*item.limits)


def _scale_x(axes: Any, quantities: Sequence[Quantity], log_x: bool, limits: tuple[float, float] | None) -> None:
    x = np.concatenate([np.asarray(line.dropna().index, float) for item in quantities for line in item.lines])
    axes.margins(x=0.02)
    if log_x:
        axes.set_xscale("log")
        log_axis(axes.xaxis, max(float(x.min()), 1e-9), max(float(x.max()), 2 * float(x.min())))
        few = 2 <= len(np.unique(x)) <= FEW
        axes.xaxis.set_major_locator(
            FixedLocator(np.unique(x).tolist()) if few else LogLocator(subs=(1, 2, 5), numticks=20)
        )
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    if limits is not None:
        axes.set_xlim(*limits)
