"""Training and validation curves: one line for each training, shared trainings once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing, export, legend, log_axis, new_figure, style
from ddpm_bench.report.figures.encoding import MOST_COLUMNS, Encoding, encode, label_of
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.trainings import ERROR, STEPS, Training, trainings
from ddpm_bench.report.variants import Variant

VALIDATION = {"validation_bits_per_dim": "validation bits/dim", "validation_epsilon_mse": "validation ε-MSE"}
COLUMNS = 12
"""Of the grid: rows of one to four panels divide it evenly."""


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """Validation panels above, training losses below with one panel for each unit."""
    found, missing = trainings(view)
    if not found:
        return None
    measured = [name for name in VALIDATION if any(item.table[name].notna().any() for item in found)]
    losses = list(dict.fromkeys(item.unit.partition(" of ")[0] for item in found))
    units = sorted(dict.fromkeys(item.unit for item in found), key=lambda unit: losses.index(unit.partition(" of ")[0]))
    svg, pdf = _draw(found, measured, units, groups)
    number = sum(item.num_seeds for item in found)
    diverged = sum(item.divergence is not None for item in found)
    seeds = len({item.seed for item in found if item.num_seeds == 1})
    means = {item.num_seeds for item in found if item.num_seeds > 1}
    caption = (
        "Above, of the averaged weights on the validation split, comparable between trainings; bits/dim is an estimate "
        "with σ²=β̃ and unclipped x̂₀ from a few timesteps of each image. Below, the training loss as it was "
        "minimised, one panel for each unit. "
        if measured
        else "The training loss as it was minimised, one panel for each unit. "
    )
    caption += "Variants that share a training share its line"
    caption += f"; each of {seeds} seeds has its own." if seeds > 1 else "."
    if means:
        caption += f" Lines are means over {max(means)} seeds, bands their 95 % t intervals."
    if STEPS in found[0].axes:
        caption += " A training goes on from the shorter ones, so their curves are the beginning of its own."
    if {bool(item.axes.get("variance")) for item in found} == {True, False}:
        caption += " A training that σ² does not enter is drawn solid."
    if diverged:
        caption += f" A cross ends a training that diverged ({diverged})."
    if missing:
        caption += f" Curves of {words.count(missing, 'training')} are no longer in the store."
    return Drawing(
        name="curves",
        title="Training and validation curves",
        caption=caption,
        alternative=f"Curves of {words.count(number, 'training')} over steps, on logarithmic scales; "
        f"{diverged or 'none'} diverged.",
        data=_data(found, measured),
        svg=svg,
        pdf=pdf,
    )


def _data(found: list[Training], measured: list[str]) -> pd.DataFrame:
    tables, columns = [], ["loss", *measured]
    columns += [name + ERROR for name in columns if any(item.num_seeds > 1 for item in found)]
    for item in found:
        held = [name for name in columns if name in item.table]
        seed = str(item.seed) if item.num_seeds == 1 else f"mean of {item.num_seeds}"
        tables.append(item.table[["step", *held]].assign(training=item.label, seed=seed, unit=item.unit))
    return pd.concat(tables, ignore_index=True)[["training", "seed", "step", "unit", *columns]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one panel shows. column: of the curves; group: panels of equal group share their y axis."""

    title: str
    column: str
    group: str
    chosen: list[int]


