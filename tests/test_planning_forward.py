"""The forward process in a plan: one artifact for all cells of a schedule and T, whatever else they are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ddpm_bench.collecting import Collector
from ddpm_bench.planning import Plan
from ddpm_bench.planning.cost import plan_cost
from ddpm_bench.planning.file import to_json
from ddpm_bench.planning.jobs import make_jobs
from ddpm_bench.stages import Task
from tests.test_planning import Plans

FOUR = '[matrix]\nprediction = ["epsilon", "x0"]\nvariance = ["beta", "beta_tilde"]\nseed = [0, 1]\n'


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def forward(plan: Plan) -> list[Task]:
    return [task for task in plan.tasks().values() if task.stage == "forward"]


def test_all_cells_share_one(plans: Plans) -> None:
    plan = plans(FOUR)
    (task,) = forward(plan)
    assert {cell.forward.key for cell in plan.cells if cell.forward} == {task.key}
    assert len(plan.cells) == 8
    assert task.spec["timesteps"] == 100
    assert task.spec["schedule"]["name"] == "linear"
    assert task.inputs == {"data": ["data", plan.data.key]}


def test_each_schedule_and_length_has_its_own(plans: Plans) -> None:
    plan = plans('[matrix]\nschedule = ["linear", "cosine"]\ntimesteps = [50, 100]\nseed = [0, 1]\n')
    assert len(forward(plan)) == 4
    assert {(task.spec["schedule"]["name"], task.spec["timesteps"]) for task in forward(plan)} == {
        (name, steps) for name in ("linear", "cosine") for steps in (50, 100)
    }


@pytest.mark.parametrize(
    "change",
    [
        "diffusion.loss=vlb", "network.channels=8", "training.steps=5", "reverse.sampling_steps=10",
        "evaluation.samples=7", "evaluation.images=7", "evaluation.gallery=false",
        "evaluation.metrics=['kernel_distance']",
    ],
)  # fmt: skip
def test_nothing_else_changes_it(plans: Plans, change: str) -> None:
    assert forward(plans("", change)) == forward(plans())


def test_the_content_of_the_data_does(plans: Plans) -> None:
    assert forward(plans())[0].key != forward(plans(digest="e2" * 32))[0].key


def test_schedules_of_equal_betas_are_one(plans: Plans) -> None:
    unscaled = plans("", "diffusion.timesteps=1000", "diffusion.schedule={name = 'linear', scale = false}")
    assert forward(unscaled) == forward(plans("", "diffusion.timesteps=1000"))


def test_data_without_levels_have_one(plans: Plans) -> None:
    assert len(forward(plans("", 'dataset={name = "gaussian"}'))) == 1


def test_it_is_made_once_and_waits_for_nothing(plans: Plans) -> None:
    plan = plans(FOUR)
    jobs = make_jobs(plan, num_workers=2)
    makers = [job for job in jobs if any(task.stage == "forward" for task in job.tasks)]
    assert len(makers) == 1
    assert not makers[0].needs
    for task in makers[0].tasks:
        plans.finish(task)
    assert not any(task.stage == "forward" for job in make_jobs(plans(FOUR), 2) for task in job.tasks)


def test_only_the_selected_cells_need_it(plans: Plans) -> None:
    matrix = '[matrix]\nschedule = ["linear", "cosine"]\n'
    plan = plans(matrix, only=("schedule=cosine",))
    assert len(forward(plan)) == 2
    for found in (plan.missing().values(), (task for job in make_jobs(plan, 1) for task in job.tasks)):
        assert [task.spec["schedule"]["name"] for task in found if task.stage == "forward"] == ["cosine"]


def test_it_costs_bytes_and_no_network_call(plans: Plans) -> None:
    """The arrays: 4 images of 64 values in float32 and 161 bins in float64 at 9 t, and the 162 edges of the bins."""
    plan = plans()
    without = plans()
    without.cells = [dataclasses.replace(cell, forward=None) for cell in without.cells]
    cost, less = plan_cost(plan, (1, 8, 8)), plan_cost(without, (1, 8, 8))
    assert cost.num_bytes - less.num_bytes == 9 * 4 * 64 * 4 + (9 * 161 + 162) * 8
    assert dataclasses.replace(cost, num_bytes=0) == dataclasses.replace(less, num_bytes=0)
    assert len(plan.missing()) == len(without.missing()) + 1


def test_results_say_where_it_lies(plans: Plans) -> None:
    plan = plans(FOUR)
    found = json.loads(json.dumps(to_json(plan)))
    (task,) = forward(plan)

    def places() -> set[str | None]:
        record = Collector(plans.runs, found)
        return {record.cell(cell)["artifacts"]["forward"] for cell in found["cells"]}

    assert places() == {None}
    plans.finish(task)
    assert places() == {f"store/forward/{task.key}"}


def test_plans_of_earlier_runs_have_none(plans: Plans) -> None:
    found = json.loads(json.dumps(to_json(plans())))
    (cell,) = found["cells"]
    cell.pop("forward")
    collector = Collector(plans.runs, found)
    assert collector.cell(cell)["artifacts"]["forward"] is None
    assert "forward" not in {stage for stage, _ in collector.tasks(cell)}
