"""From a suite to the artifacts it needs: cells → tasks → jobs. Nothing is run here, nothing is written.

Equal keys are one task: cells that differ only in how the weights are used share a training by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ddpm_bench.datasets import data_root
from ddpm_bench.errors import UserError
from ddpm_bench.identity import canonical, content_key
from ddpm_bench.registry import get
from ddpm_bench.spec import Cell, Reverse, TrainingOptions, bind
from ddpm_bench.stages import CHUNK, Task, module
from ddpm_bench.stages._images import chunk_sizes
from ddpm_bench.store import Store
from ddpm_bench.suite import Suite, SuiteCell


@dataclass
class CellPlan:
    """The tasks of one cell."""

    suite_cell: SuiteCell
    train: Task
    score: dict[str, list[Task]] = field(default_factory=dict)
    likelihood: dict[str, Task] = field(default_factory=dict)
    samples: list[Task] = field(default_factory=list)
    features: list[Task] = field(default_factory=list)
    quality: dict[str, Task] = field(default_factory=dict)
    """Result name (with the suffix of its reference split and n) → task."""

    def tasks(self) -> list[Task]:
        """All of them, inputs before what reads them."""
        scores = [task for chunk in self.score.values() for task in chunk]
        after = [*self.likelihood.values(), *self.samples, *self.features, *self.quality.values()]
        return [self.train, *scores, *after]


@dataclass
class Baseline:
    """A task whose estimates stand beside the cells': name None means that its estimates carry the names."""

    name: str | None
    metric: str
    task: Task


@dataclass
class Plan:
    """Everything a suite needs, and what is known about it before it runs."""

    suite: Suite
    store: Store
    data: Task
    info: dict[str, Any] | None
    """The data stage's info.json; None before it has run: keys are provisional then."""
    cells: list[CellPlan]
    illegal: list[SuiteCell]
    references: list[Task]
    """Features of splits and of uniform noise."""
    baselines: list[Baseline]
    not_computed: dict[str, str]
    """Result name → why it is not computed in this run (missing weights under --skip-missing)."""
    problems: list[str]
    """Everything that stops a run: missing data, missing weights."""

    def tasks(self) -> dict[str, Task]:
        """Every task once, by key, inputs first."""
        ordered = [self.data, *self.references, *(baseline.task for baseline in self.baselines)]
        for cell in self.cells:
            ordered.extend(cell.tasks())
        return {task.key: task for task in ordered}

    def selected(self) -> list[CellPlan]:
        """The cells that this run computes."""
        chosen = self.suite.selected
        return [cell for cell in self.cells if chosen is None or cell.suite_cell.id in chosen]

    def missing(self) -> dict[str, Task]:
        """The tasks of the selected cells that have no artifact yet and can have one, by key, inputs first.

        Nothing comes after a diverged training: what reads it is not missing.
        """
        wanted = [self.data, *self.references, *(baseline.task for baseline in self.baselines)]
        for cell in self.selected():
            wanted.extend(cell.tasks())
        missing: dict[str, Task] = {}
        ended: set[str] = set()
        for task in wanted:
            if self.store.has(task.stage, task.key):
                if self.store.get(task.stage, task.key).outcome:
                    ended.add(task.key)
            elif any(key in ended for _, key in task.references()):
                ended.add(task.key)
            else:
                missing[task.key] = task
        return missing

    def trainings(self) -> dict[str, list[CellPlan]]:
        """Train key → the cells that share it."""
        found: dict[str, list[CellPlan]] = {}
        for cell in self.cells:
            found.setdefault(cell.train.key, []).append(cell)
        return found