def bands_of(
    found: list[Training], measured: list[str], units: list[str], encoding: Encoding
) -> list[list[Panel | None]]:
    """The rows of panels: for each validation metric those of the encoding (one panel each stand beside each other),
    then each unit of the training loss, split by what else the encoding's panels stand for."""

    def validation(name: str, label: str) -> Panel:
        title = ", ".join(filter(None, [VALIDATION[name], label]))
        return Panel(title=title, column=name, group=name, chosen=encoding.panels[label])

    bands: list[list[Panel | None]] = [
        [None if label is None else validation(name, label) for label in row]
        for name in measured
        for row in encoding.rows
    ]
    if len(encoding.panels) == 1 and bands:
        bands = [[panel for band in bands for panel in band]]
    losses: list[Panel | None] = []
    for unit in units:
        named = ("prediction", "loss") if " of " in unit else ("loss",)  # by the unit itself
        told = [name for name in encoding.panel_axes if name not in named]
        parts: dict[str, list[int]] = {}
        for index, item in enumerate(found):
            if item.unit == unit:
                parts.setdefault(label_of(item.axes, told), []).append(index)
        losses += [
            Panel(title=f"training {unit}" + (f", {title}" if title else ""), column="loss", group=unit, chosen=part)
            for title, part in parts.items()
        ]
    return bands + [losses[start : start + MOST_COLUMNS] for start in range(0, len(losses), MOST_COLUMNS)]


def _draw(found: list[Training], measured: list[str], units: list[str], groups: list[Variant]) -> tuple[str, bytes]:
    encoding = encoding_of(found, groups)
    bands = bands_of(found, measured, units, encoding)
    height = 2.3 if len(bands) < 4 else 1.8
    leaders: dict[str, Any] = {}
    drawn: dict[str, list[float]] = {}
    with style():
        figure = new_figure(8.6, 0.5 + height * len(bands))
        grid = figure.add_gridspec(len(bands), COLUMNS)
        for row, band in enumerate(bands):
            wide = COLUMNS // max(len(other) for other in bands if _kind(other) == _kind(band))
            for column, panel in enumerate(band):
                if panel is None:
                    continue
                place = grid[row, column * wide : (column + 1) * wide]
                axes = figure.add_subplot(place, sharey=leaders.get(panel.group))
                leaders.setdefault(panel.group, axes)
                _panel(axes, found, panel, encoding, drawn.setdefault(panel.group, []))
                axes.set_title(words.mathtext(panel.title))
                axes.set_xlabel("step")
        for group, values in drawn.items():
            if values:
                log_axis(leaders[group].yaxis, min(values), max(values))
        legend(figure, *encoding.handles())
        return export(figure)


def _kind(band: list[Panel | None]) -> set[bool]:
    """Whether a row shows training losses."""
    return {panel.column == "loss" for panel in band if panel}


def encoding_of(found: list[Training], groups: list[Variant]) -> Encoding:
    """Looks and panels by what the trainings are, equal for all seeds of one."""
    kinds = list({item.label: item.axes for item in found}.values())
    encoding = encode(kinds, every=[*(group.axes for group in groups), *kinds])
    places = [kinds.index(item.axes) for item in found]
    panels = {
        title: [index for index, place in enumerate(places) if place in chosen]
        for title, chosen in encoding.panels.items()
    }
    looks = [encoding.looks[place] for place in places]
    return replace(encoding, panels=panels, looks=looks)


def _panel(axes: Any, found: list[Training], panel: Panel, encoding: Encoding, drawn: list[float]) -> None:
    """drawn: gets the least and the greatest value."""
    for index in panel.chosen:
        item = found[index]
        points = item.table[item.table[panel.column] > 0]
        if not len(points):
            continue
        drawn += [float(points[panel.column].min()), float(points[panel.column].max())]
        look = encoding.looks[index].style()
        look |= {"marker": "o", "markersize": 2.2, "markevery": 1} if panel.column in VALIDATION else {}
        axes.plot(points["step"], points[panel.column], linewidth=1.0, alpha=0.85, **look)
        if item.num_seeds > 1:
            half, least = points[panel.column + ERROR].fillna(0.0), points[panel.column].min() / 2
            low, high = (points[panel.column] - half).clip(lower=least), points[panel.column] + half
            axes.fill_between(points["step"], low, high, color=look["color"], alpha=0.18, linewidth=0)
        if item.divergence is not None:
            axes.plot(points["step"].iloc[-1:], points[panel.column].iloc[-1:], "x", color=look["color"], ms=7, mew=2)
    axes.set_yscale("log")
