"""What bits/dim is made of: L_0, mean cost, variance cost and L_T of each variant, stacked; train beside test."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ddpm_bench.report import words
from ddpm_bench.report.figures import FAINT, INK, Drawing, export, legend, new_figure, style
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Column, Variant, columns, varied_axes

COLOURS = {"bits_per_dim_l_0": "#0173b2", "bits_per_dim_mean_cost": "#56b4e9", "bits_per_dim_variance_cost": "#de8f05"}
COLOURS["bits_per_dim_l_T"] = "#949494"

LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))

MANY_BARS = 24
"""More bars than this stand in columns, one for each value of an axis."""

TOTAL, TRAIN = "bits_per_dim", "bits_per_dim_train"
TRAIN_PARTS = {part: f"{part}_train" for part in words.PARTS}
ERRORS = {"stderr": "± over images", "stderr_noise": "± over noise"}
HEADINGS = words.PARTS | {TOTAL: "bits/dim", words.NETWORK: "network part", TRAIN: "train: bits/dim"} | ERRORS


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """Stacked bars, one for each variant with all four terms; a variant's terms come from the same seeds as its sum."""
    names = [TOTAL, *words.PARTS, words.NETWORK, TRAIN, *TRAIN_PARTS.values()]
    found = {column.metric: column for column in columns(view, names) if column.number in (0, 1)}
    if not set(words.PARTS) | {TOTAL} <= set(found):
        return None
    varied = varied_axes(view)
    rows = [(group, _row(group, found, varied)) for group in groups]
    shown = [(group, row) for group, row in rows if all(row[part] is not None for part in words.PARTS)]
    if not shown:
        return None
    baselines = [item for item in view.data["baselines"] if item["metric"] == TOTAL and item["value"]]
    data = pd.DataFrame([{"variant": group.label} | row for group, row in shown]).dropna(axis="columns", how="all")
    svg, pdf = _draw([group for group, _ in shown], baselines, data)
    lowest = data.loc[data[TOTAL].idxmin()]
    return Drawing(
        name="decomposition",
        title="What bits/dim is made of",
        caption=_caption(data, baselines, len(groups) - len(shown)),
        alternative=f"Stacked bars of {words.count(len(shown), 'variant')}. The shortest is {lowest['variant']} with "
        f"{lowest[TOTAL]:.3f} bits/dim, the longest reaches {data[TOTAL].max():.3f}.",
        data=data,
        svg=svg,
        pdf=pdf,
        table="Bits per dimension, itemised",
        headings={name: text for name, text in HEADINGS.items() if name in data},
        note=_note(data, max(len(group.done) for group, _ in shown)),
    )


def _row(group: Variant, found: dict[str, Column], varied: list[str]) -> dict[str, float | None]:
    """The means over seeds, and the two standard errors of bits/dim of one seed."""
    row = {name: group.summary(column, varied).mean for name, column in found.items()}
    records = [record for _, record in group.estimates(found[TOTAL], varied).values()]
    return row | {name: _root_mean_square([record[name] for record in records]) for name in ERRORS}


