"""What each axis does with every other axis held fixed: a forest plot, exploratory."""

from __future__ import annotations

import statistics
import textwrap
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from ddpm_bench.effects import Effect, effects
from ddpm_bench.report import words
from ddpm_bench.report.figures import FAINT, INK, Drawing, export, legend, new_figure, style
from ddpm_bench.report.figures.encoding import PALETTE
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant, metric_names, varied_axes

TITLE = 84
"""Characters of titles that fit beside each other."""
WIDE_RANGE = 40
"""Where the largest effect is so many times the median one, the scale is logarithmic on both sides of 0."""


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """A row for each level of each axis against its first level, a panel for each metric; None without any effect."""
    varied, names = varied_axes(view), metric_names(view)
    shown = [name for name in names if not words.is_companion(name, names)]
    found = effects(view.cells, varied, shown)
    if not found:
        return None
    rows = list(dict.fromkeys((item.axis, item.level, item.against) for item in found))
    metrics = list(dict.fromkeys(item.metric for item in found))
    wide = {metric: _wide([item.effect for item in found if item.metric == metric]) for metric in metrics}
    svg, pdf = _draw(found, rows, metrics, wide)
    return Drawing(
        name="effects",
        title="Effect of each axis",
        caption=_caption(found, varied, shown, [words.metric(metric) for metric in metrics if wide[metric]]),
        alternative=f"Forest plot of {words.count(len(rows), 'comparison')} on {words.count(len(metrics), 'metric')}. "
        + " ".join(_sentence(item) for item in found if item.metric == metrics[0]),
        data=_data(found),
        svg=svg,
        pdf=pdf,
    )


def _wide(values: list[float]) -> bool:
    sizes = [abs(value) for value in values]
    return len(sizes) > 2 and max(sizes) > WIDE_RANGE * statistics.median(sizes) > 0


def _caption(found: list[Effect], varied: list[str], shown: list[str], wide: list[str]) -> str:
    seeds = max(len(item.seeds) for item in found)
    text = "What changes when one axis takes another value and every other axis is held fixed: difference to the "
    text += "axis's first value, averaged over the combinations of the other axes in which all compared values exist. "
    text += "Exploratory: not corrected for the number of comparisons"
    if seeds > 1:
        text += "; bars are 95 % t intervals over seeds, small dots the seeds. Filled: the interval excludes 0."
    else:
        text += ", and of one seed, which says nothing about another training."
    missing = [words.axis(name) for name in varied if name not in {item.axis for item in found}]
    if missing:
        text += f" No row for {', '.join(missing)}: no combination of the other axes has two of its values."
    apart = {item.axis: item.left_out for item in found if item.left_out}
    if apart:
        listed = [words.phrase(axis, level) for axis, levels in apart.items() for level in levels]
        text += f" Not compared, for want of such combinations: {', '.join(listed)}."
    if any(0 < item.share < 1 for item in found) or {item.share for item in found} == {0.0, 1.0}:
        text += " Differences of reverse-process axes are of one training where cells share it."
    left_out = [words.metric(name) for name in shown if name not in {item.metric for item in found}]
    if left_out:
        text += f" Not shown: {', '.join(left_out)} (no fair comparison, or too few images for a claim)."
    if wide:
        text += f" Logarithmic away from 0: {', '.join(wide)}."
    return text


def _sentence(item: Effect) -> str:
    text = f"{words.phrase(item.axis, item.level)} against {words.phrase(item.axis, item.against)}: {item.effect:.3g}"
    if item.interval:
        text += f" ({item.interval[0]:.3g} to {item.interval[1]:.3g})"
    return f"{text} {words.metric(item.metric)}."


def _data(found: list[Effect]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "axis": words.axis(item.axis), "value": words.value(item.axis, item.level),
                "against": words.value(item.axis, item.against), "metric": words.metric(item.metric),
                "difference": item.effect, "low": item.interval[0] if item.interval else None,
                "high": item.interval[1] if item.interval else None, "seeds": len(item.seeds),
                "contexts": item.contexts,
            }
            for item in found
        ]
    ).astype({"low": float, "high": float})  # fmt: skip


def _draw(
    found: list[Effect], rows: list[tuple[str, str, str]], metrics: list[str], wide: dict[str, bool]
) -> tuple[str, bytes]:
    abreast = 2 if len(metrics) in (2, 4) else 3
    bands = [metrics[start : start + abreast] for start in range(0, len(metrics), abreast)]
    gaps = [index for index in range(1, len(rows)) if rows[index][0] != rows[index - 1][0]]
    with style():
        figure = new_figure(8.6, 0.35 + len(bands) * (0.75 + 0.25 * len(rows)))
        grid = figure.add_gridspec(len(bands), max(map(len, bands)))
        for band_index, band in enumerate(bands):
            for column, metric in enumerate(band):
                axes = figure.add_subplot(grid[band_index, column])
                _panel(axes, [item for item in found if item.metric == metric], rows, gaps, wide[metric])
                title = textwrap.fill(words.metric(metric), TITLE // len(bands[0]))
                axes.set_title(words.mathtext(title))
                if column:
                    axes.tick_params(labelleft=False)
        if any(item.interval for item in found):
            bar = Line2D([], [], color=PALETTE[0], marker="o", ms=5, label="mean with 95 % interval")
            legend(figure, [bar, Line2D([], [], ls="none", marker="o", ms=2.6, mew=0, color=FAINT, label="a seed")])
        return export(figure)


def _panel(axes: Any, found: list[Effect], rows: list[tuple[str, str, str]], gaps: list[int], wide: bool) -> None:
    axes.axvline(0, color=INK, lw=0.8, zorder=1)
    for gap in gaps:
        axes.axhline(gap - 0.5, color="#dddddd", lw=0.6, zorder=0.5)
    for item in found:
        place = rows.index((item.axis, item.level, item.against))
        clear = item.interval is not None and item.interval[0] * item.interval[1] > 0
        if item.interval:
            axes.plot(item.interval, [place, place], color=PALETTE[0], lw=1.4, solid_capstyle="butt", zorder=3)
        if len(item.per_seed) > 1:
            axes.plot(
                item.per_seed, [place + 0.24] * len(item.per_seed), ls="none", marker="o", ms=2.4, mew=0, color=FAINT
            )
        face = PALETTE[0] if clear else "white"
        axes.plot([item.effect], [place], "o", ms=5, color=PALETTE[0], markerfacecolor=face, zorder=4)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    labels = [f"{words.phrase(axis, level)}  −  {words.phrase(axis, first)}" for axis, level, first in rows]
    axes.set_yticks(range(len(rows)), map(words.mathtext, labels))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    if wide:
        threshold = statistics.median(abs(item.effect) for item in found)
        axes.set_xscale("symlog", linthresh=threshold, linscale=0.8)
        axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.08)
    change = f"Δ {found[0].unit}".rstrip()
    axes.set_xlabel(f"{change}   better →" if found[0].higher_is_better else f"← better   {change}")
