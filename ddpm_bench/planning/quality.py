"""The quality part of a plan: samples and splits → features → metrics, with floors and references beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ddpm_bench.errors import UserError
from ddpm_bench.metrics import QualityMetric, foreign_classes
from ddpm_bench.metrics._resolve import Resolved
from ddpm_bench.planning.plan import Baseline, CellPlan
from ddpm_bench.planning.planner import Planner
from ddpm_bench.spec import Reverse
from ddpm_bench.stages import Task

ROUNDING = "round((x+1)(K−1)/2), then round(v·255/(K−1))"


class QualityPlanner:
    """Plans quality metrics: unsuffixed names compare with the training split, `_test` with the test split."""

    def __init__(self, planner: Planner, metrics: list[Resolved]):
        self.planner, self.evaluation = planner, planner.evaluation
        self.references = ("train", "test") if self.evaluation.reference_split == "both" else (
            self.evaluation.reference_split,
        )  # fmt: skip
        self.metrics: list[tuple[Resolved, str]] = []
        self._splits: dict[tuple[str, str], Task] = {}
        dataset = planner.suite.cells[0].cell.dataset
        levels, self._dataset = dataset.levels, dataset.name
        unavailable: dict[str, list[str]] = {}
        for item in metrics:
            if levels is None:
                self._skip(item, "the data have no grey levels: an extractor of images has nothing to look at")
                continue
            foreign = self._foreign_classes(item)
            if foreign and self._metric(item).needs_classes_of_data:
                self._skip(item, foreign)
                continue
            try:
                self.metrics.append((item, item.extractor.digest()))  # type: ignore[union-attr]
            except UserError as problem:
                self._skip(item, str(problem))
                unavailable.setdefault(str(problem), []).append(item.name)
        if not planner.skip_missing:
            for reason, missing in unavailable.items():
                planner.problems.append(f"{', '.join(missing)}: {reason} (or go on without: --skip-missing)")
        if levels is None and metrics and not planner.skip_missing:
            names = ", ".join(item.name for item in metrics)
            planner.problems.append(f"{names}: dataset has real values, no images; leave the metric out")

    def _skip(self, item: Resolved, reason: str) -> None:
        names = [item.name] if not item.metric.uses_reference else [name for _, name, _, _ in self._variants(item)]
        for name in names:
            self.planner.not_computed[name] = reason

    @staticmethod
    def _metric(item: Resolved) -> QualityMetric:
        assert isinstance(item.metric, QualityMetric)
        return item.metric

    def _foreign_classes(self, item: Resolved) -> str | None:
        """Why a metric of classes looks at others than those of the data, or None."""
        assert item.extractor is not None
        return foreign_classes(item.extractor, self._dataset) if self._metric(item).uses_classes else None

    def _size(self, split: str) -> int:
        return self.planner.info[f"num_{split}"] if self.planner.info else self.evaluation.samples

    def _variants(self, item: Resolved) -> Iterator[tuple[str, str, int, int]]:
        """(reference split, result name, n_generated, n_reference) of a metric's values."""
        samples = self.evaluation.samples
        if not item.metric.uses_reference:
            yield "train", item.name, samples, self._size("train")
            return
        for split in self.references:
            name = item.name + ("" if split == "train" else f"_{split}")
            yield split, name, samples, self._size(split)
            held_out = self._size(_other(split))
            if held_out < samples:
                yield split, f"{name}_n{held_out}", held_out, self._size(split)

    def split_features(self, item: Resolved, digest: str, split: str) -> Task:
        """The features of a whole split, one task for all that read them."""
        place = (str(item.extractor), split)
        if place not in self._splits:
            task = self.planner.features("split", item.extractor, digest, self.planner.data, split=split)
            self._splits[place] = task
            self.planner.references.append(task)
        return self._splits[place]

    def _task(self, item: Resolved, digest: str, generated: list[Task], kind: str, split: str, n: int,
              n_reference: int, protocol: dict[str, Any]) -> Task:  # fmt: skip
        reference = [self.split_features(item, digest, split)]
        assert item.extractor is not None
        whole = {
            "extractor": item.extractor.label, "weights_sha256": digest,
            "resize": item.extractor.preprocessing, "rounding": ROUNDING,
            **({"reference_split": split} if item.metric.uses_reference else {}), **protocol,
        }  # fmt: skip
        spec = {
            "metric": item.metric,
            "generated": kind,
            "n_generated": n,
            "n_reference": n_reference,
            "protocol": whole,
        }
        if self._metric(item).uses_classes:
            whole["classes_of_data"] = self._foreign_classes(item) is None
            if whole["classes_of_data"]:
                spec["class_names"] = item.extractor.class_names
        if kind == "samples" and self.evaluation.generations > 1:
            spec |= {"generations": self.evaluation.generations, "stride": self.evaluation.samples}
        return self.planner.task("quality", spec, {"generated": generated, "reference": reference}, {})

    def add(self, plan: CellPlan, reverse: Reverse) -> None:
        """Features and metrics of a cell's samples."""
        protocol = {
            "sampler": reverse.sampler,
            "sampling_steps": "all" if reverse.timesteps is None else len(reverse.timesteps),
            **({} if reverse.timesteps is None else {"spacing": plan.suite_cell.cell.reverse.spacing}),
            "thresholding": reverse.thresholding, "weights": reverse.weights,
            **({"precision": reverse.precision} if reverse.precision else {}),  # else that of the training
        }  # fmt: skip
        plan.features, plan.quality = self.of_images(plan.samples, protocol)

    def of_images(self, images: list[Task], protocol: dict[str, Any]) -> tuple[list[Task], dict[str, Task]]:
        """(features, result name → metric) of artifacts that hold generated images, one after the other.

        protocol: what is to be said of them beside what holds for all.
        """
        features: dict[str, list[Task]] = {}
        quality: dict[str, Task] = {}
        for item, digest in self.metrics:
            place = str(item.extractor)
            if place not in features:
                features[place] = [self.planner.features("samples", item.extractor, digest, chunk) for chunk in images]
            for split, name, n, n_reference in self._variants(item):
                quality[name] = self._task(item, digest, features[place], "samples", split, n, n_reference, protocol)
        return [task for tasks in features.values() for task in tasks], quality

    def baselines(self) -> list[Baseline]:
        """Floors (held-out images against the same reference) and uniform noise, for every metric and reference."""
        found = []
        noise: dict[str, Task] = {}
        for item, digest in self.metrics:
            samples = self.evaluation.samples
            place = str(item.extractor)
            if place not in noise:
                noise[place] = self.planner.features(
                    "uniform noise", item.extractor, digest, self.planner.data, count=samples
                )
                self.planner.references.append(noise[place])
            for split, name, n, n_reference in self._variants(item):
                other = _other(split)
                held_out = self.split_features(item, digest, other)
                count = min(n, self._size(other))
                if count == n or not item.metric.uses_reference:
                    chosen = {} if count == self._size(other) else {"subset_seed": 0}  # stages/_images.py
                    task = self._task(item, digest, [held_out], "split", split, count, n_reference,
                                      {"generated_split": other, **chosen})  # fmt: skip
                    label = "floor" if item.metric.uses_reference else "real images"
                    found.append(Baseline(f"{label}: {count} {other} images", name, task))
                task = self._task(item, digest, [noise[place]], "uniform noise", split, n, n_reference, {})
                found.append(Baseline("uniform noise", name, task))
        return found


def _other(split: str) -> str:
    """The split whose images are held out from the reference split."""
    return "test" if split == "train" else "train"
