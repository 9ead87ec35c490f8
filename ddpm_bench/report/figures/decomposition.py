"""What bits/dim is made of: L_0, mean cost, variance cost and L_T of each variant, stacked."""

from __future__ import annotations

import pandas as pd
from matplotlib.container import BarContainer

from ddpm_bench.report import words
from ddpm_bench.report.figures import FAINT, INK, Drawing, export, legend, new_figure, style
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Column, Summary, Variant, columns, varied_axes

COLOURS = {"bits_per_dim_l_0": "#0173b2", "bits_per_dim_mean_cost": "#56b4e9", "bits_per_dim_variance_cost": "#de8f05"}
COLOURS["bits_per_dim_l_T"] = "#949494"

LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """Stacked bars, one for each variant with all four terms; a variant's terms come from the same seeds as its sum."""
    names = ["bits_per_dim", "bits_per_dim_train", *words.PARTS]
    found = {column.metric: column for column in columns(view, names) if column.number in (0, 1)}
    if not set(words.PARTS) | {"bits_per_dim"} <= set(found):
        return None
    varied = varied_axes(view)
    rows = [(group, _terms(group, found, varied)) for group in groups]
    shown = [(group, terms) for group, terms in rows if all(terms[part].mean is not None for part in words.PARTS)]
    if not shown:
        return None
    baselines = [item for item in view.data["baselines"] if item["metric"] == "bits_per_dim" and item["value"]]
    data = _table(shown)
    svg, pdf = _draw(shown, baselines, data)
    lowest = data.loc[data["bits_per_dim"].idxmin()]
    left_out = len(groups) - len(shown)
    caption = (
        "Upper bound on the negative log-likelihood of the test split in bits/dim, itemised: L_0 (decoder), the mean "
        "cost and the variance cost of the L_{t−1} summed over t, and L_T (prior). Means over the seeds of a variant."
    )
    if "bits_per_dim_train" in data:
        caption += " The open circle is bits/dim of the training split."
    if baselines:
        caption += " Vertical lines: " + " and ".join(item["name"] for item in baselines) + "."
    if data["bits_per_dim"].max() > axis_limit(data["bits_per_dim"].max(), _ceiling(baselines)):
        caption += " A bar with an arrow is cut; its number is whole."
    if left_out:
        caption += f" {words.count(left_out, 'variant')} without a value left out."
    return Drawing(
        name="decomposition",
        title="What bits/dim is made of",
        caption=caption,
        alternative=f"Stacked bars of {words.count(len(shown), 'variant')}. The shortest is {lowest['variant']} with "
        f"{lowest['bits_per_dim']:.3f} bits/dim, the longest reaches {data['bits_per_dim'].max():.3f}.",
        data=data,
        svg=svg,
        pdf=pdf,
    )


def _terms(group: Variant, found: dict[str, Column], varied: list[str]) -> dict[str, Summary]:
    return {name: group.summary(column, varied) for name, column in found.items()}


def _table(shown: list[tuple[Variant, dict[str, Summary]]]) -> pd.DataFrame:
    rows = [{"variant": group.label} | {name: item.mean for name, item in terms.items()} for group, terms in shown]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _ceiling(baselines: list) -> float:
    return max([item["value"] for item in baselines], default=0.0)


def axis_limit(longest: float, ceiling: float) -> float:
    """Where the axis ends: bars beyond twice the worst baseline are cut, so that one vacuous bound does not flatten
    the rest."""
    if ceiling and longest > 2 * ceiling:
        return 2.1 * ceiling
    return max(1.12 * longest, 1.06 * ceiling)


def _draw(shown: list[tuple[Variant, dict[str, Summary]]], baselines: list, data: pd.DataFrame) -> tuple[str, bytes]:
    limit = axis_limit(data["bits_per_dim"].max(), _ceiling(baselines))
    with style():
        figure = new_figure(8.6, 0.9 + 0.27 * len(shown))
        axes = figure.subplots()
        left = pd.Series(0.0, index=data.index)
        for part, title in words.PARTS.items():
            axes.barh(data.index, data[part], left=left, height=0.66, color=COLOURS[part], label=words.mathtext(title))
            left = left + data[part]
        for item, dash in zip(baselines, LINES * len(baselines), strict=False):
            label = f"{item['name']}, {item['value']:.2f}"
            axes.axvline(item["value"], color=INK, linewidth=1, linestyle=dash, label=label)
        if "bits_per_dim_train" in data:
            train = data["bits_per_dim_train"]
            axes.plot(
                train.where(train < limit), data.index, "o", markersize=3.6, markerfacecolor="white",
                markeredgecolor=INK, markeredgewidth=0.8, label="training split",
            )  # fmt: skip
        for index, total in data["bits_per_dim"].items():
            cut = total > limit
            axes.annotate(
                f"→ {total:.3g}" if cut else f"{total:.2f}", (limit if cut else total, index),
                xytext=(-4 if cut else 5, 0), textcoords="offset points", va="center", ha="right" if cut else "left",
                fontsize=7.5, bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
            )  # fmt: skip
        axes.set_xlim(0, limit)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(data.index, [words.mathtext(label) for label in data["variant"]])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_color(FAINT)
        axes.set_xlabel("bits/dim (test split)")
        handles, _ = axes.get_legend_handles_labels()
        bars = [handle for handle in handles if isinstance(handle, BarContainer)]
        legend(figure, bars + [handle for handle in handles if handle not in bars], per_row=7)
        return export(figure)
