"""The terminal form of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from ddpm_bench.cli._plan_claims import claim_warnings
from ddpm_bench.errors import count

if TYPE_CHECKING:
    from rich.console import Console

    from ddpm_bench.planning import CellPlan, Plan
    from ddpm_bench.planning.cost import Cost
    from ddpm_bench.suite import SuiteCell

MAX_DIFFERENCES = 4


def print_plan(plan: Plan, console: Console) -> None:
    """Cells, shared trainings, what exists and why the rest is not reused, and what the rest costs."""
    console.print(f"{plan.suite.title} ({plan.suite.name})", style="bold", markup=False)
    table = Table()
    for column in ("cell", "training", "exists"):
        table.add_column(column, justify="right" if column == "training" else "left", overflow="fold")
    numbers = {key: str(i + 1) for i, key in enumerate(plan.trainings())}
    for cell in plan.selected():
        table.add_row(cell.suite_cell.id, numbers[cell.train.key], _existing(plan, cell))
    console.print(table)
    trainings = {cell.train.key for cell in plan.selected()}
    done = sum(plan.store.has("train", key) for key in trainings)
    cells = count(len(plan.selected()), "cell")
    console.print(f"{cells}, {count(len(trainings), 'training')}, {done} of them exist")
    for reason in dict.fromkeys(cell.reason for cell in plan.illegal):
        members = [cell for cell in plan.illegal if cell.reason == reason]
        print(f"illegal, {len(members)} of {len(plan.suite.cells)} cells ({_in_common(members, plan)}): {reason}")
    _print_data(plan)
    _print_reuse(plan)
    _print_cost(plan, console)
    unmeasured: dict[str, list[str]] = {}
    for name, why in plan.not_computed.items():
        unmeasured.setdefault(why, []).append(name)
    for why, names in ({} if plan.problems else unmeasured).items():
        print(f"not computed: {', '.join(names)}: {why}")
    for warning in [*plan.warnings, *claim_warnings(plan)]:
        print(f"warning: {warning}")
    for note in plan.suite.skipped_notes:
        print(f"note: {note}")


def _in_common(members: list[SuiteCell], plan: Plan) -> str:
    """What these cells share and others of the suite do not; the id of a single one."""
    if len(members) == 1:
        return members[0].id
    everyone = [cell.axes for cell in plan.suite.cells]
    shared = [
        f"{axis} = {value}"
        for axis, value in members[0].axes.items()
        if all(cell.axes[axis] == value for cell in members) and any(axes[axis] != value for axes in everyone)
    ]
    return ", ".join(shared)


def _existing(plan: Plan, cell: CellPlan) -> str:
    stages: dict[str, list[bool]] = {}
    for task in cell.tasks():
        stages.setdefault(task.stage, []).append(plan.store.has(task.stage, task.key))
    if all(all(found) for found in stages.values()):
        return "all"
    parts = [
        stage if all(found) else f"{stage} {sum(found)}/{len(found)}" for stage, found in stages.items() if any(found)
    ]
    return ", ".join(parts) or "nothing"


def _print_data(plan: Plan) -> None:
    info = plan.info
    if info is None:
        print(f"data: {plan.suite.configuration['dataset']['name']}, not decoded yet")
        return
    levels = f"{info['levels']} levels" if info["levels"] else "real values"
    sizes = "/".join(str(info[f"num_{split}"]) for split in ("train", "validation", "test"))
    shape = "×".join(map(str, info["shape"]))
    print(f"data: {info['name']}, {shape}, {levels}, {sizes} train/validation/test")


def _print_reuse(plan: Plan) -> None:
    """One line for each variant, of trainings that go on and of those that begin: the first seed stands for all."""
    from ddpm_bench.planning.cost import already_trained
    from ddpm_bench.planning.reuse import nearest_difference

    seen: set[str] = set()
    missing: dict[str, list[CellPlan]] = {}
    for cell in plan.selected():
        key = cell.train.key
        if key not in seen and not plan.store.has("train", key):
            missing.setdefault(cell.suite_cell.label, []).append(cell)
        seen.add(key)
    going_on, beginning = [], []
    for label, cells in missing.items():
        train = cells[0].train
        who = f"  {label}" + (f" ({count(len(cells), 'seed')}, the first one shown)" if len(cells) > 1 else "")
        start = already_trained(plan, train)
        if start:
            going_on.append(f"{who}: from step {start} to {train.spec['steps']}")
            continue
        difference = nearest_difference(plan.store, train)
        if difference:
            more = f" and {len(difference) - MAX_DIFFERENCES} more" if len(difference) > MAX_DIFFERENCES else ""
            beginning.append(f"{who}: {'; '.join(difference[:MAX_DIFFERENCES])}{more}")
    for heading, lines in (
        ("shorter trainings that go on", going_on),
        ("not reused, since the nearest training differs in (there → here)", beginning),
    ):
        if lines:
            print("\n".join([heading, *lines]))


def _print_cost(plan: Plan, console: Console) -> None:
    missing = plan.missing()
    if not plan.selected():
        console.print("nothing to do: no legal cell is selected")
        return
    if not missing:
        console.print("nothing to do: every artifact exists")
        return
    from ddpm_bench.datasets import data_root
    from ddpm_bench.planning.cost import plan_cost
    from ddpm_bench.stages import CHUNK

    cell = plan.selected()[0].suite_cell.cell
    shape = tuple(plan.info["shape"]) if plan.info else cell.dataset.shape(data_root())
    cost = plan_cost(plan, shape)
    console.print(
        f"to do: {len(missing):,} artifacts, {cost.training_images:,} training images, {cost.network_calls:,} network "
        f"calls in evaluation, {cost.flops:.3g} FLOPs, {_size(cost.num_bytes)}"
    )
    if plan.info is None:
        console.print(f"(until the data are decoded, which is a run's first step, a split counts as {CHUNK} images)")
    console.print(_time(cost))


def _time(cost: Cost) -> str:
    if cost.seconds is None:
        return "time: unknown, this machine has not measured these networks yet"
    minutes, seconds = divmod(round(cost.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(hours or minutes) + [f"{seconds} s"] * (not hours)
    return f"time: about {' '.join(parts)} of network calls on one worker, as measured on this machine"


def _size(num_bytes: int) -> str:
    size, unit = num_bytes / 2**20, "MiB"
    if size >= 1024:
        size, unit = size / 1024, "GiB"
    return f"{size:,.1f} {unit}"
