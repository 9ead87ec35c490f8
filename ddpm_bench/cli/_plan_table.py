"""The terminal form of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from ddpm_bench.planning import CellPlan, Plan

MAX_DIFFERENCES = 4


def print_plan(plan: Plan, console: Console) -> None:
    """Cells, shared trainings, what exists and why the rest is not reused, and what the rest costs."""
    table = Table(title=f"{plan.suite.title} ({plan.suite.name})", title_justify="left", title_style="bold")
    for column in ("cell", "training", "exists"):
        table.add_column(column)
    numbers = {key: str(i + 1) for i, key in enumerate(plan.trainings())}
    selected = {id(cell) for cell in plan.selected()}
    for cell in plan.cells:
        if id(cell) in selected:
            table.add_row(cell.suite_cell.id, numbers[cell.train.key], _existing(plan, cell))
    for suite_cell in plan.illegal:
        table.add_row(f"[dim]{suite_cell.id}[/dim]", "–", f"illegal: {suite_cell.reason}")
    console.print(table)
    trainings = {cell.train.key for cell in plan.selected()}
    done = sum(plan.store.has("train", key) for key in trainings)
    console.print(f"{len(plan.selected())} cells, {len(trainings)} trainings, {done} of them exist")
    _print_data(plan, console)
    _print_reuse(plan, console)
    _print_cost(plan, console)
    reasons: dict[str, list[str]] = {}
    for name, reason in plan.not_computed.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in ({} if plan.problems else reasons).items():
        console.print(f"not computed: {', '.join(names)}: {reason}", markup=False)
    for note in plan.suite.skipped_notes:
        console.print(f"note: {note}", markup=False)


def _existing(plan: Plan, cell: CellPlan) -> str:
    stages: dict[str, list[bool]] = {}
    for task in cell.tasks():
        stages.setdefault(task.stage, []).append(plan.store.has(task.stage, task.key))
    if all(all(found) for found in stages.values()):
        return "all"
    return ", ".join(f"{stage} {sum(found)}/{len(found)}" for stage, found in stages.items() if any(found)) or "nothing"


def _print_data(plan: Plan, console: Console) -> None:
    info = plan.info
    if info is None:
        console.print("data: not decoded yet; keys are provisional until the data stage has run")
        return
    levels = f"{info['levels']} levels" if info["levels"] else "real values"
    sizes = "/".join(str(info[f"num_{split}"]) for split in ("train", "validation", "test"))
    shape = "×".join(map(str, info["shape"]))
    console.print(f"data: {info['name']}, {shape}, {levels}, {sizes} train/validation/test")


def _print_reuse(plan: Plan, console: Console) -> None:
    from ddpm_bench.reuse import nearest_difference

    shown: set[str] = set()
    for cell in plan.selected():
        key = cell.train.key
        if key in shown or plan.store.has("train", key):
            continue
        shown.add(key)
        difference = nearest_difference(plan.store, cell.train)
        if difference:
            more = f" and {len(difference) - MAX_DIFFERENCES} more" if len(difference) > MAX_DIFFERENCES else ""
            console.print(
                f"{cell.suite_cell.label}: not reused, differs from the nearest training in "
                + "; ".join(difference[:MAX_DIFFERENCES]) + more, markup=False,
            )  # fmt: skip


def _print_cost(plan: Plan, console: Console) -> None:
    missing = plan.missing()
    if not missing:
        console.print("nothing to do: every artifact exists")
        return
    from ddpm_bench.cost import plan_cost
    from ddpm_bench.datasets import data_root

    cell = plan.selected()[0].suite_cell.cell
    shape = tuple(plan.info["shape"]) if plan.info else cell.dataset.shape(data_root())
    cost = plan_cost(plan, shape)
    console.print(
        f"to do: {len(missing)} artifacts, {cost.training_images:,} training images, {cost.network_calls:,} network "
        f"calls in evaluation, {cost.flops:.3g} FLOPs, {cost.num_bytes / 2**20:,.1f} MiB"
    )
    if cost.seconds is None:
        console.print("time: unknown, this machine has not measured these networks yet")
    else:
        minutes, seconds = divmod(int(cost.seconds), 60)
        console.print(f"time: about {minutes} min {seconds} s on one worker, as measured on this machine")
