"""The Fréchet distance over the number of generated images, and where it goes as that grows."""

from __future__ import annotations

import math

import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.encoding import encode
from ddpm_bench.report.figures.lines import Quantity, draw_lines
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Cell, Column, Variant, columns, metrics_with_table, varied_axes
from ddpm_bench.statistics import t_half_width

TABLE = "frechet_over_n"
INFINITY = "_infinity"

Points = dict[float, tuple[float, float | None]]
"""1/n → (value, half width of its error bar); 1/n = 0 is the extrapolated value."""


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """One panel for each metric that was extrapolated, one line for each variant; None where none was."""
    varied = varied_axes(view)
    found: dict[str, tuple[Column, dict[str, Points]]] = {}
    for column in columns(view, metrics_with_table(view, TABLE)):
        lines = {group.key: _points(column, group, varied) for group in groups}
        if any(lines.values()):
            found[column.title] = (column, lines)
    if not found:
        return None
    shown = [group for group in groups if any(lines[group.key] for _, lines in found.values())]
    encoding = encode([group.axes for group in shown] if shown[0].axes else [{"variant": ""}])
    quantities = [_quantity(column, [lines[group.key] for group in shown]) for column, lines in found.values()]
    svg, pdf = draw_lines(encoding, quantities, "1/n, n generated images")
    data = _data(found, shown)
    several = [len(group.done) > 1 for group in shown]
    kinds = "95 % t interval over seeds" if any(several) else "standard error"
    if any(several) and not all(several):
        kinds += ", of a single seed standard error"
    return Drawing(
        name=TABLE,
        title="Fréchet distance over the number of generated images",
        caption="Seeded subsets of n generated images against the same reference images. The bias of a distance falls "
        "about as 1/n; the value at 1/n = 0 is the end of a straight line through the others: what "
        f"infinitely many generated images would have, the reference images as they are. Bars: {kinds}.",
        alternative=f"{words.count(len(found), 'panel')} with {words.count(len(shown), 'line')} over 1/n. "
        + _extremes(data),
        data=data,
        svg=svg,
        pdf=pdf,
    )


def _points(column: Column, group: Variant, varied: list[str]) -> Points:
    """Means over generations, then over seeds; without several seeds the error of the value itself, if it has one."""
    found: dict[float, list[tuple[float, float | None]]] = {}
    for cell, record in group.estimates(column, varied).values():
        rows = pd.DataFrame(cell["tables"].get(column.metric, {}).get(TABLE, []), columns=["n", "value"])
        for n, value in rows.groupby("n")["value"].mean().items():
            error = record["stderr"] if n == rows["n"].max() else None
            found.setdefault(1 / n, []).append((float(value), error))
        limit = _limit(cell, column)
        if limit is not None:
            found.setdefault(0.0, []).append(limit)
    return {place: _mean(values) for place, values in sorted(found.items())}


def _limit(cell: Cell, column: Column) -> tuple[float, float | None] | None:
    record = cell["metrics"].get(f"{column.metric}{INFINITY}")
    return None if record is None or record["value"] is None else (record["value"], record["stderr"])


def _mean(values: list[tuple[float, float | None]]) -> tuple[float, float | None]:
    every = [value for value, _ in values]
    error = t_half_width(every) if len(every) > 1 else values[0][1]
    return math.fsum(every) / len(every), error


def _quantity(column: Column, lines: list[Points]) -> Quantity:
    values = [pd.Series({place: item[0] for place, item in line.items()}, dtype=float) for line in lines]
    errors = [pd.Series({place: item[1] for place, item in line.items()}, dtype=float) for line in lines]
    every = pd.concat(values)
    log = bool((every > 0).all() and every.max() > 20 * every.min())
    return Quantity(label=f"{column.title} {column.arrow}", lines=values, errors=errors, log=log, points=True)


def _data(found: dict[str, tuple[Column, dict[str, Points]]], shown: list[Variant]) -> pd.DataFrame:
    rows = [
        {"variant": group.label, "metric": column.metric, "one_over_n": place, "value": value, "error": error}
        for column, lines in found.values()
        for group in shown
        for place, (value, error) in lines[group.key].items()
    ]
    return pd.DataFrame(rows)


def _extremes(data: pd.DataFrame) -> str:
    """The extrapolated values of the first metric."""
    first = data[(data["metric"] == data["metric"].iloc[0]) & (data["one_over_n"] == 0)]
    if not len(first):
        return ""
    low, high = first.loc[first["value"].idxmin()], first.loc[first["value"].idxmax()]
    ends = " to ".join(f"{row['value']:.3g} ({row['variant']})" for row in (low, high))
    return f"Extrapolated, {words.metric(first['metric'].iloc[0])} ranges from {ends}."
