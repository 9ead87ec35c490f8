"""The gallery part of a plan: pictures of the chain, and the training images nearest to samples."""

from __future__ import annotations

from typing import Any

from ddpm_bench.planning.plan import CellPlan
from ddpm_bench.planning.planner import Planner
from ddpm_bench.planning.quality import QualityPlanner
from ddpm_bench.stages import CHUNK, Task

SHAPE = {"images": 4, "kept": 8, "points": 8}
"""Samples whose x̂_0 is followed, t at which, and images of an interpolation between two of them (ends included)."""
MAX_COMPARED = 1024
"""Samples, and held-out images, whose nearest training images are looked up: at ½ the shares have a standard error
of 0.016 then, and the search stays small beside the sampling."""
PIXELS = "pixels"


class GalleryPlanner:
    """Plans galleries: for every cell of image data, unless the suite says `gallery = false`."""

    def __init__(self, planner: Planner, quality: QualityPlanner):
        self.planner, self.quality = planner, quality
        levels = planner.suite.cells[0].cell.dataset.levels
        self.wanted = planner.evaluation.gallery and levels is not None
        self.extractors = {item.extractor.label: (item, digest) for item, digest in quality.metrics if item.extractor}
        self._held_out: dict[str, Task] = {}

    def add(self, plan: CellPlan) -> None:
        """The gallery of a cell whose samples are planned."""
        if not self.wanted:
            return
        sampled = plan.samples[0]
        inputs: dict[str, Any] = {"train": plan.train}
        if "fit" in sampled.inputs:
            inputs["fit"] = plan.fit
        spec = {name: value for name, value in sampled.spec.items() if name not in ("chunk", "count")}
        plan.gallery = self.planner.task("gallery", {**spec, **SHAPE}, inputs, {})
        count = min(self.planner.evaluation.samples, MAX_COMPARED)
        chunks = plan.samples[: -(-count // CHUNK)]
        for space in (PIXELS, *self.extractors):
            images = chunks
            if space in self.extractors:
                item, digest = self.extractors[space]
                images = [self.planner.features("samples", item.extractor, digest, chunk) for chunk in chunks]
            inputs = {**self._common(space), "images": images, "held_out": self._held_out_images(space)}
            plan.nearest[space] = self.planner.task(
                "nearest", {"space": space, "source": "samples", "count": count}, inputs, {}
            )

    def _common(self, space: str) -> dict[str, Any]:
        """The training images, and their features where these are compared."""
        if space not in self.extractors:
            return {"data": self.planner.data}
        return {"data": self.planner.data, "reference": self.quality.split_features(*self.extractors[space], "train")}

    def _held_out_images(self, space: str) -> Task:
        """What every cell is compared with: the test images' distances to the training images. One task for all."""
        if space not in self._held_out:
            images = self.planner.data
            if space in self.extractors:
                images = self.quality.split_features(*self.extractors[space], "test")
            spec = {
                "space": space, "source": "split", "split": "test", "count": self.planner.count("test", MAX_COMPARED),
            }  # fmt: skip
            task = self.planner.task("nearest", spec, {**self._common(space), "images": [images]}, {})
            self._held_out[space] = task
            self.planner.references.append(task)
        return self._held_out[space]
