"""What the number of seeds means for the claims of a suite, said before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_bench.errors import count

if TYPE_CHECKING:
    from ddpm_bench.planning import Plan
    from ddpm_bench.statements import Claim


def claim_warnings(plan: Plan) -> list[str]:
    """Claims that no outcome can decide, and families in which Holm leaves the sign-flip test no chance."""
    if not plan.suite.claims:
        return []
    from ddpm_bench.claims import ACROSS, WITHIN
    from ddpm_bench.statistics import ALPHA, MIN_SEEDS

    seeds = {cell.suite_cell.id: cell.suite_cell.cell.seed for cell in plan.cells}
    trained = {cell.suite_cell.id: cell.train.key for cell in plan.cells}
    families: dict[str, list[int]] = {ACROSS: [], WITHIN: []}
    for claim in plan.suite.claims:
        first, second = _sides(claim)
        shared = {trained.get(cell) for cell in first} & {trained.get(cell) for cell in second} - {None}
        own = [{seeds[cell] for cell in side if cell in seeds} for side in (first, second)]
        families[WITHIN if shared else ACROSS].append(len(own[0] & own[1]))
    found = []
    few = [number for numbers in families.values() for number in numbers if number < MIN_SEEDS]
    if few:
        total = len(plan.suite.claims)
        which = "the claim" if total == 1 else f"{len(few)} of {total} claims"
        found.append(
            f"{which} will be untestable: a verdict needs {MIN_SEEDS} seeds, {_have(few)}; add seeds to [matrix]"
        )
    for family, numbers in families.items():
        enough = [number for number in numbers if number >= MIN_SEEDS]
        if enough and (least := 2 ** (1 - max(enough)) * len(enough)) > ALPHA:
            found.append(
                f"with {count(max(enough), 'seed')} the sign-flip p is {2 ** (1 - max(enough)):.2g} at least, times "
                f"{len(enough)} claims {family} (Holm) {least:.2g}: it can confirm none of them; verdicts rest on the "
                "t test"
            )
    return found


def _sides(claim: Claim) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if claim.equivalent:
        return claim.equivalent[0].cells, claim.equivalent[1].cells
    assert claim.better is not None
    assert claim.than is not None
    return claim.better.cells, claim.than.cells


def _have(few: list[int]) -> str:
    return f"there {'is' if max(few) == 1 else 'are'} {count(max(few), 'seed')}"
