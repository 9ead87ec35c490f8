"""Making the tasks of a suite, each with its key. Equal keys are one task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ddpm_bench.datasets import data_root
from ddpm_bench.diffusion.estimators import Estimator
from ddpm_bench.diffusion.reverse import BOUND_THRESHOLDINGS
from ddpm_bench.errors import UserError
from ddpm_bench.identity import canonical, content_key
from ddpm_bench.planning.plan import CellPlan
from ddpm_bench.registry import get
from ddpm_bench.spec import Cell, Reverse, TrainingOptions, bind
from ddpm_bench.stages import CHUNK, Task, module
from ddpm_bench.stages._images import chunk_sizes
from ddpm_bench.store import Store
from ddpm_bench.suite import Suite

SPECTRUM_IMAGES = 4096
"""Training images whose covariance chooses the t of a sampled estimator."""

Scores = dict[str, list[Task]]
"""The inputs of a likelihood or a fit that are scores, by name."""


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

    def identify(self, task: Task, digest: str) -> None:
        """Let a digest of its content stand for a task in the keys of what reads it, as that of the data does."""
        self._identity[task.key] = digest

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

    def forward(self, cell: Cell) -> Task:
        """Tables and pictures of the cell's forward process: one task for all cells that have this one."""
        timesteps = cell.diffusion.timesteps
        spec = {"schedule": cell.diffusion.schedule.canonical(timesteps), "timesteps": timesteps}
        return self.task("forward", spec, {"data": self.data}, {})

    def count(self, split: str, images: int | Literal["all"]) -> int:
        """How many of a split's images: before decoding, a stand-in that only provisional keys see."""
        total = self.info[f"num_{split}"] if self.info else CHUNK
        return total if images == "all" else min(images, total)

    def spectrum(self) -> Task:
        """The eigenvalues of the training images: what chooses t for all variants alike."""
        task = self.task("spectrum", {"images": SPECTRUM_IMAGES}, {"data": self.data}, {})
        if task not in self.references:
            self.references.append(task)
        return task

    def scores(self, plan: CellPlan, reverse: Reverse, split: str, images: int, estimator: Estimator) -> Scores:
        """The scores that a likelihood or a fit of the split reads.

        One full score serves every fixed σ² and every chain that keeps t = 1. A chain of its own is scored where a head
        decides σ², where t are sampled, and (its first step alone) where the decoder's step is another one than t = 1.
        """
        common = {"split": split, "images": images, "weights": reverse.weights, "estimator": estimator}
        if reverse.precision is not None:
            common["precision"] = reverse.precision
        inputs = {"train": plan.train, "data": self.data}
        if estimator.needs_spectrum:
            inputs["spectrum"] = self.spectrum()

        def score(timesteps: tuple[int, ...] | None) -> list[Task]:
            chunks = range(len(chunk_sizes(images)))
            return [
                self.task("score", {**common, "chunk": chunk, "timesteps": timesteps}, inputs, {}) for chunk in chunks
            ]

        if reverse.variance.needs_head or estimator.needs_spectrum:
            return {"score": score(reverse.timesteps)}
        if reverse.timesteps is not None and reverse.timesteps[0] != 1:
            return {"score": score(None), "first": score(reverse.timesteps[:1])}
        return {"score": score(None)}

    def fit(self, plan: CellPlan, reverse: Reverse) -> dict[str, Task]:
        """The fit of a variance that has one, as an input by name: on the validation split, of this chain."""
        if not reverse.variance.needs_fit:
            return {}
        if plan.fit is None:
            images = self.count("validation", self.evaluation.fit_images)
            if not images:
                text = f"variance {reverse.variance.name} is fitted to the validation split, which is empty"
                self.problems.extend([text] if text not in self.problems else [])
            scores = self.scores(plan, reverse, "validation", images, get("estimators", "full")())
            used = replace(reverse, sampler=get("samplers", "ancestral")())  # a fit is about the chain, not its sampler
            spec = {"reverse": used, "split": "validation", "images": images, "decoder": self.evaluation.decoder}
            plan.fit_scores = [task for tasks in scores.values() for task in tasks]
            plan.fit = self.task("fit", spec, {"train": plan.train, "data": self.data, **scores}, {})
        return {"fit": plan.fit}

    def likelihood(self, plan: CellPlan, reverse: Reverse, split: str) -> None:
        """Score and likelihood of a split."""
        images = self.count(split, self.evaluation.images)
        scores = self.scores(plan, reverse, split, images, self.evaluation.estimator)
        spec = {"reverse": reverse, "split": split, "images": images, "decoder": self.evaluation.decoder}
        inputs = {"train": plan.train, "data": self.data, **scores, **self.fit(plan, reverse)}
        plan.score[split] = [task for tasks in scores.values() for task in tasks]
        plan.likelihood[split] = self.task("likelihood", spec, inputs, {})

    def sample(self, plan: CellPlan, reverse: Reverse) -> None:
        """The chunks that hold evaluation.samples images for each of its generations."""
        # What samples do not depend on takes its default, so that it does not enter their keys: no noise is added at
        # the first step, and some samplers have no use for σ².
        reverse = replace(reverse, first_step="beta_tilde_2")
        if not reverse.sampler.uses_variance:
            reverse = replace(reverse, variance=get("variances", "beta")())
        inputs = {"train": plan.train, **self.fit(plan, reverse)}
        plan.samples = [
            self.task("sample", {"reverse": reverse, "chunk": chunk, "count": count}, inputs, {})
            for chunk, count in enumerate(chunk_sizes(self.evaluation.samples * self.evaluation.generations))
        ]

    def features(self, source: str, extractor: Any, digest: str, images: Task, **more: Any) -> Task:
        """The features of some images."""
        spec = {"extractor": extractor, "weights_sha256": digest, "source": source, **more}
        return self.task("features", spec, {"images": images}, {})


def no_bound(reverse: Reverse) -> str | None:
    """Why bits/dim is not defined for a reverse process, or None: it is a property of the ancestral chain."""
    if not reverse.sampler.has_bound:
        return f"not defined: sampler {reverse.sampler.name} does not draw from the chain that the bound belongs to"
    if reverse.thresholding not in BOUND_THRESHOLDINGS:
        return (
            f"not defined: the bound belongs to x̂_0 with {' or '.join(BOUND_THRESHOLDINGS)}, not {reverse.thresholding}"
        )
    return None


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
