"""Making the tasks of a suite, each with its key. Equal keys are one task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ddpm_bench.datasets import data_root
from ddpm_bench.errors import UserError
from ddpm_bench.identity import canonical, content_key
from ddpm_bench.planning.plan import CellPlan
from ddpm_bench.registry import get
from ddpm_bench.spec import Cell, Reverse, TrainingOptions, bind
from ddpm_bench.stages import CHUNK, Task, module
from ddpm_bench.stages._images import chunk_sizes
from ddpm_bench.store import Store
from ddpm_bench.suite import Suite


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
