"""Where the bound is paid: KL at each t, one line for each variant, one panel for each schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing, Encoding, encode, export, legend, log_axis, new_figure, style
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """Lines over t on logarithmic scales (most of the bound lies at small t), and their ratio to the panel's first
    variant; L_0, which belongs to t = 1, is a dot because it is no KL."""
    table = view.timestep_kl
    series = {}
    for group in groups:
        rows = table[table["cell_id"].isin([cell["id"] for cell in group.done])]
        if len(rows):
            series[group.key] = rows.groupby("t", sort=True)["kl"].mean()
    shown = [group for group in groups if group.key in series]
    if not shown:
        return None
    encoding = encode([group.axes for group in shown], ("schedule", "timesteps"))
    lines = [series[group.key] for group in shown]
    svg, pdf = _draw(encoding, lines, [group.label for group in shown])
    data = pd.DataFrame({group.label: series[group.key] for group in shown}).rename_axis("t").reset_index()
    seeds = max(len(group.done) for group in shown)
    share = sum(float(line[line.index <= 10].sum() / line.sum()) for line in lines) / len(lines)
    caption = (
        "The terms of the bound in bits/dim on the test split, t = 1 … T of the original process, both scales "
        "logarithmic: L_{t−1} = KL(q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t)) as lines, L_0 as the dot at t = 1. "
    )
    if seeds > 1:
        caption += f"Means over up to {seeds} seeds. "
    if any(len(chosen) > 1 for chosen in encoding.panels.values()):
        caption += "Below, the same divided by the panel's first variant (the level line). "
    if len(encoding.panels) > 1:
        caption += "Equal t of different schedules is different noise: compare within a panel."
    return Drawing(
        name="timestep_kl",
        title="KL at each timestep",
        caption=caption.strip(),
        alternative=f"Lines of {words.count(len(shown), 'variant')} in {words.count(len(encoding.panels), 'panel')}. "
        f"On average {100 * share:.0f} % of L_0 and the L_(t−1) together lies at t ≤ 10.",
        data=data,
        svg=svg,
        pdf=pdf,
    )


def _draw(encoding: Encoding, lines: list[pd.Series], labels: list[str]) -> tuple[str, bytes]:
    several = any(len(chosen) > 1 for chosen in encoding.panels.values())
    titles = list(encoding.panels)
    rows = [titles[start : start + 3] for start in range(0, len(titles), 3)]
    ncols = max(map(len, rows))
    heights = [2.6, 1.5] if several else [3.0]
    with style():
        figure = new_figure(8.6, 0.5 + sum(heights) * len(rows))
        grid = figure.subplots(
            len(rows) * len(heights), ncols, sharex="col", sharey="row", squeeze=False,
            gridspec_kw={"height_ratios": heights * len(rows)},
        )  # fmt: skip
        for index, axes in np.ndenumerate(grid):
            column, row = index[1], index[0] // len(heights)
            if column >= len(rows[row]):
                axes.set_axis_off()
                continue
            title = rows[row][column]
            ratio = index[0] % len(heights) == 1
            chosen = encoding.panels[title]
            first = lines[chosen[0]] if ratio else None
            _panel(axes, encoding, chosen, lines, first)
            if not ratio:
                axes.set_title(words.mathtext(title))
            if column == 0:
                axes.set_ylabel("ratio to the first" if ratio else "bits/dim")
            if index[0] == len(grid) - 1:
                axes.set_xlabel("t")
        legend(figure, encoding.handles())
        return export(figure)


def _panel(axes: Any, encoding: Encoding, chosen: list[int], lines: list[pd.Series], first: pd.Series | None) -> None:
    """One panel; `first` divides every line."""
    drawn = []
    for index in chosen:
        line = lines[index] if first is None else (lines[index] / first).dropna()
        line = line[(line > 0) & np.isfinite(line)]
        look = {"color": encoding.colours[index]}
        axes.plot(line.index[line.index > 1], line[line.index > 1], ls=encoding.dashes[index], **look)
        axes.plot(line.index[line.index == 1], line[line.index == 1], "o", markersize=3.5, **look)
        drawn.append(line)
    values = pd.concat(drawn)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.02)
    log_axis(axes.xaxis, 1, max(float(values.index.max()), 2))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    log_axis(axes.yaxis, float(values.min()), float(values.max()))
