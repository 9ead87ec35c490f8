"""What theory says of the measured terms without any training: sentences with the numbers that bear it out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.timesteps import fixed_cells, log_sigma2_range

TOLERANCE = 1e-9
"""Bits/dim: sums of float64 leave 1e-12."""
CHAIN = ("variance", "schedule", "timesteps", "sampling_steps", "reverse.spacing")
"""The axes that the variances of a chain depend on."""


def sentences(view: ResultsView) -> list[str]:
    """One sentence for each ordering that the suite's cells can show."""
    found = []
    for split in view.further_splits:
        text = _fitted_is_smallest(view, split)
        if text:
            found.append(text)
    text = _variance_cost_is_the_schedules(view)
    return [*found, text] if text else found


def _fitted_is_smallest(view: ResultsView, split: str) -> str | None:
    """E L_{t−1} over a fit split is least at the σ²_t fitted there, at every t ≥ 2 and for every network."""
    table = view.timesteps(split)
    table = table[table["rate"].notna()]  # every t of every image: the terms that the fit saw
    fitted = [cell for cell in view.cells if _fitted_on(cell, split)]
    if not len(table) or not fitted:
        return None
    fixed = fixed_cells(log_sigma2_range(view, table))
    terms = {str(cell_id): rows.set_index("t")["kl"].iloc[1:] for cell_id, rows in table.groupby("cell_id")}
    excesses = [
        terms[cell["id"]] - terms[other["id"]]
        for cell in fitted
        for other in view.cells
        if cell["id"] in terms and other["id"] in fixed and _only_variance_differs(cell, other)
    ]
    if not excesses:
        return None
    every = pd.concat(excesses).dropna()
    if every.empty:
        return None
    name = " and ".join(dict.fromkeys(words.value("variance", cell["axes"]["variance"]) for cell in fitted))
    pairs = words.count(len(excesses), "pair")
    largest = _bits(float(every.max()))
    start = f"On the split it was fitted to ({split}), {name} "
    if every.max() <= TOLERANCE:
        return (
            f"{start}has the smallest term at every t ≥ 2: in {pairs} with a fixed σ² of the same training its largest "
            f"excess is {largest} bits/dim."
        )
    above = int((every > TOLERANCE).sum())
    return (
        f"{start}should have the smallest term at every t ≥ 2 but exceeds a fixed σ² of the same training in {above} "
        f"of {len(every)} terms ({pairs}), by up to {largest} bits/dim."
    )


def _fitted_on(cell: dict[str, Any], split: str) -> bool:
    """Whether the cell's σ² was fitted on the very images that its bits/dim of the split are taken over."""
    record = cell["metrics"].get(f"bits_per_dim_{split}")
    if cell["status"] != "done" or record is None or record["value"] is None:
        return False
    return bool(cell["fit"] == {"split": split, "num_images": record["num_samples"]})


def _only_variance_differs(cell: dict[str, Any], other: dict[str, Any]) -> bool:
    rest, others = (
        {name: item for name, item in found["axes"].items() if name != "variance"} for found in (cell, other)
    )
    return cell["train_key"] == other["train_key"] and rest == others and cell["id"] != other["id"]


def _variance_cost_is_the_schedules(view: ResultsView) -> str | None:
    """With σ² = β or β̃ the variance cost depends on the schedule alone, not on the network."""
    table = view.timestep_kl
    fixed = fixed_cells(log_sigma2_range(view, table)) if len(table) else set()
    costs = {str(cell_id): rows.set_index("t")["kl_variance"].iloc[1:] for cell_id, rows in table.groupby("cell_id")}
    groups = [chain for chain in _equal_chains(view, fixed) if len({cell["train_key"] for cell in chain}) > 1]
    if not groups:
        return None
    spreads = []
    for chain in groups:
        together = pd.DataFrame({cell["id"]: costs[cell["id"]] for cell in chain})
        spreads.append(float((together.max(axis=1) - together.min(axis=1)).max()))
    cells = sum(map(len, groups))
    verb = "is equal" if max(spreads) <= TOLERANCE else "should be equal"
    return (
        f"The variance cost {verb} for equal schedules and fixed σ²: largest difference {_bits(max(spreads))} bits/dim "
        f"at any t, over {words.count(cells, 'cell')} of different trainings."
    )


def _equal_chains(view: ResultsView, fixed: set[str]) -> Iterator[list[dict[str, Any]]]:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for cell in view.cells:
        if cell["id"] in fixed:
            axes = cell["axes"]
            key = tuple(str(axes.get(name, "")) for name in CHAIN)
            groups.setdefault(key, []).append(cell)
    yield from groups.values()


def _bits(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}".replace("-", "−")
