"""Trained networks and their bits/dim by the estimators of the package: training and evaluation of the pipeline.

`ddpm-bench run` would do the same and draw samples beside it, which cost as much as `full` and are not needed here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import ddpm_bench as db
from benchmarks._repeats import BUDGETS, importance_suite
from ddpm_bench import records
from ddpm_bench.executors import Job, make_job
from ddpm_bench.executors.local import LocalExecutor, make_workers
from ddpm_bench.planning import Plan
from ddpm_bench.planning.file import to_json
from ddpm_bench.store import write_json, write_text
from ddpm_bench.suite import Suite

SUITE = """schema = 1
name = "{name}"
title = "{title}"

[dataset]
{dataset}

[network]
name = "unet"
{network}
residual_blocks = 1
attention_resolutions = [4]

[diffusion]
timesteps = 1000
schedule = "{schedule}"

[training]
{training}
learning_rate = 2e-3
warmup_steps = 50
ema_decay = 0.995

[evaluation]
metrics = ["bits_per_dim"]
samples = 1
images = {images}
fit_images = 128

[matrix]
variance = ["beta", "beta_tilde", "optimal"]
"""
SUITES = {
    "digits": {
        "title": "digits, 8×8", "dataset": 'name = "digits"',
        "network": "channels = 16\nchannel_multipliers = [1, 2]", "schedule": "linear",
        "training": "steps = 2000\nbatch_size = 128", "images": 256,
    },
    "fashion_mnist": {
        "title": "Fashion-MNIST, 16×16", "dataset": 'name = "fashion_mnist"\nsize = 16',
        "network": "channels = 16\nchannel_multipliers = [1, 2, 2]", "schedule": "cosine",
        "training": "steps = 1500\nbatch_size = 64", "images": 640,
    },
}  # fmt: skip
"""Suite → what it says. Images in multiples of 128, so that no network call is padded: the seconds are fair."""


def suites(runs: Path) -> Iterator[Suite]:
    """For each data set the suite with `full`, then those with `importance`, which share its training."""
    for name, fields in SUITES.items():
        file = runs / f"{name}.toml"
        write_text(file, SUITE.format(name=name, **fields))
        yield db.load_suite(file)
        for calls in BUDGETS:
            estimator = f'evaluation.estimator={{name="importance", calls_per_image={calls}}}'
            yield db.load_suite(file, overrides=(estimator,), name=importance_suite(name, calls))


def train_and_evaluate(runs: Path) -> None:
    """Whatever is missing of the trainings and likelihoods of all suites, then their results.json."""
    found = list(suites(runs))
    plans = [db.plan(suite, runs=runs) for suite in found]
    if any(plan.info is None for plan in plans):
        _execute(runs, [Job("data", list({plan.data.key: plan.data for plan in plans if plan.info is None}.values()))])
        plans = [db.plan(suite, runs=runs) for suite in found]
    _execute(runs, list(_jobs(plans)))
    for plan in plans:
        write_json(records.suite_folder(runs, plan.suite.name) / "plan.json", to_json(plan))
        records.update(runs, plan.suite.name)


def _jobs(plans: list[Plan]) -> Iterator[Job]:
    """For each plan its training, its scores in two jobs, its fit and likelihoods; what plans share comes once."""
    missing = {key: task for plan in plans for key, task in plan.missing().items()}
    taken: set[str] = set()
    for plan in plans:
        scores = [task for cell in plan.cells for task in [*cell.score["test"], *cell.fit_scores]]
        fits = [cell.fit for cell in plan.cells if cell.fit is not None]
        likelihoods = [cell.likelihood["test"] for cell in plan.cells]
        unique = list({task.key: task for task in scores}.values())
        parts = [[*plan.references, plan.cells[0].train], unique[::2], unique[1::2], [*fits, *likelihoods]]
        for part, tasks in enumerate(parts):
            job = make_job(plan.suite.name, [task for task in tasks if task.key not in taken], missing, -part)
            taken |= {task.key for task in job.tasks}
            if job.tasks:
                yield job


def _execute(runs: Path, jobs: list[Job]) -> None:
    """Run jobs on the CPU, one single-thread process for each core."""
    file = runs / "tasks.json"
    tasks = {task.key: dataclasses.asdict(task) for job in jobs for task in job.tasks}
    for task in tasks.values():
        del task["key"]
    write_json(file, {"plugins": [], "tasks": tasks})
    LocalExecutor(runs, file, make_workers("cpu", "auto")).run(jobs, lambda active: None)
