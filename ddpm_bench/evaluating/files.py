"""plan.json and results.json of an evaluation, in the form of a suite's: a cell for each set of images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddpm_bench.collecting import SCHEMA, Collector
from ddpm_bench.datasets._given import Seen
from ddpm_bench.environment import environment
from ddpm_bench.planning.file import quality_results
from ddpm_bench.planning.planner import Planner
from ddpm_bench.planning.quality import QualityPlanner
from ddpm_bench.stages import Task
from ddpm_bench.suite import Suite


def plan_json(planner: Planner, quality: QualityPlanner, suite: Suite, given: dict[Path, Task]) -> dict[str, Any]:
    """What workers and results read. given: path → the task that holds its images."""
    cells: list[dict[str, Any]] = []
    tasks: dict[str, Task] = {}
    for path, task in given.items():
        features, values = quality.of_images([task], {})
        tasks |= {item.key: item for item in [*features, *values.values()]}
        keys = {name: item.key for name, item in values.items()}
        cells.append(
            {"id": str(path), "label": str(path), "axes": {"images": str(path)}, "quality": keys, "likelihood": {},
             "no_bound": None}
        )  # fmt: skip
    baselines = quality.baselines()
    tasks |= {task.key: task for task in [*planner.references, *(item.task for item in baselines)]}
    names = [*(name for cell in cells for name in cell["quality"]), *planner.not_computed]
    results = quality_results(suite.resolved_metrics, names)
    return {
        "schema": SCHEMA, "suite": suite.name, "title": suite.title, "overrides": list(suite.overrides), "plugins": [],
        "configuration": {name: suite.configuration[name] for name in ("dataset", "evaluation")},
        "data": planner.data.key, "cells": cells, "not_computed": planner.not_computed,
        "metrics": {name: {"unit": item.unit, "higher_is_better": item.higher_is_better}
                    for name, item in results.items()},
        "parts": {name: item.part for name, item in results.items() if item.part},
        "baselines": [{"name": item.name, "metric": item.metric, "stage": item.task.stage, "key": item.task.key}
                      for item in baselines],
        "tasks": {key: {"stage": task.stage, "spec": task.spec, "inputs": task.inputs, "recorded": task.recorded}
                  for key, task in tasks.items()},
    }  # fmt: skip


def results_json(runs: Path, plan: dict[str, Any], seen: dict[Path, Seen], failed: list[str]) -> dict[str, Any]:
    """The values with their protocols, and what was seen of the images. failed: why values are missing."""
    collector = Collector(runs, plan)
    data = collector.artifact("data", plan["data"])
    cells = []
    for cell in plan["cells"]:
        done = all(collector.artifact("quality", key) for key in cell["quality"].values())
        status, reason = ("done", None) if done else ("failed", "; ".join(failed))
        cells.append(
            {"id": cell["id"], "label": cell["label"], "axes": cell["axes"], "seed": 0, "status": status,
             "reason": reason, "images": asdict(seen[Path(cell["id"])]), "training": None,
             "metrics": collector.metrics(cell, status, reason), "tables": collector.tables(cell)}
        )  # fmt: skip
    return {
        "schema": SCHEMA, "suite": plan["suite"], "title": plan["title"], "environment": environment(),
        "axes": ["images"], "symbols": {}, "configuration": plan["configuration"], "overrides": plan["overrides"],
        "notes": [], "data": data.manifest["info"] if data else None, "cells": cells, "claims": [],
        "baselines": list(collector.baselines()), "references": [],
    }  # fmt: skip
