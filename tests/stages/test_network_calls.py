"""One more σ², thresholding or spacing of a scored training calls no network: counted inside the network itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from ddpm_bench import suite
from ddpm_bench.identity import content_key
from ddpm_bench.networks.unet import UnetModule
from ddpm_bench.planning import Plan, make_plan
from ddpm_bench.stages import Task, Verified
from ddpm_bench.stages.runner import run_task
from ddpm_bench.store import Store
from tests.stages.test_contracts import identity
from tests.support import TINY

IMAGES, FIT_IMAGES, T = 24, 16, 10
BASE = TINY.replace("steps = 40", "steps = 2").replace("samples = 20", f"samples = 2\nfit_images = {FIT_IMAGES}")
BASE = BASE.partition("[matrix]")[0]


SAMPLED = 'estimator = { name = "importance", calls_per_image = 8 }'
HEAD = 'loss = [{ name = "hybrid", variance = "learned_range" }]'


class Runs:
    """A folder of runs, and how often the network was called in each stage."""

    def __init__(self, folder: Path):
        self.folder, self.stage = folder, ""
        self.calls = Counter[str]()

    @property
    def store(self) -> Store:
        """What is there."""
        return Store(self.folder / "runs" / "store")

    def plan(self, *matrix: str, evaluation: str = "") -> Plan:
        """The plan of the tiny suite with these axes, its data decoded."""
        file = self.folder / "tiny.toml"
        head = BASE.replace("[evaluation]", f"[evaluation]\n{evaluation}")
        file.write_text(head + "\n".join(["[matrix]", *matrix, ""]), encoding="utf-8")
        found = suite.load(file)
        plan = make_plan(found, self.folder / "runs")
        if plan.info is None:
            self.make(plan.data)
            plan = make_plan(found, self.folder / "runs")
        assert not plan.problems
        assert not plan.illegal
        return plan

    def make(self, task: Task) -> None:
        """Run a task as a worker does."""
        self.stage = task.stage
        run_task(self.folder / "runs", self.store, task, "cpu", Verified())

    def complete(self, *matrix: str, evaluation: str = "") -> list[Task]:
        """Make what is missing: these tasks. The calls are counted anew."""
        self.calls.clear()
        missing = list(self.plan(*matrix, evaluation=evaluation).missing().values())
        for task in missing:
            self.make(task)
        assert not self.plan(*matrix, evaluation=evaluation).missing()
        return missing


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path)

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, UnetModule):
            made.calls[made.stage] += 1

    handle = register_module_forward_hook(count)
    yield made
    handle.remove()


def number(tasks: list[Task], stage: str) -> int:
    return sum(task.stage == stage for task in tasks)


def scored(tasks: list[Task]) -> list[tuple[str, Any]]:
    """(split, steps) of the scores among tasks."""
    return sorted((task.spec["split"], task.spec["timesteps"]) for task in tasks if task.stage == "score")


def evaluation_calls(runs: Runs) -> dict[str, int]:
    return {stage: runs.calls[stage] for stage in ("score", "fit", "likelihood")}


def test_what_is_arithmetic_calls_no_network(runs: Runs) -> None:
    first = runs.complete('variance = ["beta"]')
    assert {stage: number(first, stage) for stage in ("train", "score", "likelihood")} == {
        "train": 1, "score": 1, "likelihood": 1,
    }  # fmt: skip
    # One chunk, so one call of the module for each (t, ε): T − 1 and two at the first step.
    assert evaluation_calls(runs) == {"score": T + 1, "fit": 0, "likelihood": 0}

    axes = ('thresholding = ["clip", "none"]', 'sampling_steps = ["all", 4]')
    fixed = runs.complete('variance = ["beta", "beta_tilde"]', *axes)
    assert number(fixed, "likelihood") == 7
    assert number(fixed, "train") == number(fixed, "score") == number(fixed, "fit") == 0
    assert evaluation_calls(runs) == {"score": 0, "fit": 0, "likelihood": 0}

    fitted = runs.complete('variance = ["beta", "beta_tilde", "optimal"]', *axes)
    assert scored(fitted) == [("validation", None)]  # once for all four fits
    assert number(fitted, "fit") == number(fitted, "likelihood") == 4
    assert evaluation_calls(runs) == {"score": T + 1, "fit": 0, "likelihood": 0}

    first_step = runs.complete('"reverse.first_step" = ["beta_1"]', *axes)
    assert number(first_step, "likelihood") == 4
    assert evaluation_calls(runs) == {"score": 0, "fit": 0, "likelihood": 0}

    # A chain without t = 1 has another first step, on each split that is read: two draws of it.
    trailing = runs.complete(
        'variance = ["beta", "optimal"]', '"reverse.spacing" = ["trailing"]', "sampling_steps = [4]"
    )
    assert scored(trailing) == [("test", [3]), ("validation", [3])]
    assert evaluation_calls(runs) == {"score": 2 + 2, "fit": 0, "likelihood": 0}


def test_a_head_is_called_once_for_each_chain(runs: Runs) -> None:
    axes = ('variance = ["learned_range", "beta", "optimal"]', 'thresholding = ["clip", "none"]', HEAD)
    whole = runs.complete(*axes)
    assert number(whole, "train") == 1
    assert scored(whole) == [("test", None), ("validation", None)]
    assert evaluation_calls(runs) == {"score": 2 * (T + 1), "fit": 0, "likelihood": 0}
    shorter = runs.complete(*axes, 'sampling_steps = ["all", 4]')
    assert scored(shorter) == [("test", [1, 4, 7, 10])]  # linspace: the head's β and β̃ are those of this chain
    assert evaluation_calls(runs) == {"score": 4 + 1, "fit": 0, "likelihood": 0}


def test_sampled_steps_cost_what_they_say(runs: Runs) -> None:
    variances = 'variance = ["beta", "beta_tilde"]'
    first = runs.complete(variances, evaluation=SAMPLED)
    assert scored(first) == [("test", None)]
    assert evaluation_calls(runs) == {"score": 8, "fit": 0, "likelihood": 0}
    score = next(task for task in first if task.stage == "score")
    assert runs.store.get("score", score.key).manifest["info"] == {"network_calls": 8 * IMAGES}
    shorter = runs.complete(variances, 'sampling_steps = ["all", 4]', evaluation=SAMPLED)
    assert scored(shorter) == [("test", [1, 4, 7, 10])]  # its own steps are sampled
    fitted = runs.complete('variance = ["beta", "optimal"]', evaluation=SAMPLED)
    assert scored(fitted) == [("validation", None)]  # at every t
    assert evaluation_calls(runs) == {"score": T + 1, "fit": 0, "likelihood": 0}


def test_keys_of_fits_and_scores_can_be_recomputed(runs: Runs) -> None:
    made = runs.complete('variance = ["optimal"]', '"reverse.spacing" = ["trailing"]', "sampling_steps = [4]")
    made += runs.complete('variance = ["optimal"]', evaluation=SAMPLED)
    assert {"spectrum", "fit"} < {task.stage for task in made}
    assert any("first" in task.inputs for task in made)
    for task in made:
        manifest = runs.store.get(task.stage, task.key).manifest
        inputs = {name: identity(runs.store, place) for name, place in manifest["inputs"].items()}
        assert content_key(task.stage, manifest["version"], manifest["spec"], inputs) == task.key, task.stage
        runs.store.get(task.stage, task.key).verify()


def test_the_count_sees_the_network(runs: Runs) -> None:
    """Training and sampling call it too: T calls for one chunk of samples."""
    runs.complete('variance = ["beta"]')
    assert runs.calls["sample"] == T
    assert runs.calls["train"] >= 2
