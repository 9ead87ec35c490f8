"""From a suite to artifacts: what is shared, what has a key of its own, and which process makes what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ddpm_bench as db
from ddpm_bench.identity import content_key
from ddpm_bench.planning import CellPlan, Plan
from ddpm_bench.planning.file import read_tasks, to_json
from ddpm_bench.planning.jobs import CHUNKS_PER_JOB, make_jobs
from ddpm_bench.planning.reuse import nearest_difference
from ddpm_bench.stages import CHUNK, Task
from ddpm_bench.store import Store, write_json
from tests.conftest import FinishedRun
from tests.support import artifacts, write_suite

INFO = {
    "name": "digits", "shape": [1, 8, 8], "levels": 17, "num_train": 1293, "num_validation": 144, "num_test": 360,
    "digest": "d1" * 32,
}  # fmt: skip

SUITE = """
schema = 1
name = "planned"

[dataset]
name = "digits"

[diffusion]
timesteps = 100

[training]
steps = 1000
learning_rate = 2e-3

[evaluation]
metrics = ["bits_per_dim"]
samples = 200
"""


class Plans:
    """Plans of SUITE with another end and overrides, on one store."""

    def __init__(self, folder: Path):
        self.folder, self.runs = folder, folder / "runs"

    def __call__(self, end: str = "", *overrides: str, digest: str | None = INFO["digest"], **options: Any) -> Plan:  # type: ignore[assignment]
        """A plan; digest: that of the decoded data, None as long as they are not decoded."""
        only = options.pop("only", ())
        suite = db.load_suite(write_suite(self.folder, SUITE + end), overrides=overrides, only=only)
        if digest is not None:
            key = db.plan(suite, runs=self.runs).data.key
            write_json(self.runs / "store" / "data" / key / "manifest.json", {"info": {**INFO, "digest": digest}})
        return db.plan(suite, runs=self.runs, **options)

    def finish(self, task: Task, **more: Any) -> None:
        """As if the task had been run."""
        manifest = {"spec": task.spec, "inputs": task.inputs, **more}
        with Store(self.runs / "store").create(task.stage, task.key, manifest):
            pass


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def by_axes(plan: Plan, *names: str) -> dict[tuple[str, ...], CellPlan]:
    return {tuple(cell.suite_cell.axes[name] for name in names): cell for cell in plan.cells}


def train_key(plan: Plan) -> str:
    return plan.cells[0].train.key


# What is shared


def test_simple_shares_a_training_across_variances_and_vlb_does_not(plans: Plans) -> None:
    plan = plans('[matrix]\nvariance = ["beta", "beta_tilde"]\nloss = ["simple", "vlb"]\n')
    cells = by_axes(plan, "loss", "variance")
    assert cells["simple", "beta"].train == cells["simple", "beta_tilde"].train
    assert cells["vlb", "beta"].train.key != cells["vlb", "beta_tilde"].train.key
    assert [len(cells) for cells in plan.trainings().values()] == [2, 1, 1]
    # σ² is arithmetic on a score, but samples and the bound depend on it.
    one, other = cells["simple", "beta"], cells["simple", "beta_tilde"]
    assert one.score == other.score
    assert one.likelihood["test"].key != other.likelihood["test"].key
    assert {task.key for task in one.samples}.isdisjoint(task.key for task in other.samples)


@pytest.mark.parametrize(
    "change",
    [
        "reverse.sampling_steps=10", "reverse.thresholding=none", "reverse.weights=raw", "evaluation.samples=10",
    ],
)  # fmt: skip
def test_what_the_reverse_process_alone_uses_trains_nothing(plans: Plans, change: str) -> None:
    changed = plans("", change)
    assert train_key(changed) == train_key(plans())
    assert changed.cells[0].samples[0].key != plans().cells[0].samples[0].key


def test_the_first_step_is_in_the_bound_and_not_in_samples(plans: Plans) -> None:
    """L_0 needs a σ_1, but the last step of a chain adds no noise."""
    cell, other = plans().cells[0], plans("", "reverse.first_step=beta_1").cells[0]
    assert cell.train == other.train
    assert cell.samples == other.samples
    assert cell.likelihood["test"].key != other.likelihood["test"].key


def test_spacing_counts_where_steps_are_left_out(plans: Plans) -> None:
    def samples(*overrides: str) -> str:
        return plans("", *overrides).cells[0].samples[0].key

    assert samples("reverse.spacing=trailing") == samples()  # all steps are kept, whatever their spacing
    few = "reverse.sampling_steps=10"
    assert samples(few, "reverse.spacing=trailing") != samples(few)
    assert samples("reverse.sampling_steps=100") == samples()  # all of them, said otherwise


def test_equal_losses_are_one_training_under_two_labels(plans: Plans) -> None:
    """Predicting ε, |ε − ε̂|² is SNR · |x_0 − x̂_0|²: weighting "none" is the SNR weighting. Predicting x_0 it is not."""
    plan = plans(
        '[matrix]\nprediction = ["epsilon", "x0"]\nloss = ["simple", { name = "simple", weighting = "snr" }]\n'
    )
    cells = by_axes(plan, "prediction", "loss")
    assert len(cells) == 4
    assert cells["epsilon", "simple"].train == cells["epsilon", "simple(weighting=snr)"].train
    assert cells["x0", "simple"].train.key != cells["x0", "simple(weighting=snr)"].train.key
    assert len({cell.suite_cell.label for cell in plan.cells}) == 4
    assert len({cell.suite_cell.id for cell in plan.cells}) == 4


def test_the_bind_rule(plans: Plans) -> None:
    matrix = '[matrix]\nvariance = ["beta", "beta_tilde"]\nloss = ["vlb", { name = "vlb", variance = "beta" }]\n'
    cells = by_axes(plans(matrix), "loss", "variance")
    bound, other = cells["vlb", "beta"].train, cells["vlb", "beta_tilde"].train
    written = {cells["vlb(variance=beta)", variance].train.key for variance in ("beta", "beta_tilde")}
    assert written == {bound.key}  # written out it is trained with that, whatever the cell's own is
    assert bound.spec["training"]["loss"]["variance"]["name"] == "beta"
    assert other.spec["training"]["loss"]["variance"]["name"] == "beta_tilde"
    # The first step's rule is bound with the variance; a loss that does not use σ² does not see it.
    first = ("", "diffusion.loss=vlb", "reverse.first_step=beta_1")
    assert train_key(plans(*first)) != train_key(plans("", "diffusion.loss=vlb"))


# What has a key of its own


def test_another_content_of_the_data_is_another_everything(plans: Plans) -> None:
    one, other = plans(), plans(digest="e2" * 32)
    assert one.data == other.data
    assert (one.tasks().keys() & other.tasks().keys()) == {one.data.key}
    assert len(one.tasks()) == len(other.tasks())


@pytest.mark.parametrize(
    "change",
    [
        "seed", "diffusion.timesteps=50", "diffusion.prediction=x0", "diffusion.schedule=cosine",
        "diffusion.schedule={name = 'cosine', s = 0.01}", "diffusion.loss=vlb", "network.channels=8",
        "training.steps=999", "training.batch_size=64", "training.optimizer=adamw", "training.learning_rate=1e-3",
        "training.warmup_steps=1", "training.gradient_clip=1.0", "training.ema_decay=0.9",
        "training.precision=bfloat16", "training.tf32=true", "training.horizontal_flips=true",
    ],
)  # fmt: skip
def test_what_changes_the_weights_changes_the_train_key(plans: Plans, change: str) -> None:
    changed = plans("[matrix]\nseed = [1]\n") if change == "seed" else plans("", change)
    assert train_key(changed) != train_key(plans())


@pytest.mark.parametrize("change", ["training.micro_batch=32", "training.compile=true", "training.validate_every=7"])
def test_what_does_not_change_the_weights_is_recorded_and_not_hashed(plans: Plans, change: str) -> None:
    plan, name = plans("", change), change.split("=")[0].removeprefix("training.")
    assert plan.tasks().keys() == plans().tasks().keys()
    recorded = [task.recorded[name] for task in (plan.cells[0].train, plans().cells[0].train)]
    assert recorded[0] != recorded[1]


@pytest.mark.parametrize(
    ("integer", "number"),
    [
        ("training.gradient_clip=1", "training.gradient_clip=1.0"),
        ("training.learning_rate=1", "training.learning_rate=1.0"),
        ("diffusion.schedule={name = 'cosine', s = 1}", "diffusion.schedule={name = 'cosine', s = 1.0}"),
    ],
)
def test_one_and_one_point_zero_are_one_run(plans: Plans, integer: str, number: str) -> None:
    assert plans("", integer).tasks().keys() == plans("", number).tasks().keys()


def test_more_samples_keep_the_chunks_there_are(plans: Plans) -> None:
    few, more = plans("", f"evaluation.samples={CHUNK}"), plans("", f"evaluation.samples={2 * CHUNK + 5}")
    assert [task.key for task in few.cells[0].samples] == [task.key for task in more.cells[0].samples[:1]]
    assert [task.spec["count"] for task in more.cells[0].samples] == [CHUNK, CHUNK, 5]
    assert few.cells[0].likelihood == more.cells[0].likelihood


# Before and after the data are decoded


def test_before_the_data_are_decoded_cells_are_grouped_by_specification(plans: Plans) -> None:
    matrix = '[matrix]\nvariance = ["beta", "beta_tilde"]\nloss = ["simple", "vlb"]\n'
    early, late = plans(matrix, digest=None), plans(matrix)
    assert early.info is None
    assert late.info == INFO
    groups = [[[c.suite_cell.id for c in cells] for cells in plan.trainings().values()] for plan in (early, late)]
    assert groups[0] == groups[1]
    assert early.trainings().keys().isdisjoint(late.trainings())  # provisional: the digest is not known yet
    assert not early.problems


def test_planning_writes_nothing(plans: Plans) -> None:
    plans(digest=None)
    assert not plans.runs.exists()


def test_inputs_come_first(plans: Plans) -> None:
    plan = plans(
        '[matrix]\nvariance = ["beta", "beta_tilde"]\n', 'evaluation.metrics=["bits_per_dim", "kernel_distance"]'
    )
    seen: set[str] = set()
    for key, task in plan.tasks().items():
        assert {wanted for _, wanted in task.references()} <= seen
        seen.add(key)


def test_a_plan_can_be_read_back(plans: Plans) -> None:
    plan = plans('[matrix]\nprediction = ["epsilon", "x0"]\nseed = [0, 3]\n')
    text = json.dumps(to_json(plan))
    assert read_tasks(json.loads(text), list(plan.tasks())) == list(plan.tasks().values())
    assert str(plans.folder / "runs") not in text  # a store may be moved


def test_only_the_selected_cells_are_to_do(plans: Plans) -> None:
    matrix = '[matrix]\nprediction = ["epsilon", "x0"]\n'
    plan = plans(matrix, only=("prediction=x0",))
    assert [cell.suite_cell.axes["prediction"] for cell in plan.selected()] == ["x0"]
    assert len(plan.cells) == 2  # the other keeps its place and its results
    trained = [task for task in plan.missing().values() if task.stage == "train"]
    assert [task.spec["training"]["prediction"]["name"] for task in trained] == ["x0"]


def test_illegal_cells_have_no_tasks(plans: Plans) -> None:
    plan = plans("[matrix]\ntimesteps = [20, 100]\n", "on_illegal=skip")
    assert [cell.axes["timesteps"] for cell in plan.illegal] == ["20"]
    assert [cell.suite_cell.axes["timesteps"] for cell in plan.cells] == ["100"]
    first, second = to_json(plan)["cells"]
    assert first["reason"] and "train" not in first
    assert second["reason"] is None and second["train"] == plan.cells[0].train.key


# Which process makes what


@pytest.mark.parametrize("order", [[1000, 2000], [2000, 1000]])
def test_a_longer_training_runs_after_the_shorter_one_in_the_same_process(plans: Plans, order: list[int]) -> None:
    plan = plans(f'[matrix]\n"training.steps" = {order}\nvariance = ["beta", "beta_tilde"]\n')
    assert len(plan.trainings()) == 2
    jobs = [job for job in make_jobs(plan, num_workers=1) if any(task.stage == "train" for task in job.tasks)]
    assert len(jobs) == 1
    stages = [(task.stage, task.spec.get("steps")) for task in jobs[0].tasks]
    assert [steps for stage, steps in stages if stage == "train"] == [1000, 2000]
    short, long = (task for task in jobs[0].tasks if task.stage == "train")
    assert {**short.spec, "steps": 2000} == long.spec  # one trajectory: nothing but the place on it differs
    assert short.inputs == long.inputs


def test_different_trajectories_are_different_jobs(plans: Plans) -> None:
    plan = plans('[matrix]\nprediction = ["epsilon", "x0"]\nseed = [0, 1]\n')
    trained = [job for job in make_jobs(plan, num_workers=1) if any(task.stage == "train" for task in job.tasks)]
    assert [sum(task.stage == "train" for task in job.tasks) for job in trained] == [1] * 4
    # told apart in the progress lines: by the seed where there are several
    assert [job.name for job in trained] == [
        f"{label}, σ²=β, linear, L_simple, seed {seed}" for label in ("ε", "x₀") for seed in (0, 1)
    ]
    alone = make_jobs(plans('[matrix]\nprediction = ["epsilon", "x0"]\n'), num_workers=1)
    assert not any("seed" in job.name for job in alone)


def test_jobs_hold_every_missing_task_once_and_wait_for_their_inputs(plans: Plans) -> None:
    plan = plans(
        '[matrix]\nvariance = ["beta", "beta_tilde"]\nloss = ["simple", "vlb"]\n',
        'evaluation.metrics=["bits_per_dim", "kernel_distance"]', "evaluation.samples=1500",
    )  # fmt: skip
    jobs = make_jobs(plan, num_workers=1)
    made = [task.key for job in jobs for task in job.tasks]
    assert sorted(made) == sorted(plan.missing())
    maker = {task.key: index for index, job in enumerate(jobs) for task in job.tasks}
    for index, job in enumerate(jobs):
        inputs = {key for task in job.tasks for _, key in task.references()}
        assert job.needs == {key for key in inputs if maker.get(key, index) != index}
    order = done = set[int]()
    while len(done) < len(jobs):  # a job begins when the jobs that it needs are over: all come to their turn
        order = {i for i, job in enumerate(jobs) if i not in done and {maker[key] for key in job.needs} <= done}
        assert order, "jobs wait for each other"
        done = done | order


def test_many_chunks_are_split_over_jobs(plans: Plans) -> None:
    chunks = 2 * CHUNKS_PER_JOB + 3
    plan = plans("", 'evaluation.metrics=["kernel_distance"]', f"evaluation.samples={chunks * CHUNK}")
    jobs = [job for job in make_jobs(plan, num_workers=1) if any(task.stage == "sample" for task in job.tasks)]
    assert [sum(task.stage == "sample" for task in job.tasks) for job in jobs] == [8, 8, 3]
    for job in jobs:  # the features are made where the images are
        images = {task.key for task in job.tasks if task.stage == "sample"}
        assert {task.inputs["images"][1] for task in job.tasks if task.stage == "features"} == images
    last = make_jobs(plan, num_workers=1)[-1]
    assert {task.stage for task in last.tasks} == {"quality", "nearest"}
    assert {task.key for job in jobs for task in job.tasks if task.stage == "features"} <= last.needs


def test_finished_work_is_in_no_job(plans: Plans) -> None:
    plan = plans('[matrix]\nvariance = ["beta", "beta_tilde"]\n')
    plans.finish(plan.cells[0].train)
    remaining = [task for job in make_jobs(plan, num_workers=1) for task in job.tasks]
    assert plan.cells[0].train not in remaining
    assert not {key for job in make_jobs(plan, num_workers=1) for key in job.needs} & {plan.cells[0].train.key}
    for task in list(plan.missing().values()):
        plans.finish(task)
    assert make_jobs(plan, num_workers=1) == []


def test_nothing_comes_after_a_diverged_training(plans: Plans) -> None:
    plan = plans('[matrix]\nprediction = ["epsilon", "x0"]\n')
    ended, other = plan.cells
    plans.finish(ended.train, outcome={"status": "diverged", "step": 3, "t": 7, "loss": "nan"})
    assert ended.forward == other.forward  # it needs no training
    assert not plan.missing().keys() & {task.key for task in ended.tasks() if task != ended.forward}
    assert {task.key for task in other.tasks()} <= plan.missing().keys()


# Why a training is not reused


def test_the_changed_fields_are_shown(plans: Plans) -> None:
    plan = plans()
    assert nearest_difference(plan.store, plan.cells[0].train) is None  # nothing to compare with
    plans.finish(plan.cells[0].train)

    def difference(*overrides: str, **options: Any) -> list[str] | None:
        return nearest_difference(plan.store, plans("", *overrides, **options).cells[0].train)

    assert difference("training.learning_rate=1e-3") == ["options.learning_rate: 0.002 → 0.001"]
    assert difference("training.gradient_clip=1.0", "training.tf32=true") == [
        "options.gradient_clip: none → 1.0", "options.tf32: false → true",
    ]  # fmt: skip
    # Another entry is one difference, whatever parameters it brings; of the same entry the parameters are shown.
    assert difference("diffusion.schedule=cosine") == ["schedule: linear → cosine"]
    assert difference("diffusion.schedule={name = 'linear', first = 2e-4}") == ["schedule.first: 0.0001 → 0.0002"]
    assert difference("training.steps=2000", "diffusion.prediction=x0") == [
        "steps: 1000 → 2000", "prediction: epsilon → x0",
    ]  # fmt: skip


def test_the_nearest_training_is_compared_with(plans: Plans) -> None:
    plan = plans()
    for overrides in (("network.channels=8", "training.steps=5"), ("training.steps=999",), ("diffusion.loss=vlb",)):
        plans.finish(plans("", *overrides).cells[0].train)
    assert nearest_difference(plan.store, plan.cells[0].train) == ["steps: 999 → 1000"]


def test_other_data_are_a_difference(plans: Plans) -> None:
    plan = plans()
    plans.finish(plan.cells[0].train)
    other = plans("", "dataset.size=16", digest="e" * 64).cells[0].train
    assert nearest_difference(plan.store, other) == ["the data set's content"]
    touched = plans("", "dataset.size=16").cells[0].train  # other files, the same content
    assert nearest_difference(plan.store, touched) == []


# The same identity from the plan and from the finished artifact


@pytest.mark.xdist_group("runs")
def test_keys_can_be_computed_from_manifests(finished_tiny: FinishedRun) -> None:
    store = Store(finished_tiny.runs / "store")
    found = sorted(artifacts(finished_tiny.runs))
    assert {stage for stage, _ in found} == {
        "data", "train", "score", "likelihood", "sample", "baseline", "gallery", "nearest", "forward",
    }  # fmt: skip

    def identity(place: Any) -> Any:
        if isinstance(place[0], list):
            return [identity(item) for item in place]
        stage, key = place
        return store.get(stage, key).manifest["info"]["digest"] if stage == "data" else key

    for stage, key in found:
        manifest = store.get(stage, key).verify().manifest
        inputs = {name: identity(place) for name, place in manifest["inputs"].items()}
        assert content_key(stage, manifest["version"], manifest["spec"], inputs) == key == manifest["key"]
