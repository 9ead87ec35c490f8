"""The landscape part of a plan: checkpoints along the trainings of one seed, and the loss around each path."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ddpm_bench.identity import dumps
from ddpm_bench.planning.plan import CellPlan
from ddpm_bench.planning.planner import Planner
from ddpm_bench.spec import Cell, Landscape
from ddpm_bench.stages import Task

SPLIT = "test"


def add_landscapes(planner: Planner, cells: Sequence[CellPlan]) -> None:
    """Gives cells the landscape of their training, where the suite asks for landscapes.

    Of the first seed alone, and of trainings that differ in nothing but the number of steps the longest: its path has
    theirs in it. A training that is known to have diverged has none.
    """
    wanted = planner.evaluation.landscape
    if wanted is None:
        return
    seed = planner.suite.cells[0].cell.seed
    of_seed = [plan for plan in cells if plan.suite_cell.cell.seed == seed]
    longest: dict[str, int] = {}
    for plan in of_seed:
        longest[_trajectory(plan)] = max(longest.get(_trajectory(plan), 0), plan.train.spec["steps"])
    for plan in of_seed:
        if plan.train.spec["steps"] == longest[_trajectory(plan)] and not _diverged(planner, plan.train):
            plan.checkpoints = _checkpoints(planner, plan, wanted)
            spec = {
                "weights": plan.suite_cell.cell.reverse.weights, "points": wanted.points, "split": SPLIT,
                "images": planner.count(SPLIT, wanted.images),
            }  # fmt: skip
            inputs = {"checkpoints": plan.checkpoints, "data": planner.data}
            plan.landscape = planner.task("landscape", spec, inputs, {})


def _trajectory(plan: CellPlan) -> str:
    return dumps(plan.train.spec["training"])


def _diverged(planner: Planner, train: Task) -> bool:
    return planner.store.has("train", train.key) and bool(planner.store.get("train", train.key).outcome)


def _checkpoints(planner: Planner, plan: CellPlan, wanted: Landscape) -> list[Task]:
    """The trainings whose weights are the path, in order of the steps, the cell's own at the end."""
    cell = plan.suite_cell.cell
    steps = wanted.steps_of(cell.training.steps)
    return [*(planner.train(_stopped(cell, step))[0] for step in steps[:-1]), plan.train]


def _stopped(cell: Cell, steps: int) -> Cell:
    """The cell with a shorter training. Its curves are validated as often as those of the whole one."""
    every = cell.training.validate_every or max(1, cell.training.steps // 10)
    return dataclasses.replace(cell, training=dataclasses.replace(cell.training, steps=steps, validate_every=every))
