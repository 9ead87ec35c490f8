"""The loss landscapes of the report: what the artifacts hold, as a table and in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Cell, Variant, varied_axes


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """One training. found: landscape.json; record: what results.json says; grid: bits/dim, and epsilon_mse beside."""

    label: str
    found: dict[str, Any]
    record: dict[str, Any]
    grid: np.ndarray
    epsilon_mse: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """Bits/dim of the checkpoints, NaN where it is not finite."""
        return np.array(self.found["bits_per_dim"], float)

    @property
    def projected(self) -> np.ndarray:
        """Bits/dim in the plane where the checkpoints fall on it."""
        return np.array(self.found["projected"]["bits_per_dim"], float)


def places_of(view: ResultsView, groups: list[Variant]) -> dict[str, list[Cell]]:
    """Where each landscape of these variants lies → the cells that share it."""
    found: dict[str, list[Cell]] = {}
    for cell in (cell for group in groups for cell in group.cells):
        place = cell["artifacts"].get("landscape")
        if place and cell.get("landscape") and (view.runs / place / "landscape.json").is_file():
            found.setdefault(place, []).append(cell)
    return found


def load(view: ResultsView, place: str, cells: list[Cell]) -> Landscape:
    """The landscape of a place, named by what its cells have in common."""
    folder = view.runs / place
    shared = {name: {str(cell["axes"].get(name, "—")) for cell in cells} for name in varied_axes(view)}
    label = ", ".join(words.phrase(name, min(values)) for name, values in shared.items() if len(values) == 1)
    return Landscape(
        label=label or "the training",
        found=json.loads((folder / "landscape.json").read_text(encoding="utf-8")),
        record=cells[0]["landscape"],
        grid=np.load(folder / "bits_per_dim.npy"),
        epsilon_mse=np.load(folder / "epsilon_mse.npy"),
    )


def caption(shown: list[Landscape], seed: int, total: int) -> str:
    """What is seen, on what it was measured, and what a random walk would look like. total: landscapes there are."""
    record, found = shown[0].record, shown[0].found
    kinds = " and ".join(dict.fromkeys("averaged" if item.record["null_averaged"] else "raw" for item in shown))
    count = len(found["steps"])
    lasts = sorted({item.found["steps"][-1] for item in shown})
    last = words.listed([str(step) for step in lasts])
    text = (
        f"Bits/dim on the {record['split']} split around the path of the {kinds} weights of "
        f"{'the training' if total == 1 else 'each training'}, seed {seed}: the plane through the mean of its {count} "
        f"checkpoints (steps {found['steps'][0]} to {last}, evenly spread) along their first two "
        "principal components, in units of the weights. Every point is measured on the same "
        f"{words.count(record['images'], 'image')} at {record['draws_per_image']} t each, with σ²=β̃ and unclipped "
        "x̂₀, as the validation curves are. "
    )
    text += "The colours are the same in all panels. " if len(shown) > 1 else ""
    text += (
        f"The plane holds {percent([item.record['share'] for item in shown])} of the variance of the checkpoints. Of "
        f"a random walk of {words.count(count, 'checkpoint')} it would hold "
        f"{percent([item.record['null'] for item in shown])}"
    )
    averaged = [item.record["null_averaged"] for item in shown if item.record["null_averaged"]]
    if averaged:
        text += f", averaged as these weights are {percent(averaged)}"
    text += ": a share near that says nothing about the training. "
    text += (
        "Dots are checkpoints where they fall on the plane, in the colour of their own loss: the last one has "
        f"{value_range(item.own[-1] for item in shown)} bits/dim{_not_finite(item.own[-1] for item in shown)}, its "
        "place in the plane "
        f"{value_range(item.projected[-1] for item in shown)}."
    )
    if any(not np.isfinite(item.grid).all() for item in shown):
        text += " Grey: not finite."
    if total > len(shown):
        text += (
            f" Shown are the first {len(shown)} of {total} trainings; ddpm-bench status --paths says where the others "
            "lie."
        )
    return text


def table(item: Landscape) -> pd.DataFrame:
    """Everything that is drawn: checkpoints by themselves, where they fall on the plane, and the grid."""
    found, (a, b) = item.found, np.meshgrid(*item.found["axes"])
    path = {"component_1": np.array(found["coordinates"])[:, 0], "component_2": np.array(found["coordinates"])[:, 1]}
    names = ("bits_per_dim", "epsilon_mse")
    own = {"point": "checkpoint", "step": found["steps"], **path, **{name: found[name] for name in names}}
    plane = own | {"point": "checkpoint in the plane"} | {name: found["projected"][name] for name in names}
    grid = {
        "point": "grid", "step": np.nan, "component_1": a.ravel(), "component_2": b.ravel(),
        "bits_per_dim": item.grid.ravel(), "epsilon_mse": item.epsilon_mse.ravel(),
    }  # fmt: skip
    found_rows = pd.concat([pd.DataFrame(rows) for rows in (own, plane, grid)], ignore_index=True)
    found_rows.insert(0, "training", item.label)
    return found_rows.astype({"step": "Int64"})


def percent(shares: Iterable[float]) -> str:
    """93 %, or 93 % to 97 %."""
    low, high = _ends(shares)
    first, last = f"{100 * low:.0f} %", f"{100 * high:.0f} %"
    return first if first == last else f"{first} to {last}"


def value_range(values: Iterable[float]) -> str:
    """14.8, or 14.8 to 18.4."""
    low, high = _ends(values)
    first, last = short(low), short(high)
    return first if first == last else f"{first} to {last}"


def _ends(values: Iterable[float]) -> tuple[float, float]:
    listed = [value for value in values if math.isfinite(value)] or [math.nan]
    return min(listed), max(listed)


def _not_finite(values: Iterable[float]) -> str:
    """Of how many it was left out of a range: " (1 not finite)", or nothing."""
    number = sum(not math.isfinite(value) for value in values)
    return f" ({number} not finite)" if number else ""


def short(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}".replace("-", "−") if math.isfinite(value) else "no finite value"