def _root_mean_square(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.sqrt(math.fsum(value**2 for value in known) / len(known)) if known else None


def _caption(data: pd.DataFrame, baselines: list[dict[str, Any]], left_out: int) -> str:
    caption = (
        "Upper bound on the negative log-likelihood of the test split in bits/dim, itemised: L_0 (decoder), the mean "
        "cost and the variance cost of the L_{t−1} summed over t, and L_T (prior). Means over the seeds of a variant."
    )
    if words.NETWORK in data:
        share = data[words.NETWORK] / data[TOTAL]
        caption += (
            " The tick is what a perfect network (x̂₀ = x_0) would pay with the same σ²; what is beyond it is the "
            f"network's part, {100 * share.min():.0f} to {100 * share.max():.0f} % of the whole."
        )
    if TRAIN in data:
        caption += " The thin pale bar below is the training split."
    if baselines:
        caption += " Vertical lines: " + " and ".join(item["name"] for item in baselines) + "."
    if data[TOTAL].max() > axis_limit(data[TOTAL].max(), _ceiling(baselines)):
        caption += " A bar with an arrow is cut; its number is whole."
    if left_out:
        caption += f" {words.count(left_out, 'variant')} without a value left out."
    return caption


def _note(data: pd.DataFrame, seeds: int) -> str:
    note = "L_0, both costs and L_T add up to bits/dim of the test split."
    if words.NETWORK in data:
        note += " Network part: bits/dim minus that of a perfect network with the same σ²."
    if "stderr" in data:
        note += " ± over images: standard error of bits/dim, the images being a sample of a population"
        note += "; over noise: of the noise draws, the images held fixed." if "stderr_noise" in data else "."
        note += " Both of one seed (root mean square over the seeds)." if seeds > 1 else ""
    return note


def _ceiling(baselines: list) -> float:
    return max([item["value"] for item in baselines], default=0.0)


def axis_limit(longest: float, ceiling: float) -> float:
    """Where the axis ends: bars beyond twice the worst baseline are cut, so that one vacuous bound does not flatten
    the rest."""
    if ceiling and longest > 2 * ceiling:
        return 2.1 * ceiling
    return max(1.12 * longest, 1.06 * ceiling)


def column_axis(lines: list[dict[str, str]]) -> str | None:
    """The axis whose two or three values become columns of bars: the one that leaves the fewest gaps; None for few
    bars. lines: the varied axes of each bar."""
    if len(lines) <= MANY_BARS:
        return None
    gaps = {}
    for name in lines[0]:
        levels = {line[name] for line in lines}
        if len(levels) in (2, 3):
            rows = {tuple(item for key, item in line.items() if key != name) for line in lines}
            gaps[name] = len(rows) * len(levels) - len(lines)
    return min(gaps, key=lambda name: gaps[name]) if gaps else None


def _draw(groups: list[Variant], baselines: list[dict[str, Any]], data: pd.DataFrame) -> tuple[str, bytes]:
    limit = axis_limit(data[TOTAL].max(), _ceiling(baselines))
    axis = column_axis([group.axes for group in groups])
    levels = list(dict.fromkeys(group.axes[axis] for group in groups)) if axis else [""]
    rests = [", ".join(words.phrase(*item) for item in group.axes.items() if item[0] != axis) for group in groups]
    labels = list(dict.fromkeys(rests)) if axis else [group.label for group in groups]
    place = {label: index for index, label in enumerate(labels)}
    with style():
        figure = new_figure(8.6, 0.9 + 0.27 * len(labels) + (0.3 if axis else 0))
        panels = figure.subplots(1, len(levels), squeeze=False, sharey=True)[0]
        for axes, level in zip(panels, levels, strict=True):
            chosen = [index for index, group in enumerate(groups) if not axis or group.axes[axis] == level]
            part = data.iloc[chosen].set_index(pd.Index([place[rests[i]] if axis else i for i in chosen]))
            _bars(axes, part, baselines, limit)
            for edge in _edges(groups, rests, place) if axis else ():
                axes.axhline(edge - 0.5, color=FAINT, linewidth=0.6)
            axes.set_xlabel("bits/dim (test split)")
            if axis:
                axes.set_title(words.mathtext(words.phrase(axis, level)))
        panels[0].set_ylim(len(labels) - 0.4, -0.6)
        panels[0].set_yticks(range(len(labels)), [words.mathtext(label) for label in labels])
        handles, _ = panels[0].get_legend_handles_labels()
        bars = [handle for handle in handles if isinstance(handle, BarContainer)]
        legend(figure, bars + [handle for handle in handles if handle not in bars] + _extra(data), per_row=7)
        return export(figure)


def _edges(groups: list[Variant], rests: list[str], place: dict[str, int]) -> list[int]:
    """Where, among the labels, the value of the first axis changes."""
    first = {place[rest]: next(iter(group.axes.values())) for group, rest in zip(groups, rests, strict=True)}
    return [index for index in range(1, len(place)) if first[index] != first[index - 1]]


def _extra(data: pd.DataFrame) -> list[Any]:
    found: list[Any] = []
    if words.NETWORK in data:
        tick = Line2D([], [], color=INK, marker="|", markersize=9, markeredgewidth=1.6, ls="none")
        tick.set_label("perfect network")
        found.append(tick)
    if TRAIN in data:
        found.append(Patch(facecolor=COLOURS["bits_per_dim_mean_cost"], alpha=0.55, label="training split"))
    return found


def _bars(axes: Any, data: pd.DataFrame, baselines: list[dict[str, Any]], limit: float) -> None:
    split = TRAIN in data
    stacks = [(words.PARTS, {part: part for part in words.PARTS}, -0.1 if split else 0.0, 0.52 if split else 0.66, 1.0)]
    if split:
        stacks.append(({}, TRAIN_PARTS, 0.29, 0.2, 0.55))
    for titles, names, shift, height, alpha in stacks:
        left = pd.Series(0.0, index=data.index)
        for part, name in names.items():
            title = words.mathtext(titles[part]) if part in titles else None
            look = {"color": COLOURS[part], "alpha": alpha, "label": title, "linewidth": 0}
            axes.barh(data.index + shift, data[name], left=left, height=height, **look)
            left = left + data[name]
    for item, dash in zip(baselines, LINES * len(baselines), strict=False):
        label = f"{item['name']}, {item['value']:.2f}"
        axes.axvline(item["value"], color=INK, linewidth=1, linestyle=dash, label=label)
    if words.NETWORK in data:
        perfect = data[TOTAL] - data[words.NETWORK]
        for width, colour in ((3.4, "white"), (1.6, INK)):
            axes.plot(
                perfect.where(perfect < limit), data.index + stacks[0][2], "|", color=colour, markersize=11,
                markeredgewidth=width,
            )  # fmt: skip
    for index, total in data[TOTAL].items():
        cut = total > limit
        axes.annotate(
            f"→ {total:.3g}" if cut else f"{total:.2f}", (limit if cut else total, index),
            xytext=(-4 if cut else 5, 0), textcoords="offset points", va="center", ha="right" if cut else "left",
            fontsize=7.5, bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    axes.set_xlim(0, limit)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_color(FAINT)
