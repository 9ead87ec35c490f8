"""Claims: from the [[claim]] tables of a suite and the values of its cells to verdicts.

A claim compares two sides. Cells of equal seed that agree in every axis the claim does not speak of form a pair; such
an agreement is a context. Differences (first side − second side) are averaged over the contexts within a seed, and the
seeds are the sample: a training is what is repeated. Verdicts hold at the settings of the suite.

- supported, contradicted: the Holm-adjusted p of its family is below 5 %, and the difference has the claimed direction
  (lies within the margin) or the opposite one (outside of it);
- inconclusive: neither; `seeds_needed` says how many seeds would settle it;
- untestable: there is no fair comparison; `reason` says why.

The two families are corrected apart: across trainings; within a training (both cells of every pair use one checkpoint).
Reads records of results.json only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_bench import statistics
from ddpm_bench.errors import count
from ddpm_bench.matching import ACROSS, WITHIN, Cell, Pair, family_of, mixed_families, pairs_of
from ddpm_bench.protocols import differences, no_claim
from ddpm_bench.statistics import ALPHA, MIN_SEEDS

PerImage = Callable[[Cell, str], "np.ndarray | None"]
"""(cell, metric) → the metric's values image by image, where the store has them."""

VERDICTS = ("supported", "contradicted", "inconclusive", "untestable")


@dataclass(kw_only=True)
class Evidence:
    """What the values say of a claim; the fields are those of its record in results.json.

    kind: "better" or "equivalent"; family: ACROSS or WITHIN, None where cells are missing; reason: why it is
    untestable, None where it is not; effect: mean over seeds of first side − second side, in `unit`; interval: of it,
    95 % t; p: of the decision (better: two-sided; equivalent: of being equivalent or of not being so, the smaller one);
    p_holm: adjusted in its family of `family_size` testable claims; p_sign_flip: the same question to the sign-flip
    test; contexts: their number; unmatched: of contexts that one side or a seed lacks; differences: [{seed, value,
    image_interval}], the last one of a percentile bootstrap over images within that training; context_effects:
    [{context, effect, sign_differs}], where the context is {axis: label} of the axes that vary.
    """

    kind: str
    verdict: str = "untestable"
    reason: str | None = None
    family: str | None = None
    family_size: int | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None
    p_sign_flip: float | None = None
    num_seeds: int = 0
    contexts: int = 0
    unmatched: int = 0
    seeds_needed: int | None = None
    unit: str | None = None
    higher_is_better: bool | None = None
    differences: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    context_effects: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def judge(
    claims: Sequence[Mapping[str, Any]], cells: Sequence[Cell], varied: Sequence[str], per_image: PerImage | None = None
) -> list[dict[str, Any]]:
    """The record of each claim: its statement (`statements.Claim.to_json`) and its Evidence.

    cells: of results.json; varied: the axes in which cells of the suite differ.
    """
    found = [_examine(claim, cells, varied, per_image) for claim in claims]
    for family in (ACROSS, WITHIN):
        members = [evidence for evidence in found if evidence.reason is None and evidence.family == family]
        adjusted = statistics.holm([evidence.p or 0.0 for evidence in members])
        for evidence, p_holm in zip(members, adjusted, strict=True):
            evidence.p_holm, evidence.family_size = p_holm, len(members)
    for claim, evidence in zip(claims, found, strict=True):
        if evidence.reason is None:
            _decide(claim, evidence)
    return [{**claim, **dataclasses.asdict(evidence)} for claim, evidence in zip(claims, found, strict=True)]


def _examine(
    claim: Mapping[str, Any], cells: Sequence[Cell], varied: Sequence[str], per_image: PerImage | None
) -> Evidence:
    """Everything but the adjustment and the verdict; `reason` is set where the claim is untestable."""
    evidence = Evidence(kind="better" if claim["better"] else "equivalent")
    pairs, evidence.unmatched = pairs_of(claim, cells, varied)
    evidence.contexts, evidence.num_seeds = len({pair.context for pair in pairs}), len({pair.seed for pair in pairs})
    metric = claim["metric"]
    evidence.reason = _incomparable(metric, pairs, varied)
    if evidence.reason:
        return evidence
    record = pairs[0].first[0]["metrics"][metric]
    evidence.unit, evidence.higher_is_better = record["unit"], record["higher_is_better"]
    evidence.family = family_of(pairs)
    values = _by_seed(pairs, metric)
    within = per_image if evidence.family == WITHIN else None
    evidence.differences = [
        {"seed": seed, "value": value, "image_interval": _image_interval(pairs, seed, metric, within)}
        for seed, value in values.items()
    ]
    found = list(values.values())
    evidence.effect = math.fsum(found) / len(found)
    evidence.context_effects = _context_effects(pairs, metric, evidence.effect)
    if len(found) >= 2:
        evidence.interval = statistics.t_interval(found)
        evidence.p, evidence.p_sign_flip = _p_values(found, claim["margin"])
    if len(found) < MIN_SEEDS:
        evidence.reason = f"a verdict needs {MIN_SEEDS} seeds, this has {count(len(found), 'seed')}"
    return evidence