class Planner:
    """Makes tasks, each with its key."""

    def __init__(self, suite: Suite, store: Store, skip_missing: bool):
        self.suite, self.store, self.skip_missing = suite, store, skip_missing
        self.evaluation = suite.evaluation
        self.not_computed: dict[str, str] = {}
        self.problems: list[str] = []
        self.references: list[Task] = []
        self.data = self._data_task(suite.cells[0].cell)
        known = store.has("data", self.data.key)
        self.info: dict[str, Any] | None = store.get("data", self.data.key).manifest["info"] if known else None
        self._identity = {self.data.key: self.info["digest"] if self.info else self.data.key}

    def task(self, stage: str, spec: dict[str, Any], inputs: dict[str, Any], recorded: dict[str, Any]) -> Task:
        """A task with its key; inputs: name → Task or list of Tasks."""
        spec = canonical(spec)
        identities = {name: self._identities(value) for name, value in inputs.items()}
        places = {
            name: [[t.stage, t.key] for t in value] if isinstance(value, list) else [value.stage, value.key]
            for name, value in inputs.items()
        }
        return Task(stage, content_key(stage, module(stage).VERSION, spec, identities), spec, places, recorded)

    def _identities(self, value: Task | list[Task]) -> Any:
        if isinstance(value, list):
            return [self._identities(item) for item in value]
        return self._identity.get(value.key, value.key)

    def _data_task(self, cell: Cell) -> Task:
        root = data_root()
        try:
            sources = [(path, path.stat()) for path in cell.dataset.sources(root)]
        except UserError as problem:
            self.problems.extend(f"dataset: {text}" for text in problem.problems)
            sources = []
        spec = {
            "dataset": cell.dataset,
            "sources": [[_relative(path, root), stat.st_size, stat.st_mtime_ns] for path, stat in sources],
        }
        spec = canonical(spec)
        return Task("data", content_key("data", module("data").VERSION, spec, {}), spec, {})

    def train(self, cell: Cell) -> tuple[Task, Reverse]:
        """The training of a cell, and how the cell uses it."""
        training, reverse = bind(cell)
        recorded = {name: getattr(cell.training, name) for name in TrainingOptions.RECORDED}
        recorded["validation_images"] = self.evaluation.images
        spec = {"training": training, "steps": cell.training.steps}
        return self.task("train", spec, {"data": self.data}, recorded), reverse

    def count(self, split: str) -> int:
        """Images of a split that are evaluated; before decoding, a stand-in that only provisional keys see."""
        total = self.info[f"num_{split}"] if self.info else CHUNK
        images = self.evaluation.images
        return total if images == "all" else min(int(images), total)

    def likelihood(self, plan: CellPlan, reverse: Reverse, split: str) -> None:
        """Score and likelihood of a split."""
        images = self.count(split)
        common = {"split": split, "images": images, "weights": reverse.weights}
        inputs = {"train": plan.train, "data": self.data}

        def score(first: int | None) -> list[Task]:
            chunks = range(len(chunk_sizes(images)))
            return [self.task("score", {**common, "chunk": chunk, "first": first}, inputs, {}) for chunk in chunks]

        scores, more = score(None), {}
        if reverse.timesteps is not None and reverse.timesteps[0] != 1:
            more = {"first": score(reverse.timesteps[0])}  # the decoder's step is another one than t = 1
        used = {"variance": reverse.variance, "first_step": reverse.first_step, "thresholding": reverse.thresholding,
                "timesteps": reverse.timesteps, "sampler": reverse.sampler, "weights": reverse.weights}  # fmt: skip
        spec = {
            "reverse": used, "split": split, "images": images,
            "estimator": self.evaluation.estimator, "decoder": self.evaluation.decoder,
        }  # fmt: skip
        plan.score[split] = [*scores, *(task for tasks in more.values() for task in tasks)]
        plan.likelihood[split] = self.task("likelihood", spec, {**inputs, "score": scores, **more}, {})

    def sample(self, plan: CellPlan, reverse: Reverse) -> None:
        """The chunks that hold evaluation.samples images."""
        # What samples do not depend on takes its default, so that it does not enter their keys: no noise is added at
        # the first step, and some samplers have no use for σ².
        reverse = replace(reverse, first_step="beta_tilde_2")
        if not reverse.sampler.uses_variance:
            reverse = replace(reverse, variance=get("variances", "beta")())
        plan.samples = [
            self.task("sample", {"reverse": reverse, "chunk": chunk, "count": count}, {"train": plan.train}, {})
            for chunk, count in enumerate(chunk_sizes(self.evaluation.samples))
        ]

    def features(self, source: str, extractor: Any, digest: str, images: Task, **more: Any) -> Task:
        """The features of some images."""
        spec = {"extractor": extractor, "weights_sha256": digest, "source": source, **more}
        return self.task("features", spec, {"images": images}, {})


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def make_plan(suite: Suite, runs: Path, *, skip_missing: bool = False) -> Plan:
    """The plan of a suite on a store, with every problem that would stop a run."""
    from ddpm_bench.planning_quality import QualityPlanner

    planner = Planner(suite, Store(runs / "store"), skip_missing)
    scored = any(item.metric.needs == "score" for item in suite.resolved_metrics)
    quality = QualityPlanner(planner, [item for item in suite.resolved_metrics if item.metric.needs == "features"])
    cells = []
    for suite_cell in suite.cells:
        if suite_cell.reason is not None:
            continue
        train, reverse = planner.train(suite_cell.cell)
        plan = CellPlan(suite_cell, train)
        if scored:
            for split in suite.evaluation.splits:
                planner.likelihood(plan, reverse, split)
        planner.sample(plan, reverse)
        quality.add(plan, reverse)
        cells.append(plan)
    baselines = quality.baselines()
    if scored and suite.cells[0].cell.dataset.levels is not None:
        for split in suite.evaluation.splits:
            spec = {"split": split, "images": planner.count(split)}
            name = "bits_per_dim" if split == "test" else f"bits_per_dim_{split}"
            baselines.insert(0, Baseline(None, name, planner.task("baseline", spec, {"data": planner.data}, {})))
    illegal = [cell for cell in suite.cells if cell.reason is not None]
    return Plan(
        suite, planner.store, planner.data, planner.info, cells, illegal, planner.references, baselines,
        planner.not_computed, planner.problems,
    )  # fmt: skip
