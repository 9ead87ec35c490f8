"""The trainings of a suite with their curves: each once, seeds together, shorter ones as part of the longest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from scipy.special import stdtrit

from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import varied_axes

STEPS = "training.steps"
"""The axis whose values are places on one trajectory."""
ERROR = "_error"
"""Ending of the columns of half widths of 95 % t intervals."""
MEANS_FROM = 3
"""Seeds from which on a mean and its interval say more than each curve; fewer are drawn one by one."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training of one seed, or the mean of several.

    axes: the varied axes, empty where cells using it differ; unit: what its loss is in; table: curves.csv, of a mean
    with a column of half widths (ERROR) for each; num_seeds: how many it is the mean of.
    """

    axes: dict[str, str]
    unit: str
    seed: int
    table: pd.DataFrame
    divergence: dict[str, Any] | None
    num_seeds: int = 1

    @property
    def label(self) -> str:
        """The axes that matter to the training, in words."""
        return ", ".join(words.phrase(name, item) for name, item in self.axes.items() if item) or "the training"


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
    return averaged(longest(found)), missing


def longest(found: list[Training]) -> list[Training]:
    """Of trainings that differ in nothing but their number of steps the longest: its curve has theirs in it."""
    paths: dict[tuple[Any, ...], list[Training]] = {}
    for item in found:
        axes = {name: "" if name == STEPS else label for name, label in item.axes.items()}
        paths.setdefault((*axes.items(), item.unit, item.seed), []).append(replace(item, axes=axes))
    return [max(path, key=lambda item: item.table["step"].max()) for path in paths.values()]


def averaged(found: list[Training]) -> list[Training]:
    """Trainings that differ in the seed alone as their mean; those with one that diverged stay apart."""
    groups: dict[tuple[str, str], list[Training]] = {}
    for item in found:
        groups.setdefault((item.label, item.unit), []).append(item)
    together = []
    for group in groups.values():
        if len(group) < MEANS_FROM or any(item.divergence for item in group):
            together += group
            continue
        tables = pd.concat(item.table for item in group).groupby("step")
        count, mean = tables.count(), tables.mean()
        quantile = stdtrit((count - 1).clip(lower=1), 0.975)
        half = (quantile * tables.std() / count**0.5).add_suffix(ERROR)
        table = mean.join(half).reset_index()
        together.append(replace(group[0], table=table, num_seeds=len(group)))
    return together
