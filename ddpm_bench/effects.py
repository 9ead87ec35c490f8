"""The effect of each axis with every other axis held fixed: exploratory, not corrected for the number of comparisons.

A context is a combination of all other axes. Only contexts in which every compared level has a value count, so that no
level is compared in company of its own; differences to the first level are averaged over contexts within a seed. Levels
that stand beside the matrix (of a named variant) would leave no such context: the compared levels are those that keep
the most values, and the others are named as left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddpm_bench import statistics
from ddpm_bench.protocols import differences, no_claim

Cell = Mapping[str, Any]
Place = tuple[int, tuple[str, ...]]
"""(seed, context)."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """`level` − `against` of an axis: mean over seeds, its 95 % t interval (None with one seed), how many contexts.

    share: of the compared pairs of cells that share a training; left_out: levels of the axis that are not compared.
    """

    axis: str
    metric: str
    level: str
    against: str
    effect: float
    interval: tuple[float, float] | None
    seeds: tuple[int, ...]
    contexts: int
    share: float
    unit: str
    higher_is_better: bool
    per_seed: tuple[float, ...]
    left_out: tuple[str, ...] = ()


def effects(cells: Sequence[Cell], varied: Sequence[str], metrics: Sequence[str]) -> list[Effect]:
    """The effects of every varied axis on every metric, in this order; none where no context is balanced, protocols
    differ or the values support no claim."""
    return [found for axis in varied for metric in metrics for found in _of_axis(cells, varied, axis, metric)]


def _of_axis(cells: Sequence[Cell], varied: Sequence[str], axis: str, metric: str) -> Iterator[Effect]:
    rest = [name for name in varied if name != axis]
    places: dict[Place, dict[str, Cell]] = {}
    for cell in cells:
        if cell["metrics"].get(metric, {}).get("value") is not None:
            context = tuple(str(cell["axes"].get(name, "—")) for name in rest)
            places.setdefault((cell["seed"], context), {})[str(cell["axes"].get(axis, "—"))] = cell
    every = list(dict.fromkeys(str(cell["axes"].get(axis, "—")) for cell in cells if cell["status"] != "illegal"))
    levels, balanced = _balanced(places, every)
    values = [place[level] for place in balanced.values() for level in levels]
    if not values or not _comparable(values, metric, varied):
        return
    first = levels[0]
    seeds = tuple(sorted({seed for seed, _ in balanced}))
    record = next(iter(balanced.values()))[first]["metrics"][metric]
    for level in levels[1:]:
        gaps: dict[int, list[float]] = {seed: [] for seed in seeds}
        shared = 0
        for (seed, _), place in balanced.items():
            one, other = place[level], place[first]
            gaps[seed].append(one["metrics"][metric]["value"] - other["metrics"][metric]["value"])
            shared += one["train_key"] == other["train_key"]
        per_seed = tuple(math.fsum(gaps[seed]) / len(gaps[seed]) for seed in seeds)
        yield Effect(
            axis=axis,
            metric=metric,
            level=level,
            against=first,
            effect=math.fsum(per_seed) / len(per_seed),
            interval=statistics.t_interval(per_seed) if len(per_seed) > 1 else None,
            seeds=seeds,
            contexts=len({context for _, context in balanced}),
            share=shared / len(balanced),
            unit=record["unit"],
            higher_is_better=record["higher_is_better"],
            per_seed=per_seed,
            left_out=tuple(level for level in every if level not in levels),
        )


def _balanced(
    places: Mapping[Place, dict[str, Cell]], every: Sequence[str]
) -> tuple[list[str], dict[Place, dict[str, Cell]]]:
    """The compared levels in the order of the suite, and the contexts that have them all in every seed that has any
    value: each seed is averaged over the same ones."""
    seeds = {seed for seed, _ in places}
    common: dict[tuple[str, ...], frozenset[str]] = {}
    for (_, context), found in places.items():
        common[context] = common.get(context, frozenset(found)) & frozenset(found)
    whole = {context: levels for context, levels in common.items() if all((seed, context) in places for seed in seeds)}
    # as many values as possible; of equally many, more levels
    candidates = sorted({levels for levels in whole.values() if len(levels) > 1}, key=sorted)
    best = max(candidates, key=lambda c: (len(c) * sum(c <= o for o in whole.values()), len(c)), default=frozenset())
    kept = {place: found for place, found in places.items() if best and best <= whole.get(place[1], frozenset())}
    return [level for level in every if level in best], kept


def _comparable(cells: Sequence[Cell], metric: str, varied: Sequence[str]) -> bool:
    protocols = [cell["metrics"][metric]["protocol"] for cell in cells]
    return not any(differences(protocols[0], other, varied) or no_claim(other) for other in protocols)
