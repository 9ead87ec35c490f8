"""Evaluate images that somebody else generated: the features, metrics, floors and keys of a suite, without a training.

Nothing is computed twice: what a suite has left in the store (decoded data, reference features, floors) is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_bench.errors import UserError
from ddpm_bench.evaluating import files, inputs
from ddpm_bench.executors import Job, make_job
from ddpm_bench.executors.local import LocalExecutor, Worker, make_workers
from ddpm_bench.identity import content_key
from ddpm_bench.planning.planner import Planner
from ddpm_bench.planning.quality import QualityPlanner
from ddpm_bench.progress import Display
from ddpm_bench.stages import Task, Verified, failure_file
from ddpm_bench.stages.runner import run_task
from ddpm_bench.store import Store, write_json

__all__ = ["Evaluated", "evaluate"]


@dataclass(frozen=True)
class Evaluated:
    """How an evaluation ended. folder: where its results.json lies; names: the results, in order, companions left out;
    notes: what a user should know of the images; failed: why values are missing."""

    folder: Path
    names: list[str]
    notes: list[str]
    failed: list[str]


def evaluate(
    images: Sequence[Path],
    dataset: Any,
    metrics: Sequence[str],
    *,
    extractors: Sequence[Any] = (),
    overrides: Sequence[str] = (),
    samples: int | None = None,
    runs: Path = Path("runs"),
    jobs: str | int = "auto",
    device: str = "auto",
    skip_missing: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Evaluated:
    """The metrics of each set of images against the data set, under one protocol.

    images: directories, zip files or .npz; dataset, extractors: names or tables {name = …}; metrics: names as in a
    suite; overrides: `dataset.size=16` and the like; samples: how many images of each set (and generation) enter, the
    first ones; left out: as many as the smallest set has. Raises UserError when the input is wrong, before anything is
    written.
    """
    suite = inputs.make_suite(dataset, metrics, extractors, overrides)
    store, verified = Store(runs / "store"), Verified()
    planner = Planner(suite, store, skip_missing)
    QualityPlanner(planner, list(suite.resolved_metrics))
    if planner.problems:
        raise UserError([re.sub("^dataset: ", "--dataset: ", text) for text in planner.problems])
    seen = inputs.look(images, suite)
    suite = inputs.with_samples(suite, seen, samples, notify)
    workers = make_workers(device, jobs)
    if planner.info is None:
        run_task(runs, store, planner.data, "cpu", verified)
    planner = Planner(suite, store, skip_missing)
    given = {path: inputs.given_task(suite, path, found) for path, found in seen.items()}
    for task in given.values():
        if not store.has(task.stage, task.key):
            run_task(runs, store, task, "cpu", verified)
        planner.identify(task, store.get(task.stage, task.key).manifest["info"]["digest"])
    plan = files.plan_json(planner, QualityPlanner(planner, list(suite.resolved_metrics)), suite, given)
    # Not the tasks alone: without any metric that is available there are none.
    content = {"tasks": sorted(plan["tasks"]), "given": sorted(task.key for task in given.values()),
               "metrics": sorted(plan["metrics"])}  # fmt: skip
    folder = runs / "evaluations" / content_key("evaluate", 2, content, {})[:16]
    write_json(folder / "plan.json", plan)
    failed = _run(runs, folder / "plan.json", plan, store, workers)
    write_json(folder / "results.json", files.results_json(runs, plan, seen, failed))
    return Evaluated(folder, list(plan["metrics"]), inputs.notes(suite, seen), failed)


def _run(runs: Path, plan_file: Path, plan: dict[str, Any], store: Store, workers: list[Worker]) -> list[str]:
    """Do what is missing: the features, shared among the workers, then the metrics in one job. Why some failed."""
    tasks = {key: Task(key=key, **content) for key, content in plan["tasks"].items()}
    missing = {key: task for key, task in tasks.items() if not store.has(task.stage, task.key)}
    features = [task for task in missing.values() if task.stage == "features"]
    metrics = [task for task in missing.values() if task.stage == "quality"]
    todo: list[Job] = [
        make_job("features", features[number :: len(workers)], missing, 2.0) for number in range(len(workers))
    ]
    if len(workers) == 1:  # one process for everything: each takes seconds to start
        todo = [make_job("features and metrics", [*features, *metrics], missing, 2.0)]
    else:
        todo.append(make_job("metrics", metrics, missing, 1.0))
    todo = [job for job in todo if job.tasks]
    if todo:
        with Display(runs, todo) as display:
            LocalExecutor(runs, plan_file, workers).run(todo, display.tick)
    failures = [failure_file(runs, task.stage, task.key) for task in missing.values()]
    reasons = [json.loads(file.read_text(encoding="utf-8")) for file in failures if file.is_file()]
    return list(dict.fromkeys(f"{item['stage']}: {item['reason']}" for item in reasons))
