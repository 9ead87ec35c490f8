"""From a suite to the artifacts it needs: cells → tasks → jobs. Nothing is run here, nothing is written.

Equal keys are one task: cells that differ only in how the weights are used share a training by construction.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ddpm_bench.diffusion.likelihood import bits_per_dim, prior_kl
from ddpm_bench.labels import value_label
from ddpm_bench.planning.gallery import GalleryPlanner
from ddpm_bench.planning.landscape import add_landscapes
from ddpm_bench.planning.plan import Baseline, CellPlan, Plan
from ddpm_bench.planning.planner import Planner, no_bound
from ddpm_bench.planning.quality import QualityPlanner
from ddpm_bench.store import Store
from ddpm_bench.suite import Suite

__all__ = ["Baseline", "CellPlan", "Plan", "Planner", "make_plan"]

MAX_PRIOR_BITS = 1e-3
"""L_T in bits/dim at x² = 1 above which a plan warns."""


def make_plan(suite: Suite, runs: Path, *, skip_missing: bool = False) -> Plan:
    """The plan of a suite on a store, with every problem that would stop a run."""
    planner = Planner(suite, Store(runs / "store"), skip_missing)
    scored = any(item.metric.needs == "score" for item in suite.resolved_metrics)
    quality = QualityPlanner(planner, [item for item in suite.resolved_metrics if item.metric.needs == "features"])
    gallery = GalleryPlanner(planner, quality)
    cells = []
    for suite_cell in suite.cells:
        if suite_cell.reason is not None:
            continue
        train, reverse = planner.train(suite_cell.cell)
        plan = CellPlan(suite_cell, train, forward=planner.forward(suite_cell.cell))
        if scored:
            plan.no_bound = no_bound(reverse)
            for split in suite.evaluation.splits if plan.no_bound is None else ():
                planner.likelihood(plan, reverse, split)
        planner.sample(plan, reverse)
        quality.add(plan, reverse)
        gallery.add(plan)
        cells.append(plan)
    add_landscapes(planner, cells)
    baselines = quality.baselines()
    if scored and suite.cells[0].cell.dataset.levels is not None:
        for split in suite.evaluation.splits:
            spec = {"split": split, "images": planner.count(split, suite.evaluation.images)}
            name = "bits_per_dim" if split == "test" else f"bits_per_dim_{split}"
            baselines.insert(0, Baseline(None, name, planner.task("baseline", spec, {"data": planner.data}, {})))
    illegal = [cell for cell in suite.cells if cell.reason is not None]
    return Plan(
        suite, planner.store, planner.data, planner.info, cells, illegal, planner.references, baselines,
        planner.not_computed, planner.problems, unfinished_processes(suite),
    )  # fmt: skip


def unfinished_processes(suite: Suite) -> list[str]:
    """A warning for each forward process whose x_T is not N(0, I): L_T is paid whatever the network learns."""
    found = []
    for diffusion in dict.fromkeys(c.cell.diffusion for c in suite.cells if c.reason is None):
        process = diffusion.schedule.process(diffusion.timesteps)
        prior = float(bits_per_dim(prior_kl(torch.ones(1, 1, 1, 1), process), 1))
        if prior > MAX_PRIOR_BITS:
            found.append(
                f"{value_label(diffusion.schedule)} with T = {diffusion.timesteps} does not end at N(0, I): L_T is "
                f"{prior:.2g} bits/dim at x² = 1, and samples start elsewhere than training ended"
            )
    return list(dict.fromkeys(found))
