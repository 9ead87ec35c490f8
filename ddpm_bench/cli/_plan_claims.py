"""What the seeds and cells of a suite mean for its claims, said before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddpm_bench.errors import count

if TYPE_CHECKING:
    from ddpm_bench.planning import Plan


def claim_warnings(plan: Plan) -> list[str]:
    """Claims that no outcome can decide, and families in which Holm leaves the sign-flip test no chance."""
    if not plan.suite.claims:
        return []
    from ddpm_bench.matching import family_of, mixed_families, pairs_of
    from ddpm_bench.protocols import varied_axes
    from ddpm_bench.statistics import MIN_SEEDS

    cells = _cells(plan)
    varied = varied_axes(plan.suite.axes, cells)
    found: list[str] = []
    few: list[int] = []
    families: dict[str, list[tuple[int, bool]]] = {}
    for claim in plan.suite.claims:
        pairs, _ = pairs_of(claim.to_json(), cells, varied)
        mixed = mixed_families(pairs)
        seeds = len({pair.seed for pair in pairs})
        if not pairs:
            found.append(
                f'"{claim.statement}" will be untestable: its sides have no legal cells that differ in nothing else'
            )
        elif mixed:
            found.append(f'"{claim.statement}" will be untestable: {mixed}')
        elif seeds < MIN_SEEDS:
            few.append(seeds)
        else:
            families.setdefault(family_of(pairs), []).append((seeds, claim.equivalent is not None))
    if few:
        total = len(plan.suite.claims)
        which = "the claim" if total == 1 else f"{len(few)} of {total} claims"
        have = f"there {'is' if max(few) == 1 else 'are'} {count(max(few), 'seed')}"
        found.append(f"{which} will be untestable: a verdict needs {MIN_SEEDS} seeds, {have}; add seeds to [matrix]")
    return found + [text for family, members in families.items() if (text := _beyond_sign_flip(family, members))]


def _beyond_sign_flip(family: str, members: list[tuple[int, bool]]) -> str | None:
    """Whether Holm's first step is out of reach of the sign-flip test. members: (seeds, whether it is an equivalence).

    The least p of n seeds is 2^(1 − n), of an equivalence 2^(−n) (statistics.sign_flip).
    """
    from ddpm_bench.statistics import ALPHA

    least = min(2.0 ** (-seeds if equivalence else 1 - seeds) for seeds, equivalence in members)
    if least * len(members) <= ALPHA:
        return None
    return (
        f"with {count(max(seeds for seeds, _ in members), 'seed')} the sign-flip p is {least:.2g} at least, times "
        f"{count(len(members), 'claim')} {family} (Holm) {least * len(members):.2g}: it can confirm none of them; "
        "verdicts rest on the t test"
    )


def _cells(plan: Plan) -> list[dict[str, Any]]:
    """As results.json will have them, as far as a claim's pairs need it."""
    trained = {cell.suite_cell.id: cell.train.key for cell in plan.cells}
    return [
        {
            "id": cell.id, "axes": cell.axes, "seed": cell.cell.seed, "train_key": trained.get(cell.id),
            "status": "waiting" if cell.id in trained else "illegal",
        }
        for cell in plan.suite.cells
    ]  # fmt: skip
