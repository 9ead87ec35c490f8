"""Where the bound is paid: KL at each t, one line for each variant, one panel for each schedule."""

from __future__ import annotations

import math

import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing, Encoding, encode, export, new_figure, style
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """Lines over t on a logarithmic scale; L_0, which belongs to t = 1, is a dot because it is no KL."""
    table = view.timestep_kl
    series = {}
    for group in groups:
        rows = table[table["cell_id"].isin([cell["id"] for cell in group.done])]
        if len(rows):
            series[group.key] = rows.groupby("t", sort=True)["kl"].mean()
    shown = [group for group in groups if group.key in series]
    if not shown:
        return None
    encoding = encode(shown)
    svg, pdf = _draw(encoding, series)
    data = pd.DataFrame({group.label: series[group.key] for group in shown}).rename_axis("t").reset_index()
    seeds = max(len(group.done) for group in shown)
    first = [series[group.key] for group in shown]
    share = sum(float(line[line.index <= 10].sum() / line.sum()) for line in first) / len(first)
    return Drawing(
        name="timestep_kl",
        title="KL at each timestep",
        caption="L_{t−1} = KL(q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t)) in bits/dim on the test split over t = 1 … T "
        "of the original process, on a logarithmic scale; the dot at t = 1 is L_0. "
        + (f"Means over up to {words.count(seeds, 'seed')}. " if seeds > 1 else "")
        + ("Panels hold what is not compared line by line: values at equal t of different schedules belong to "
           "different noise." if len(encoding.panels) > 1 else ""),
        alternative=f"Lines of {words.count(len(shown), 'variant')} in {words.count(len(encoding.panels), 'panel')}. "
        f"On average {100 * share:.0f} % of L_0 + Σ L_(t−1) lies at t ≤ 10.",
        data=data,
        svg=svg,
        pdf=pdf,
    )  # fmt: skip


def _draw(encoding: Encoding, series: dict[str, pd.Series]) -> tuple[str, bytes]:
    count = len(encoding.panels)
    ncols = min(count, 2 if count in (2, 4) else 3)
    nrows = math.ceil(count / ncols)
    with style():
        figure = new_figure(8.6, 0.7 + (2.9 if nrows == 1 else 2.4) * nrows)
        grid = figure.subplots(nrows, ncols, sharey=True, squeeze=False)
        for axes in grid.flat[count:]:
            axes.set_axis_off()
        for index, (title, groups) in enumerate(encoding.panels.items()):
            axes = grid.flat[index]
            for group in groups:
                line = series[group.key]
                line = line[line > 0]
                look = {"color": encoding.colour[group.key]}
                axes.plot(line.index[line.index > 1], line[line.index > 1], linestyle=encoding.dashes[group.key], **look)
                axes.plot(line.index[line.index == 1], line[line.index == 1], "o", markersize=3.5, **look)
            axes.set_yscale("log")
            axes.set_title(words.mathtext(title))
            axes.margins(x=0.02)
            last = max(int(series[group.key].index.max()) for group in groups)
            axes.set_xticks(ticks(last))
            if index >= count - ncols:
                axes.set_xlabel(words.mathtext("t (1 = least noise)"))
            if index % ncols == 0:
                axes.set_ylabel("bits/dim")
        handles = encoding.handles()
        if len(handles) > 1:
            widest = max(len(str(handle.get_label())) for handle in handles)
            figure.legend(handles=handles, loc="outside upper left", ncols=3 if widest > 40 else 5, columnspacing=1.6)
        return export(figure)


def ticks(last: int) -> list[int]:
    """1, …, T in round steps: the axis begins at 1 as the papers count."""
    step = 10 ** math.floor(math.log10(max(last / 4, 1)))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if last / (step * factor) <= 5)
    inner = [int(step * index) for index in range(1, int(last / step) + 1)]
    return [1, *(tick for tick in inner if 1 < tick < last - step / 2), last] if last > 1 else [1]