def _incomparable(metric: str, pairs: Sequence[Pair], varied: Sequence[str]) -> str | None:
    """Why the pairs are no fair comparison, or None."""
    if not pairs:
        return "no cell of one side has a legal partner on the other that differs in nothing else, in every seed"
    cells = list({cell["id"]: cell for pair in pairs for cell in (*pair.first, *pair.second)}.values())
    missing = [cell for cell in cells if cell["metrics"].get(metric, {}).get("value") is None]
    if missing:
        why = missing[0]["metrics"].get(metric, {}).get("reason") or missing[0]["reason"] or missing[0]["status"]
        return f"{metric} is missing in {len(missing)} of {count(len(cells), 'cell')}: {missing[0]['id']}: {why}"
    both = [couple for pair in pairs for couple in pair.both()]
    same = [one["id"] for one, other in both if _one_result(metric, one, other)]
    if same:
        return f"both sides are one and the same result in {len(same)} of {count(len(both), 'pair')} ({same[0]}, …)"
    mixed = mixed_families(pairs)
    if mixed:
        return mixed
    records = [(cell["id"], cell["metrics"][metric]["protocol"]) for cell in cells]
    for name, protocol in records:
        unequal = differences(records[0][1], protocol, varied)
        if unequal:
            return f"{records[0][0]} and {name} were measured under different protocols ({'; '.join(unequal)})"
        unfit = no_claim(protocol)
        if unfit:
            return f"{metric} is {unfit}"
    return None


def _one_result(metric: str, one: Cell, other: Cell) -> bool:
    """Whether two cells have the value from the very same artifacts, so that the difference is 0 by construction."""
    if one["train_key"] != other["train_key"]:
        return False
    name = "likelihood" if metric.startswith("bits_per_dim") else "samples"
    found = one["artifacts"].get(name)
    return bool(found) and found == other["artifacts"].get(name)


def _difference(pair: Pair, metric: str) -> float:
    """Mean of the first side − mean of the second."""
    means = (
        math.fsum(cell["metrics"][metric]["value"] for cell in side) / len(side) for side in (pair.first, pair.second)
    )
    first, second = means
    return first - second


def _by_seed(pairs: Sequence[Pair], metric: str) -> dict[int, float]:
    """Seed → difference, averaged over its contexts."""
    found: dict[int, list[float]] = {}
    for pair in pairs:
        found.setdefault(pair.seed, []).append(_difference(pair, metric))
    return {seed: math.fsum(found[seed]) / len(found[seed]) for seed in sorted(found)}


def _context_effects(pairs: Sequence[Pair], metric: str, effect: float) -> list[dict[str, Any]]:
    found: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for pair in pairs:
        found.setdefault(pair.context, []).append(_difference(pair, metric))
    means = {context: math.fsum(values) / len(values) for context, values in found.items()}
    return [
        {"context": dict(context), "effect": mean, "sign_differs": mean * effect < 0} for context, mean in means.items()
    ]


def _image_interval(
    pairs: Sequence[Pair], seed: int, metric: str, per_image: PerImage | None
) -> tuple[float, float] | None:
    """Of a seed's difference, over images; None where the values of single images are not at hand."""
    if per_image is None:
        return None
    contrasts = []
    for pair in (pair for pair in pairs if pair.seed == seed):
        sides = [[per_image(cell, metric) for cell in side] for side in (pair.first, pair.second)]
        arrays = [[array for array in side if array is not None] for side in sides]
        if any(len(array) < len(side) for array, side in zip(arrays, sides, strict=True)):
            return None
        first, second = (np.mean(side, axis=0) for side in arrays)
        contrasts.append(first - second)
    return statistics.image_interval(np.mean(contrasts, axis=0))


def _p_values(found: Sequence[float], margin: float | None) -> tuple[float, float]:
    """(p, p of the sign-flip test). Of an equivalence only one of the two errors is possible: the smaller p."""
    if margin is None:
        return statistics.paired_t(found), statistics.sign_flip(found)
    return (
        min(statistics.equivalence(found, margin), statistics.beyond(found, margin)),
        statistics.sign_flip(found, margin),
    )


def _decide(claim: Mapping[str, Any], evidence: Evidence) -> None:
    assert evidence.effect is not None
    assert evidence.p_holm is not None
    assert evidence.family_size is not None
    if evidence.p_holm < ALPHA:
        evidence.verdict = "supported" if _as_claimed(claim, evidence) else "contradicted"
        return
    evidence.verdict = "inconclusive"
    values = [item["value"] for item in evidence.differences]
    evidence.seeds_needed = statistics.seeds_to_decide(values, ALPHA / evidence.family_size, claim["margin"])


def _as_claimed(claim: Mapping[str, Any], evidence: Evidence) -> bool:
    effect = evidence.effect or 0.0
    if claim["margin"] is not None:
        return abs(effect) < float(claim["margin"])
    return effect > 0 if evidence.higher_is_better else effect < 0
