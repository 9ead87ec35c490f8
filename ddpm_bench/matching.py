"""Pairs of cells: what a claim compares, seed by seed and context by context.

A claim has two sides. Cells of equal seed that agree in every axis the claim does not speak of form a pair; such an
agreement is a context. Reads records of results.json, or of a plan: id, axes, seed, status and train_key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cell = Mapping[str, Any]
ACROSS, WITHIN = "across trainings", "within a training"
"""The families of claims: every pair is of two trainings, or every pair uses one checkpoint."""


@dataclass(frozen=True)
class Pair:
    """The cells of both sides in one context and seed; mostly one on each side."""

    context: tuple[tuple[str, str], ...]
    seed: int
    first: tuple[Cell, ...]
    second: tuple[Cell, ...]

    def both(self) -> Iterable[tuple[Cell, Cell]]:
        """Every first with every second cell."""
        return ((one, other) for one in self.first for other in self.second)


def _sides(claim: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    first, second = (claim["better"], claim["than"]) if claim["better"] else claim["equivalent"]
    return first, second


def pairs_of(claim: Mapping[str, Any], cells: Sequence[Cell], varied: Sequence[str]) -> tuple[list[Pair], int]:
    """The pairs of the contexts that every seed has, and the number of other contexts: those that one side lacks, or
    a seed (its mean would be over other contexts than its neighbour's). Illegal cells are no cells."""
    rest = [axis for axis in varied if not any(_overlap(axis, spoken) for spoken in claim["axes"])]
    by_id = {cell["id"]: cell for cell in cells}
    places: dict[tuple[Any, int], tuple[list[Cell], list[Cell]]] = {}
    for index, side in enumerate(_sides(claim)):
        for cell_id in side["cells"]:
            cell = by_id[cell_id]
            if cell["status"] != "illegal":
                context = tuple((axis, str(cell["axes"].get(axis, "—"))) for axis in rest)
                places.setdefault((context, cell["seed"]), ([], []))[index].append(cell)
    pairs = [
        Pair(context, seed, tuple(first), tuple(second))
        for (context, seed), (first, second) in places.items()
        if first and second
    ]
    seeds_of: dict[Any, set[int]] = {}
    for pair in pairs:
        seeds_of.setdefault(pair.context, set()).add(pair.seed)
    every = set().union(*seeds_of.values())
    matched = {context for context, seeds in seeds_of.items() if seeds == every}
    pairs = [pair for pair in pairs if pair.context in matched]
    # only what differs between the contexts is worth a name
    named = [axis for i, axis in enumerate(rest) if len({context[i] for context in matched}) > 1]
    kept = [dataclasses.replace(pair, context=tuple(i for i in pair.context if i[0] in named)) for pair in pairs]
    return kept, len({context for context, _ in places} - matched)


def _overlap(axis: str, spoken: str) -> bool:
    """Whether two axes are one, or one a parameter of the other: loss and loss.weighting."""
    return axis == spoken or axis.startswith(f"{spoken}.") or spoken.startswith(f"{axis}.")


def mixed_families(pairs: Sequence[Pair]) -> str | None:
    """Why pairs of which some share a training are in no family, or None."""
    both = [couple for pair in pairs for couple in pair.both()]
    shared = sum(one["train_key"] == other["train_key"] for one, other in both)
    if shared in (0, len(both)):
        return None
    return (
        f"the cells of {shared} of {len(both)} pairs share a training and the others do not: two claims, one for "
        "each, with `where`"
    )


def family_of(pairs: Sequence[Pair]) -> str:
    """The family of a claim with these pairs."""
    shared = all(one["train_key"] == other["train_key"] for pair in pairs for one, other in pair.both())
    return WITHIN if shared else ACROSS
