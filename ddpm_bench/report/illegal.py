"""Combinations that make no sense and were not run, by reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant, varied_axes


@dataclass(frozen=True, kw_only=True)
class Group:
    """Variants that are illegal for one reason. which: what they have in common, where they are all that has it, else
    empty; labels: each of them; cells: their number with seeds."""

    reason: str
    which: str
    labels: list[str]
    cells: int


def is_illegal(variant: Variant) -> bool:
    """Whether none of its cells could be run."""
    return all(cell["status"] == "illegal" for cell in variant.cells)


def by_reason(view: ResultsView, groups: Sequence[Variant]) -> list[Group]:
    """The illegal variants of a suite, one group for each reason, in the order in which reasons occur."""
    found: dict[str, list[Variant]] = {}
    for variant in groups:
        if is_illegal(variant):
            found.setdefault(variant.cells[0]["reason"] or "", []).append(variant)
    every = {name: {str(cell["axes"].get(name, "—")) for cell in view.cells} for name in varied_axes(view)}
    return [
        Group(
            reason=reason,
            which=_in_common(members, every),
            labels=[variant.label for variant in members],
            cells=sum(len(variant.cells) for variant in members),
        )
        for reason, members in found.items()
    ]


def _in_common(members: list[Variant], every: dict[str, set[str]]) -> str:
    """ "L_hybrid, σ²=β, any prediction and schedule", where that says which variants they are."""
    values = {name: list(dict.fromkeys(variant.axes[name] for variant in members)) for name in every}
    if len(members) == 1 or math.prod(map(len, values.values())) != len(members):
        return ""
    bound = [name for name in every if set(values[name]) != every[name]]
    free = [words.axis(name) for name in every if name not in bound]
    parts = [" or ".join(words.phrase(name, item) for item in values[name]) for name in bound]
    if free:
        parts.append("any " + (free[0] if len(free) == 1 else ", ".join(free[:-1]) + " and " + free[-1]))
    return ", ".join(parts)
