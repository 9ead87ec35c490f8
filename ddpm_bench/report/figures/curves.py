"""Training and validation curves: one line for each training, shared trainings once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.figures import DASHES, PALETTE, Drawing, export, new_figure, style
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant, varied_axes

VALIDATION = {"validation_bits_per_dim": "validation bits/dim", "validation_epsilon_mse": "validation ε-MSE"}


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training of one seed. label: the varied axes that all cells using it agree on; unit: what its loss is in."""

    label: str
    unit: str
    seed: int
    table: pd.DataFrame
    divergence: dict[str, Any] | None


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
        agreed = [name for name in varied if len({str(cell["axes"].get(name)) for cell in cells}) == 1]
        axes = cells[0]["axes"]
        loss, prediction = str(axes.get("loss", "loss")), str(axes.get("prediction", ""))
        unit = words.value("loss", loss)
        if not loss.startswith("vlb"):  # a bound is in bits/dim whatever is predicted, an error in units of its target
            unit += f" of {words.value('prediction', prediction)}"
        found.append(
            Training(
                label=", ".join(words.value(name, axes[name]) for name in agreed if name in axes) or "this training",
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
    units = list(dict.fromkeys(item.unit for item in found))
    svg, pdf = _draw(found, measured, units)
    diverged = sum(item.divergence is not None for item in found)
    seeds = len({item.seed for item in found})
    caption = (
        "Above, measured on the validation split and comparable between trainings; below, the training loss as it was "
        "minimised, one panel for each unit. "
        if measured
        else "The training loss as it was minimised, one panel for each unit. "
    )
    caption += "Variants that share a training share its line" + (
        f"; one line for each of {seeds} seeds." if seeds > 1 else "."
    )
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
    labels = list(dict.fromkeys(item.label for item in found))
    rows = [measured] if measured else []
    rows += [units[start : start + 4] for start in range(0, len(units), 4)]
    with style():
        figure = new_figure(8.6, 0.6 + 2.3 * len(rows))
        subfigures = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
        for subfigure, names in zip(subfigures, rows, strict=True):
            wanted = 4 if len(units) > 4 and names is not measured else len(names)
            for axes, name in zip(subfigure.subplots(1, wanted, squeeze=False)[0], [*names, *[""] * 4], strict=False):
                if not name:
                    axes.set_axis_off()
                    continue
                chosen = found if name in VALIDATION else [item for item in found if item.unit == name]
                for item in chosen:
                    _line(axes, item, name if name in VALIDATION else "loss", labels.index(item.label))
                axes.set_yscale("log")
                axes.set_title(words.mathtext(VALIDATION.get(name, f"training {name}")))
                axes.set_xlabel("step")
        handles = [
            axes_line(index, words.mathtext(label)) for index, label in enumerate(labels)
        ]
        if len(handles) > 1:
            figure.legend(handles=handles, loc="outside upper left", ncols=4, columnspacing=1.6)
        return export(figure)


def axes_line(index: int, label: str) -> Any:
    """The legend's line of the training with this index."""
    from matplotlib.lines import Line2D

    look = {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index // len(PALETTE) % len(DASHES)]}
    return Line2D([], [], label=label, **look)


def _line(axes: Any, item: Training, column: str, index: int) -> None:
    points = item.table[["step", column]].dropna()
    points = points[points[column] > 0]
    colour = PALETTE[index % len(PALETTE)]
    dash = DASHES[index // len(PALETTE) % len(DASHES)]
    mark = {"marker": "o", "markersize": 2.2} if column in VALIDATION else {}
    axes.plot(points["step"], points[column], color=colour, linestyle=dash, linewidth=1.0, alpha=0.85, **mark)
    if item.divergence is not None and len(points):
        axes.plot(points["step"].iloc[-1:], points[column].iloc[-1:], "x", color=colour, markersize=7, markeredgewidth=2)
