"""The landscape part of a plan: off by default, which trainings have one, what it shares and costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_bench.errors import UserError
from ddpm_bench.planning import Plan
from ddpm_bench.planning.cost import network_cost, plan_cost
from ddpm_bench.planning.file import read_tasks, to_json
from ddpm_bench.planning.jobs import make_jobs
from ddpm_bench.stages import Task
from tests.test_planning import INFO, SUITE, Plans

ON = "evaluation.landscape=true"
SMALL = "evaluation.landscape={checkpoints = 5, points = 4, images = 10}"
BOTH = '[matrix]\nvariance = ["beta", "beta_tilde"]\nprediction = ["epsilon", "x0"]\nseed = [3, 1]\n'


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def of_stage(plan: Plan, stage: str) -> list[Task]:
    return [task for task in plan.tasks().values() if task.stage == stage]


def test_off_unless_asked_for_and_no_key_moves(plans: Plans) -> None:
    without, plan = plans(BOTH), plans(BOTH, ON)
    assert not of_stage(without, "landscape")
    assert without.tasks().keys() == plans(BOTH, "evaluation.landscape=false").tasks().keys()
    more = plan.tasks().keys() - without.tasks().keys()
    assert not without.tasks().keys() - plan.tasks().keys()
    assert {plan.tasks()[key].stage for key in more} == {"train", "landscape"}


def test_one_for_each_training_of_the_first_seed(plans: Plans) -> None:
    plan = plans(BOTH, ON)
    assert len(of_stage(plan, "landscape")) == 2
    for cell in plan.cells:
        assert (cell.landscape is not None) == (cell.suite_cell.cell.seed == 3)
    assert len({cell.landscape.key for cell in plan.cells if cell.landscape}) == 2
    assert len(of_stage(plan, "train")) == 4 + 2 * 20  # of each of two trainings the checkpoints before its end


def test_checkpoints_are_evenly_spread_and_in_order(plans: Plans) -> None:
    (cell,) = plans("", ON).cells
    assert [task.spec["steps"] for task in cell.checkpoints] == list(range(0, 1001, 50))
    assert cell.checkpoints[-1] is cell.train
    assert len({str(task.spec["training"]) for task in cell.checkpoints}) == 1
    assert cell.landscape is not None
    assert cell.landscape.inputs["checkpoints"] == [["train", task.key] for task in cell.checkpoints]
    # Their curves are validated as often as that of the whole training, not a tenth of each.
    assert {task.recorded["validate_every"] for task in cell.checkpoints[:-1]} == {100}
    (uneven,) = plans("", "evaluation.landscape.checkpoints=4").cells
    assert [task.spec["steps"] for task in uneven.checkpoints] == [0, 333, 667, 1000]


def test_the_longest_of_trainings_on_one_trajectory(plans: Plans) -> None:
    plan = plans('[matrix]\n"training.steps" = [500, 1000, 20]\n', ON)
    assert [cell.landscape is not None for cell in plan.cells] == [False, True, False]
    # What the matrix trains anyway, and is a checkpoint, is one task.
    assert len(of_stage(plan, "train")) == 21 + 1


def test_what_is_in_the_key(plans: Plans) -> None:
    def key(*overrides: str) -> str:
        (cell,) = plans("", SMALL, *overrides).cells
        assert cell.landscape is not None
        return cell.landscape.key

    changes = [
        "evaluation.landscape.points=5", "evaluation.landscape.images=11", "evaluation.landscape.checkpoints=6",
        "reverse.weights=raw", "training.learning_rate=1e-3",
    ]  # fmt: skip
    assert len({key(), *(key(change) for change in changes)}) == 1 + len(changes)
    for change in ("reverse.variance=optimal", "reverse.sampling_steps=10", "evaluation.samples=7",
                   "evaluation.landscape={checkpoints = 5, points = 4, images = 10}"):  # fmt: skip
        assert key(change) == key()
    many = [key(f"evaluation.landscape.images={count}") for count in (INFO["num_test"], 5000)]
    assert many[0] == many[1]


def test_the_plan_file_holds_it(plans: Plans) -> None:
    plan = plans("", SMALL)
    (cell,) = plan.cells
    assert cell.landscape is not None
    written = to_json(plan)
    assert written["cells"][0]["landscape"] == cell.landscape.key
    assert read_tasks(written, [cell.landscape.key]) == [cell.landscape]
    assert to_json(plans())["cells"][0]["landscape"] is None


@pytest.mark.parametrize("num_workers", [1, 4])
def test_jobs(plans: Plans, num_workers: int) -> None:
    """Trainings of a trajectory are one job, shorter ones first; the landscape waits for them all."""
    plan = plans("", SMALL)
    jobs = make_jobs(plan, num_workers)
    (cell,) = plan.cells
    assert cell.landscape is not None
    trains = [[task.key for task in job.tasks if task.stage == "train"] for job in jobs]
    assert [task.key for task in cell.checkpoints] in trains
    (own,) = [job for job in jobs if cell.landscape in job.tasks]
    if num_workers == 1:
        assert own.tasks[-1] is cell.landscape
        assert own.tasks[:5] == cell.checkpoints
    else:
        assert own.tasks == [cell.landscape]
        assert own.needs == {task.key for task in cell.checkpoints}


def test_what_it_costs(plans: Plans) -> None:
    """(4² grid points + 2 · 5 checkpoints) · 10 images · 9 t; four networks of weights and averages; no more steps."""
    shape = (1, 8, 8)
    with_it, without = (plan_cost(plans("", *overrides), shape) for overrides in ((SMALL,), ()))
    assert with_it.network_calls - without.network_calls == (16 + 10) * 10 * 9
    assert with_it.training_images == without.training_images == 1000 * 128
    num_bytes = network_cost(plans().cells[0].suite_cell.cell, shape).num_bytes
    assert with_it.num_bytes - without.num_bytes == 4 * 2 * num_bytes + 2 * 16 * 8


def test_a_training_that_is_known_to_have_diverged_has_none(plans: Plans) -> None:
    (cell,) = plans().cells
    plans.finish(cell.train, outcome={"status": "diverged", "step": 3, "t": 1, "loss": "inf"})
    plan = plans("", ON)
    assert plan.cells[0].landscape is None
    assert not [task for task in plan.missing().values() if task.stage in ("train", "landscape")]


# What a suite may say


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("landscape = 20", "landscape: expected true, false or a table {checkpoints = …}, got the integer 20"),
        ("landscape = { checkpoints = 2 }", "landscape.checkpoints: must be at least 3 (they span a plane), got 2"),
        ("landscape = { points = 2 }", "landscape.points: must be at least 3, got 2"),
        ("landscape = { images = 0 }", "landscape.images: must be at least 1, got 0"),
        ("landscape = { point = 9 }", 'landscape.point: unknown key; did you mean "points"?'),
        ('landscape = { points = "9" }', 'landscape.points: expected an integer, got the string "9"'),
        ("landscape = { checkpoints = 1002 }", "landscape.checkpoints: 1002 different weights need a training of at "
         "least 1001 steps, and one here has 1000; set checkpoints = 1001 or fewer"),
    ],
)  # fmt: skip
def test_mistakes(plans: Plans, written: str, message: str) -> None:
    """One message each, with the line: that of the table where there is no key."""
    with pytest.raises(UserError) as caught:
        plans(written)
    line = SUITE.count("\n") + 1
    assert caught.value.problems == [f"{plans.folder / 'tiny.toml'}:{line}: evaluation.{message}"]


def test_too_few_steps_for_the_default(plans: Plans) -> None:
    with pytest.raises(UserError) as caught:
        plans("landscape = true\n", "training.steps=7")
    (problem,) = caught.value.problems
    assert "evaluation.landscape.checkpoints: 21 different weights need a training of at least 20 steps" in problem
    assert problem.endswith("and one here has 7; set checkpoints = 8 or fewer")
    plans("landscape = { checkpoints = 8 }\n", "training.steps=7")


def test_nothing_to_train(plans: Plans) -> None:
    gaussian = ("dataset=gaussian", "network=closed_form", "training.steps=0")
    with pytest.raises(UserError) as caught:
        plans("landscape = true\n", *gaussian)
    assert [text.rpartition("; ")[2] for text in caught.value.problems] == ["leave the landscape out"]


def test_short_trainings_beside_a_long_one_are_no_mistake(plans: Plans) -> None:
    plans('[matrix]\n"training.steps" = [5, 1000]\n', ON)
    with pytest.raises(UserError):
        plans('[matrix]\n"training.steps" = [5, 10]\n', ON)


def test_every_step_may_be_a_checkpoint(plans: Plans) -> None:
    (cell,) = plans("landscape = { checkpoints = 5 }\n", "training.steps=4").cells
    assert [task.spec["steps"] for task in cell.checkpoints] == [0, 1, 2, 3, 4]
