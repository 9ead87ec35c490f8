"""Training and validation curves: one line for each training, shared trainings once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing, Encoding, encode, export, legend, log_axis, new_figure, style
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant, varied_axes

VALIDATION = {"validation_bits_per_dim": "validation bits/dim", "validation_epsilon_mse": "validation ε-MSE"}


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training of one seed. axes: the varied axes, empty where cells using it differ; unit: what its loss is in."""

    axes: dict[str, str]
    unit: str
    seed: int
    table: pd.DataFrame
    divergence: dict[str, Any] | None

    @property
    def label(self) -> str:
        """The axes that matter to the training, in words."""
        return ", ".join(words.value(name, item) for name, item in self.axes.items() if item) or "the training"


def trainings(view: ResultsView) -> tuple[list[Training], int]:
    """The trainings with curves in the store, and the number of those without."""
    varied = varied_axes(view)
    users: dict[str, list[dict[str, Any]]] = {}
    for cell in view.cells:
        if cell["train_key"] and cell["artifacts"].get("train"):
            users.setdefault(cell["train_key"], []).append(cell)
    found, missing = [], 0
    for cells in users.values():
        table = view.curves(cells[0])
        if table is None:
            missing += 1
            continue
        axes = cells[0]["axes"]
        labels = {name: {str(cell["axes"].get(name, "—")) for cell in cells} for name in varied}
        loss, prediction = str(axes.get("loss", "loss")), str(axes.get("prediction", ""))
        unit = words.value("loss", loss)
        if not loss.startswith("vlb"):  # a bound is in bits/dim whatever is predicted, an error in units of its target
            unit += f" of {words.value('prediction', prediction)}"
        found.append(
            Training(
                axes={name: min(values) if len(values) == 1 else "" for name, values in labels.items()},
                unit=unit,
                seed=cells[0]["seed"],
                table=table,
                divergence=(cells[0]["training"] or {}).get("divergence"),
            )
        )
    return found, missing


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """Validation panels above, training losses below with one panel for each unit."""
    found, missing = trainings(view)
    if not found:
        return None
    measured = [name for name in VALIDATION if any(item.table[name].notna().any() for item in found)]
    losses = list(dict.fromkeys(item.unit.partition(" of ")[0] for item in found))
    units = sorted(dict.fromkeys(item.unit for item in found), key=lambda unit: losses.index(unit.partition(" of ")[0]))
    svg, pdf = _draw(found, measured, units)
    diverged = sum(item.divergence is not None for item in found)
    seeds = len({item.seed for item in found})
    caption = (
        "Above, of the averaged weights on the validation split, comparable between trainings; bits/dim is an estimate "
        "with σ²=β̃ and unclipped x̂₀ from a few timesteps of each image. Below, the training loss as it was "
        "minimised, one panel for each unit. "
        if measured
        else "The training loss as it was minimised, one panel for each unit. "
    )
    caption += "Variants that share a training share its line"
    caption += f"; each of {seeds} seeds has its own." if seeds > 1 else "."
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
        alternative=f"Curves of {words.count(len(found), 'training')} over steps, on logarithmic scales; "
        f"{diverged or 'none'} diverged.",
        data=_data(found, measured),
        svg=svg,
        pdf=pdf,
    )


def _data(found: list[Training], measured: list[str]) -> pd.DataFrame:
    tables = [
        item.table[["step", "loss", *measured]].assign(training=item.label, seed=item.seed, unit=item.unit)
        for item in found
    ]
    return pd.concat(tables, ignore_index=True)[["training", "seed", "step", "unit", "loss", *measured]]


def _draw(found: list[Training], measured: list[str], units: list[str]) -> tuple[str, bytes]:
    encoding = encode([item.axes for item in found], more_panels=False)
    rows = [measured] if measured else []
    rows += [units[start : start + 4] for start in range(0, len(units), 4)]
    with style():
        figure = new_figure(8.6, 0.5 + 2.3 * len(rows))
        subfigures = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
        for subfigure, names in zip(subfigures, rows, strict=True):
            wanted = 4 if len(units) > 4 and names is not measured else len(names)
            panels = subfigure.subplots(1, wanted, squeeze=False)[0]
            for axes in panels[len(names) :]:
                axes.set_axis_off()
            for axes, name in zip(panels, names, strict=False):
                column = name if name in VALIDATION else "loss"
                _panel(axes, found, [name in VALIDATION or item.unit == name for item in found], column, encoding)
                axes.set_title(words.mathtext(VALIDATION.get(name, f"training {name}")))
                axes.set_xlabel("step")
        legend(figure, encoding.handles())
        return export(figure)


def _panel(axes: Any, found: list[Training], chosen: list[bool], column: str, encoding: Encoding) -> None:
    drawn = []
    for index, item in enumerate(found):
        points = item.table[["step", column]].dropna()
        points = points[points[column] > 0]
        if not chosen[index] or not len(points):
            continue
        drawn.append(points[column])
        mark = {"marker": "o", "markersize": 2.2} if column in VALIDATION else {}
        look = {"color": encoding.colours[index], "ls": encoding.dashes[index]}
        axes.plot(points["step"], points[column], linewidth=1.0, alpha=0.85, **look, **mark)
        if item.divergence is not None:
            axes.plot(points["step"].iloc[-1:], points[column].iloc[-1:], "x", color=look["color"], ms=7, mew=2)
    axes.set_yscale("log")
    if drawn:
        values = pd.concat(drawn)
        log_axis(axes.yaxis, float(values.min()), float(values.max()))
