"""What a likelihood needs: which scores it reads, which of them cells share, and what is fitted first."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_bench.errors import UserError
from ddpm_bench.planning import CellPlan, Plan
from ddpm_bench.planning.cost import plan_cost
from ddpm_bench.planning.jobs import make_jobs
from ddpm_bench.stages import Task
from tests.test_planning import INFO, Plans, by_axes

LEARNED = '{ name = "hybrid", variance = "learned_range" }'


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def matrix(**axes: str) -> str:
    return "[matrix]\n" + "".join(f"{name} = {values}\n" for name, values in axes.items())


def keys(tasks: list[Task]) -> list[str]:
    return [task.key for task in tasks]


def inputs(cell: CellPlan, name: str) -> list[str]:
    return [key for _, key in cell.likelihood["test"].inputs[name]]


# Which scores


def test_one_full_score_serves_every_fixed_variance_clip_and_chain_with_its_first_step(plans: Plans) -> None:
    axes = {"variance": '["beta", "beta_tilde"]', "thresholding": '["clip", "none"]', "sampling_steps": '["all", 10]'}
    plan = plans(matrix(**axes))
    assert len(plan.cells) == 8
    assert len({tuple(keys(cell.score["test"])) for cell in plan.cells}) == 1
    assert len({cell.likelihood["test"].key for cell in plan.cells}) == 8


def test_a_chain_without_the_first_step_scores_its_own_first_step_and_nothing_else(plans: Plans) -> None:
    whole = plans().cells[0]
    trailing = plans("", "reverse.sampling_steps=10", "reverse.spacing=trailing").cells[0]
    assert inputs(trailing, "score") == inputs(whole, "score")
    extra = [task for task in trailing.score["test"] if task not in whole.score["test"]]
    assert [task.spec["timesteps"] for task in extra] == [[10]] * len(extra)
    assert keys(extra) == inputs(trailing, "first")


def test_a_head_is_scored_on_the_chain_that_is_walked(plans: Plans) -> None:
    plan = plans(matrix(variance='["beta", "learned_range"]', sampling_steps='["all", 10]', loss=f"[{LEARNED}]"))
    cells = by_axes(plan, "variance", "sampling_steps")
    assert len({cell.train.key for cell in plan.cells}) == 1  # β uses the mean of the same network
    full = cells["learned_range", "all"].score
    assert cells["beta", "all"].score == cells["beta", "10"].score == full
    own = cells["learned_range", "10"].score["test"]
    assert own[0].spec["timesteps"] == cells["learned_range", "10"].samples[0].spec["reverse"]["timesteps"]
    assert len(own[0].spec["timesteps"]) == 10


def test_sampled_steps_are_those_of_the_chain_and_need_the_spectrum(plans: Plans) -> None:
    sampled = 'evaluation.estimator={name = "importance", calls_per_image = 20}'
    plan = plans(matrix(sampling_steps='["all", 50]', variance='["beta", "beta_tilde"]'), sampled)
    cells = by_axes(plan, "sampling_steps", "variance")
    assert cells["all", "beta"].score == cells["all", "beta_tilde"].score
    assert cells["all", "beta"].score != cells["50", "beta"].score
    spectrum = [task for task in plan.references if task.stage == "spectrum"]
    assert len(spectrum) == 1
    for cell in plan.cells:
        assert all(task.inputs["spectrum"] == ["spectrum", spectrum[0].key] for task in cell.score["test"])
    assert not any(task.stage == "spectrum" for task in plans().references)


@pytest.mark.parametrize(
    "change", ["evaluation.decoder=tanh", "reverse.thresholding=none", "reverse.first_step=beta_1"]
)
def test_what_is_arithmetic_is_not_in_the_score(plans: Plans, change: str) -> None:
    before, after = plans().cells[0], plans("", change).cells[0]
    assert before.score == after.score
    assert before.likelihood["test"].key != after.likelihood["test"].key


# Fits


def test_the_optimal_variance_is_fitted_on_validation_once_for_bound_and_samples(plans: Plans) -> None:
    plan = plans(matrix(variance='["beta", "optimal"]'), 'evaluation.splits=["test", "train"]')
    cells = by_axes(plan, "variance")
    optimal, beta = cells["optimal",], cells["beta",]
    assert beta.fit is None
    assert not beta.fit_scores
    assert optimal.train == beta.train
    assert optimal.score == beta.score
    fit = optimal.fit
    assert fit is not None
    assert {task.spec["split"] for task in optimal.fit_scores} == {"validation"}
    assert fit.spec["images"] == INFO["num_validation"]
    for task in (*optimal.likelihood.values(), *optimal.samples):
        assert task.inputs["fit"] == ["fit", fit.key]


@pytest.mark.parametrize(
    "change", ["reverse.sampling_steps=10", "reverse.thresholding=none", "evaluation.fit_images=20",
               "evaluation.decoder=tanh", "reverse.weights=raw"],
)  # fmt: skip
def test_a_fit_belongs_to_the_chain_and_the_errors_it_saw(plans: Plans, change: str) -> None:
    before, after = (plans(matrix(variance='["optimal"]'), *more).cells[0] for more in ((), (change,)))
    assert before.fit is not None
    assert after.fit is not None
    assert before.fit.key != after.fit.key
    assert before.samples[0].key != after.samples[0].key


def test_a_fit_is_always_over_every_step(plans: Plans) -> None:
    sampled = 'evaluation.estimator={name = "importance", calls_per_image = 20}'
    cell = plans(matrix(variance='["optimal"]'), sampled).cells[0]
    assert {task.spec["estimator"]["name"] for task in cell.fit_scores} == {"full"}
    assert {task.spec["estimator"]["name"] for task in cell.score["test"]} == {"importance"}


def test_without_validation_images_nothing_can_be_fitted(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INFO, "num_validation", 0)
    plan = plans(matrix(variance='["beta", "optimal"]'))
    assert plan.problems == ["variance optimal is fitted to the validation split, which is empty"]


def test_the_first_step_rule_is_in_no_key_where_the_variance_has_its_own(plans: Plans) -> None:
    both = ("", "reverse.first_step=beta_1")
    for axes in (matrix(variance='["optimal"]'), matrix(variance='["learned_range"]', loss='["vlb"]')):
        before, after = (plans(axes, *filter(None, [change])).cells[0] for change in both)
        assert before.tasks() == after.tasks()


# Trainings


def test_a_head_trained_once_serves_every_variance(plans: Plans) -> None:
    variances = '["learned_range", "beta", "beta_tilde", "optimal"]'
    plan = plans(matrix(variance=variances, loss=f"[{LEARNED}]"))
    assert len(plan.trainings()) == 1
    left_out = plans(matrix(variance='["learned_range"]', loss='["hybrid"]'))
    assert left_out.cells[0].train == plan.cells[0].train
    assert plans(matrix(variance='["beta"]')).cells[0].train.key != plan.cells[0].train.key


def test_a_process_that_does_not_end_at_the_prior_is_warned_of(plans: Plans) -> None:
    """Source 003 keeps β for T = 500: L_T = 4.6e-3 bits/dim (science, § 6); scaled, or with T = 1000, it is 3e-5."""
    plan = plans(matrix(schedule='["linear", { name = "linear", scale = false }]', timesteps="[500, 1000]"))
    assert len(plan.warnings) == 1
    assert plan.warnings[0].startswith(
        "linear(scale=false) with T = 500 does not end at N(0, I): L_T is 0.0046 bits/dim"
    )
    assert plans().warnings == []


# Jobs and cost


def test_jobs_make_a_fit_before_what_reads_it(plans: Plans) -> None:
    plan = plans(matrix(variance='["beta", "optimal"]', loss='["simple"]'))
    for workers in (1, 8):
        jobs = make_jobs(plan, workers)
        made_by = {task.key: job for job in jobs for task in job.tasks}
        assert made_by.keys() == plan.missing().keys()
        for job in jobs:
            position = {task.key: place for place, task in enumerate(job.tasks)}
            for task in job.tasks:
                for _, key in task.references():
                    if key in made_by:
                        assert key in job.needs or position.get(key, len(job.tasks)) < position[task.key]


def calls(plan: Plan) -> int:
    return plan_cost(plan, (1, 8, 8)).network_calls


def test_calls_are_counted_exactly(plans: Plans) -> None:
    none = "evaluation.samples=1"  # 100 calls, and those of the gallery's 16 images
    # full: every one of T = 100 steps, the first one twice; 360 test images, 144 for the fit.
    assert calls(plans("", none)) == 17 * 100 + 360 * 101
    assert calls(plans(matrix(variance='["optimal"]'), none)) == 17 * 100 + (360 + 144) * 101
    sampled = 'evaluation.estimator={name = "importance", calls_per_image = 20}'
    assert calls(plans("", none, sampled)) == 17 * 100 + 360 * 20
    few = ("reverse.sampling_steps=10", "reverse.spacing=trailing")
    assert calls(plans("", none, *few)) == 17 * 10 + 360 * (101 + 2)
    assert calls(plans(matrix(variance='["learned_range"]', loss='["vlb"]'), none, *few)) == 17 * 10 + 360 * 11


# Evaluations that the bound does not know


def test_dynamic_thresholding_has_samples_and_no_bound(plans: Plans) -> None:
    plan = plans(matrix(thresholding='["clip", "dynamic"]'))
    clip, dynamic = plan.cells
    assert clip.no_bound is None
    assert dynamic.no_bound is not None
    assert "clip or none" in dynamic.no_bound
    assert dynamic.likelihood == {}
    assert dynamic.score == {}
    assert keys(dynamic.samples) != keys(clip.samples)
    assert dynamic.train.key == clip.train.key


def test_the_optimal_variance_has_no_fit_under_dynamic_thresholding(plans: Plans) -> None:
    with pytest.raises(UserError, match='variance optimal with thresholding "dynamic"'):
        plans("", "reverse.variance=optimal", "reverse.thresholding=dynamic")


def test_the_precision_of_an_evaluation_is_in_its_keys_and_not_in_that_of_the_training(plans: Plans) -> None:
    left_out, half = (plans("", *more).cells[0] for more in ((), ("reverse.precision=bfloat16",)))
    assert half.train.key == left_out.train.key
    assert set(keys(half.score["test"])).isdisjoint(keys(left_out.score["test"]))
    assert set(keys(half.samples)).isdisjoint(keys(left_out.samples))
    assert half.score["test"][0].spec["precision"] == "bfloat16"
    assert "precision" not in left_out.score["test"][0].spec  # old keys stay
