"""Bits/dim and quality over an axis that counts steps: those of the reverse chain, or those of the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.encoding import encode
from ddpm_bench.report.figures.lines import Quantity, draw_lines
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Column, Summary, Variant, columns, metric_names, varied_axes

Line = tuple[tuple[str, str], ...]
"""A variant without the axis: (axis, label) of the others."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """An axis that counts steps. axis: its key; count: of the axes of a cell; what: what is counted, on the axis of the
    figure; sharing: what the points of a line have in common."""

    axis: str
    name: str
    what: str
    sharing: str
    count: Callable[[dict[str, Any]], int]


def draw_over(view: ResultsView, groups: list[Variant], steps: Steps) -> Drawing | None:
    """One panel for each metric, one line for each variant of the other axes; None where the axis does not vary."""
    varied = varied_axes(view)
    if steps.axis not in varied:
        return None

    def rest(group: Variant) -> Line:
        return tuple((name, item) for name, item in group.axes.items() if name != steps.axis)

    every = metric_names(view)
    names = [name for name in every if not words.is_companion(name, every)]
    lines = list(dict.fromkeys(rest(group) for group in groups))
    found: dict[str, tuple[Column, dict[Line, dict[int, Summary]]]] = {}
    for column in columns(view, names):
        points: dict[Line, dict[int, Summary]] = {line: {} for line in lines}
        for group in groups:
            summary = group.summary(column, varied)
            if summary.mean is not None:
                points[rest(group)][steps.count(group.cells[0]["axes"])] = summary
        if any(len(line) > 1 for line in points.values()):
            found[column.title] = (column, points)
    if not found:
        return None
    drawn = [line for line in lines if any(points[line] for _, points in found.values())]
    encoding = encode([dict(line) for line in drawn] if drawn[0] else [{"variant": ""}])
    quantities = [_quantity(column, [points[line] for line in drawn]) for column, points in found.values()]
    svg, pdf = draw_lines(encoding, quantities, steps.what, log_x=True)
    data = _data(found, drawn)
    kinds = {item.kind for _, points in found.values() for line in points.values() for item in line.values()}
    caption = f"Each metric over the number of {steps.what}; {steps.sharing}. "
    caption += "Bars: " + ("95 % t interval over seeds" if "t" in kinds else "standard error within one training")
    caption += ", of a single one its standard error." if {"t", "stderr"} <= kinds else "."
    if any(column.rank_deficient for column, _ in found.values()):
        caption += " A rank-deficient Fréchet distance supports no ranking."
    counts = sorted(set(data["steps"]))
    return Drawing(
        name=steps.name,
        title=f"The metrics over the number of {steps.what}",
        caption=caption,
        alternative=f"{words.count(len(found), 'panel')} with lines of {words.count(len(drawn), 'variant')} over "
        f"{words.count(len(counts), 'number')} of steps from {counts[0]} to {counts[-1]}. " + _extremes(data),
        data=data,
        svg=svg,
        pdf=pdf,
    )


def _quantity(column: Column, points: list[dict[int, Summary]]) -> Quantity:
    ordered = [dict(sorted(line.items())) for line in points]
    values = [pd.Series({steps: item.mean for steps, item in line.items()}, dtype=float) for line in ordered]
    errors = [pd.Series({steps: item.error for steps, item in line.items()}, dtype=float) for line in ordered]
    every = pd.concat(values)
    log = bool((every > 0).all() and every.max() > 8 * every.min())  # nearly a decade
    return Quantity(label=f"{column.title} {column.arrow}", lines=values, errors=errors, log=log, points=True)


def _data(found: dict[str, tuple[Column, dict]], drawn: list[tuple]) -> pd.DataFrame:
    names = {line: ", ".join(words.phrase(*item) for item in line) or "all" for line in drawn}
    rows = [
        {"variant": names[line], "metric": column.metric, "steps": steps, "value": item.mean, "error": item.error}
        for column, points in found.values()
        for line in drawn
        for steps, item in sorted(points[line].items())
    ]
    return pd.DataFrame(rows)


def _extremes(data: pd.DataFrame) -> str:
    first = data[data["metric"] == data["metric"].iloc[0]]
    low, high = first.loc[first["value"].idxmin()], first.loc[first["value"].idxmax()]
    ends = " to ".join(f"{row['value']:.3g} ({row['variant']}, {row['steps']} steps)" for row in (low, high))
    return f"{words.metric(first['metric'].iloc[0])} ranges from {ends}."
