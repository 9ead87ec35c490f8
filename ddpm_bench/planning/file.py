"""plan.json: the plan of a suite as a file, which workers, results and status read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ddpm_bench import registry
from ddpm_bench.identity import canonical
from ddpm_bench.metrics._resolve import Resolved
from ddpm_bench.planning.plan import Plan
from ddpm_bench.stages import Task
from ddpm_bench.suite import SuiteCell


def to_json(plan: Plan) -> dict[str, Any]:
    """plan.json: what workers, results and status read. Nothing in it depends on the time or the machine."""
    suite = plan.suite
    quality = quality_results(suite.resolved_metrics, _quality_names(plan))
    return {
        "schema": 1,
        "suite": suite.name,
        "title": suite.title,
        "path": str(suite.path.resolve()),
        "axes": list(suite.axes),
        "configuration": suite.configuration,
        "overrides": list(suite.overrides),
        "notes": list(suite.skipped_notes),
        "plugins": [str(path.resolve()) for path in suite.plugins],
        "symbols": _symbols(plan),
        "data": plan.data.key,
        "metrics": {name: {"unit": unit, "higher_is_better": higher} for name, unit, higher in _metric_units(plan)},
        "parts": {name: item.part for name, item in quality.items() if item.part},
        "not_computed": plan.not_computed,
        "cells": [_cell_to_json(plan, suite_cell) for suite_cell in suite.cells],
        "baselines": [
            {"name": b.name, "metric": b.metric, "stage": b.task.stage, "key": b.task.key} for b in plan.baselines
        ],
        "claims": canonical(list(suite.claims)),
        "references": canonical(list(suite.references)),
        "tasks": {
            key: {"stage": task.stage, "spec": task.spec, "inputs": task.inputs, "recorded": task.recorded}
            for key, task in plan.tasks().items()
        },
    }  # fmt: skip


def data_to_json(plan: Plan) -> dict[str, Any]:
    """The part of plan.json that decoding the data needs: the keys of the rest are not known before."""
    task = plan.data
    return {
        "plugins": [str(path.resolve()) for path in plan.suite.plugins],
        "tasks": {task.key: {"stage": task.stage, "spec": task.spec, "inputs": {}, "recorded": {}}},
    }


def _symbols(plan: Plan) -> dict[str, dict[str, str]]:
    """Suite key → name → how the field writes it (ε for epsilon), for the entries of the cells that have a symbol."""
    found: dict[str, dict[str, str]] = {}
    for suite_cell in plan.suite.cells:
        for entry in suite_cell.cell.entries():
            if entry.symbol:
                found.setdefault(registry.axis_of(entry.axis).key, {})[entry.name] = entry.symbol
    return found


def _cell_to_json(plan: Plan, suite_cell: SuiteCell) -> dict[str, Any]:
    common = {
        "id": suite_cell.id, "label": suite_cell.label, "axes": suite_cell.axes, "seed": suite_cell.cell.seed,
        "variant": suite_cell.variant,
        "reason": suite_cell.reason, "steps": suite_cell.cell.training.steps,
    }  # fmt: skip
    cell = next((cell for cell in plan.cells if cell.suite_cell is suite_cell), None)
    if cell is None:
        return common
    return {
        **common,
        "train": cell.train.key,
        "no_bound": cell.no_bound,
        "score": {split: [task.key for task in tasks] for split, tasks in cell.score.items()},
        "fit": [task.key for task in [*cell.fit_scores, *([cell.fit] if cell.fit else [])]],
        "likelihood": {split: task.key for split, task in cell.likelihood.items()},
        "samples": [task.key for task in cell.samples],
        "features": [task.key for task in cell.features],
        "quality": {name: task.key for name, task in cell.quality.items()},
        "gallery": cell.gallery.key if cell.gallery else None,
        "nearest": {space: task.key for space, task in cell.nearest.items()},
        "forward": cell.forward.key if cell.forward else None,
        "landscape": cell.landscape.key if cell.landscape else None,
    }


def _metric_units(plan: Plan) -> list[tuple[str, str, bool]]:
    """(result name, unit, higher is better) of every value that a cell may have."""
    found: list[tuple[str, str, bool]] = []
    for item in plan.suite.resolved_metrics:
        for split in plan.suite.evaluation.splits if item.metric.needs == "score" else ():
            suffix = "" if split == "test" else f"_{split}"
            found += [(name + suffix, item.unit, item.higher_is_better) for name in item.names]
    results = quality_results(plan.suite.resolved_metrics, _quality_names(plan)).items()
    return found + [(name, item.metric.unit, item.metric.higher_is_better) for name, item in results]


def _quality_names(plan: Plan) -> list[str]:
    return [*(name for cell in plan.cells for name in cell.quality), *plan.not_computed]


def quality_results(metrics: Sequence[Resolved], names: Iterable[str]) -> dict[str, Resolved]:
    """Result name (with the suffix of its reference split and n) → what it is the result of."""
    quality = {item.name: item for item in metrics if item.metric.needs == "features"}
    longest_first = sorted(quality, key=len, reverse=True)
    return {
        name: quality[next(known for known in longest_first if name.startswith(known))] for name in dict.fromkeys(names)
    }


def read_tasks(plan_json: dict[str, Any], keys: list[str]) -> list[Task]:
    """The tasks of some keys of a plan.json."""
    return [Task(key=key, **plan_json["tasks"][key]) for key in keys]
