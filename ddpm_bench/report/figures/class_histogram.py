"""Which classes the variants generate, beside those of the real images."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ddpm_bench.report import words
from ddpm_bench.report.figures import INK, Drawing, export, new_figure, style
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Column, Variant, columns, metrics_with_table, varied_axes

TABLE = "class_histogram"
REAL = "real images"
COLOURS = "PuOr_r"
"""Purple and orange, which colour-blind readers tell apart: fewer and more than of the real images."""
MAX_ANNOTATED = 40
"""Rows up to which shares are written into their fields."""


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """A field for each variant and class, coloured by the difference from the real images; None without such a table.

    The first metric alone: a second one would be another classifier of the same classes.
    """
    varied = varied_axes(view)
    for column in columns(view, metrics_with_table(view, TABLE)):
        drawn = [(group, shares) for group in groups if (shares := _shares(column, group, varied)) is not None]
        labels = [group.label for group, _ in drawn]
        # A name stands for one row: variants of equal words are told apart by their keys.
        found = {group.key if labels.count(group.label) > 1 else group.label: shares for group, shares in drawn}
        if found:
            return _drawing(column, found)
    return None


def _shares(column: Column, group: Variant, varied: list[str]) -> pd.DataFrame | None:
    """generated and reference in per cent by class, mean over generations and seeds; None where there are none."""
    cells = [cell for cell, _ in group.estimates(column, varied).values()]
    rows = [row for cell in cells for row in cell["tables"].get(column.metric, {}).get(TABLE, [])]
    if not rows:
        return None
    return 100 * pd.DataFrame(rows).groupby("class", sort=False)[["generated", "reference"]].mean()


def _drawing(column: Column, found: dict[str, pd.DataFrame]) -> Drawing:
    reference = next(iter(found.values()))["reference"]
    rows = {REAL: reference, **{label: shares["generated"] for label, shares in found.items()}}
    data = pd.DataFrame(rows).T.rename_axis("variant")
    differences = data - reference
    widest = float(np.abs(differences).to_numpy().max()) or 1.0
    with style():
        figure = new_figure(8.6, 0.8 + 0.24 * len(data))
        axes = figure.add_subplot()
        colours = axes.pcolormesh(differences.to_numpy(), cmap=COLOURS, vmin=-widest, vmax=widest)
        _label(axes, data)
        if len(data) <= MAX_ANNOTATED:
            _annotate(axes, data, differences / widest)
        bar = figure.colorbar(colours, ax=axes, pad=0.01, aspect=12)
        bar.set_label("points above real images")
        svg, pdf = export(figure)
    gap = differences.iloc[1:].stack()
    variant, name = gap.abs().idxmax()
    most = f"{data.loc[variant, name]:.1f} % instead of {reference[name]:.1f} % (class {name}, {variant})"
    return Drawing(
        name=TABLE,
        title="Classes of the generated images",
        caption="Per cent of the images in each class, as predicted by the classifier of "
        f"{column.protocol['extractor']} for generated and real images alike; mean over the seeds of a variant and its "
        "generations. Colours: the difference from the real images, in points.",
        alternative=f"Shares of {data.shape[1]} classes for {words.count(len(found), 'variant')} below those of real "
        f"images. The largest difference: {most}.",
        data=data.reset_index(),
        svg=svg,
        pdf=pdf,
    )


def _label(axes: Axes, data: pd.DataFrame) -> None:
    axes.set_xticks(np.arange(data.shape[1]) + 0.5, [words.mathtext(str(name)) for name in data.columns])
    axes.set_yticks(np.arange(len(data)) + 0.5, [words.mathtext(label) for label in data.index])
    axes.invert_yaxis()
    axes.grid(False)
    axes.tick_params(length=0)
    if any(len(str(name)) > 6 for name in data.columns):
        axes.tick_params(axis="x", labelrotation=30)


def _annotate(axes: Axes, data: pd.DataFrame, strength: pd.DataFrame) -> None:
    """The shares in their fields, white on dark ones."""
    for (i, j), value in np.ndenumerate(data.to_numpy()):
        dark = abs(strength.iloc[i, j]) > 0.65
        axes.text(
            j + 0.5, i + 0.5, f"{value:.1f}", ha="center", va="center", fontsize=7, color="white" if dark else INK
        )
