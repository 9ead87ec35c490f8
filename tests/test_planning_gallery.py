"""The gallery part of a plan: what is shared, what its keys depend on, what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ddpm_bench.planning import Plan
from ddpm_bench.planning.cost import plan_cost
from ddpm_bench.planning.gallery import MAX_COMPARED
from ddpm_bench.planning.jobs import make_jobs
from ddpm_bench.stages import CHUNK, Task
from tests.test_planning import INFO, Plans

QUALITY = 'evaluation.metrics=["bits_per_dim", "kernel_distance", "frechet_distance"]'
EXTRACTOR = "evaluation.extractor=efficientnet_lite0"
BOTH = '[matrix]\nvariance = ["beta", "beta_tilde"]\nseed = [0, 1]\n'


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def of_stage(plan: Plan, *stages: str) -> list[Task]:
    return [task for task in plan.tasks().values() if task.stage in stages]


def test_every_cell_has_its_own_and_held_out_images_are_searched_once(plans: Plans) -> None:
    plan = plans(BOTH, QUALITY, EXTRACTOR)
    assert len({cell.gallery.key for cell in plan.cells if cell.gallery}) == 4
    spaces = ["pixels", "efficientnet_lite0"]
    assert all(list(cell.nearest) == spaces for cell in plan.cells)
    held_out = [task for task in of_stage(plan, "nearest") if task.spec["source"] == "split"]
    assert [task.spec["space"] for task in held_out] == spaces
    assert len(of_stage(plan, "nearest")) == 4 * 2 + 2
    for space, task in zip(spaces, held_out, strict=True):
        assert {tuple(cell.nearest[space].inputs["held_out"]) for cell in plan.cells} == {("nearest", task.key)}


def test_features_are_those_of_the_metrics(plans: Plans) -> None:
    plan = plans("", QUALITY, EXTRACTOR)
    (cell,) = plan.cells
    without = plans("", QUALITY, EXTRACTOR, "evaluation.gallery=false")
    assert {task.key for task in of_stage(plan, "features")} == {task.key for task in of_stage(without, "features")}
    made = {task.key: task for task in of_stage(plan, "features")}
    found = cell.nearest["efficientnet_lite0"]
    assert [made[key].spec["source"] for _, key in found.inputs["images"]] == ["samples"] * 2
    assert made[found.inputs["reference"][1]].spec["split"] == "train"


def test_a_suite_can_do_without(plans: Plans) -> None:
    plan, without = plans(BOTH), plans(BOTH, "evaluation.gallery=false")
    assert not of_stage(without, "gallery", "nearest")
    assert plan.tasks().keys() - without.tasks().keys() == {task.key for task in of_stage(plan, "gallery", "nearest")}
    assert not without.tasks().keys() - plan.tasks().keys()


def test_data_without_levels_have_no_gallery(plans: Plans) -> None:
    plan = plans("", 'dataset={name = "gaussian"}')
    assert plan.cells
    assert not of_stage(plan, "gallery", "nearest")


def test_extractors_without_weights_are_left_out(plans: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_BENCH_WEIGHTS", str(tmp_path / "none"))
    plan = plans("", 'evaluation.metrics=["fid", "kernel_distance"]', EXTRACTOR, skip_missing=True)
    assert list(plan.cells[0].nearest) == ["pixels", "efficientnet_lite0"]


def keys(plans: Plans, *overrides: str) -> tuple[str, str]:
    cell = plans("", *overrides).cells[0]
    assert cell.gallery is not None
    return cell.gallery.key, cell.nearest["pixels"].key


def test_the_chain_is_in_the_key_and_the_number_of_samples_is_not(plans: Plans) -> None:
    gallery, nearest = keys(plans)
    for change in ("reverse.sampling_steps=10", "reverse.thresholding=none", "reverse.weights=raw",
                   "reverse.variance=beta_tilde", "training.steps=999"):  # fmt: skip
        assert keys(plans, change)[0] != gallery
        assert keys(plans, change)[1] != nearest
    assert keys(plans, "evaluation.samples=130")[0] == gallery
    assert keys(plans, "evaluation.samples=130")[1] != nearest
    # The first of many are compared: more of them move nothing.
    enough, more = (keys(plans, f"evaluation.samples={count}") for count in (MAX_COMPARED, 3 * MAX_COMPARED))
    assert enough == more
    assert keys(plans, "reverse.first_step=beta_1") == (gallery, nearest)  # samples have no noise there


def test_a_fitted_variance_is_an_input_and_an_unused_one_is_not(plans: Plans) -> None:
    (cell,) = plans("", "reverse.variance=optimal").cells
    assert cell.gallery is not None and cell.fit is not None
    assert cell.gallery.inputs == cell.samples[0].inputs
    assert cell.gallery.inputs["fit"] == ["fit", cell.fit.key]
    ddim = plans("", "reverse.sampler=ddim", "reverse.variance=beta_tilde").cells[0].gallery
    assert ddim is not None
    assert ddim.inputs.keys() == {"train"}
    assert ddim == plans("", "reverse.sampler=ddim").cells[0].gallery


def test_only_the_chunks_that_are_compared_are_waited_for(plans: Plans) -> None:
    (cell,) = plans("", f"evaluation.samples={MAX_COMPARED + 500}").cells
    assert [key for _, key in cell.nearest["pixels"].inputs["images"]] == [
        task.key for task in cell.samples[: MAX_COMPARED // CHUNK]
    ]


def test_what_it_costs(plans: Plans) -> None:
    """Sixteen images a step: 4 samples, and 6 between those of each of 2 pairs."""
    costs = []
    for overrides in ((), ("evaluation.gallery=false",)):
        costs.append(plan_cost(plans("", "reverse.sampling_steps=25", *overrides), (1, 8, 8)))
    assert costs[0].network_calls - costs[1].network_calls == 16 * 25
    assert costs[0].num_bytes - costs[1].num_bytes == (4 * 8 + 2 * 8) * 64


def test_it_waits_for_nothing_but_its_training(plans: Plans) -> None:
    """Many samples are several jobs: the pictures of the chain are one beside them."""
    plan = plans("", f"evaluation.samples={20 * CHUNK}")
    jobs = [job for job in make_jobs(plan, num_workers=4) if any(task.stage == "gallery" for task in job.tasks)]
    (cell,) = plan.cells
    assert [[task.stage for task in job.tasks] for job in jobs] == [["gallery"]]
    assert jobs[0].needs == {cell.train.key}


def test_before_the_data_are_decoded(plans: Plans) -> None:
    early: Any = plans("", digest=None)
    assert early.info is None
    assert len(of_stage(early, "gallery", "nearest")) == 3
    assert INFO["num_test"] < MAX_COMPARED  # afterwards all test images are compared
    held_out = [task for task in of_stage(plans(), "nearest") if task.spec["source"] == "split"]
    assert [task.spec["count"] for task in held_out] == [INFO["num_test"]]
