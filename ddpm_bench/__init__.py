"""ddpm-bench: questions about denoising diffusion models, answered with error bars.

    import ddpm_bench as db

    suite = db.load_suite("suites/digits_quickstart.toml")
    db.plan(suite)                                  # cells, trainings, what is missing; writes nothing
    db.run(suite)                                   # everything that is missing
    results = db.results("digits_quickstart")
    results.table                                   # tidy DataFrame, one row per cell and metric
    results.cells[0].samples()                      # uint8 [N, C, H, W]

Importing this package is cheap: torch and the rest are loaded when they are needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddpm_bench.evaluating import Evaluated
    from ddpm_bench.planning import Plan
    from ddpm_bench.records import Results
    from ddpm_bench.running import Outcome
    from ddpm_bench.suite import Suite

__version__ = "0.4.0"
__all__ = ["evaluate", "load_suite", "plan", "results", "run"]


def _runs(runs: str | Path | None) -> Path:
    """Where artifacts and results lie: as given, else DDPM_BENCH_RUNS, else runs/."""
    return Path(runs or os.environ.get("DDPM_BENCH_RUNS") or "runs")


def load_suite(
    path: str | Path, *, overrides: tuple[str, ...] = (), only: tuple[str, ...] = (), name: str | None = None
) -> Suite:
    """The suite of a TOML file; the rest as --set, --only and --name. Raises UserError with every problem."""
    from ddpm_bench.suite import load

    return load(Path(path), overrides=overrides, only=only, name=name)


def plan(suite: Suite, *, runs: str | Path | None = None, skip_missing: bool = False) -> Plan:
    """What the suite needs, what of it exists, and in `.problems` everything that would stop a run."""
    from ddpm_bench.planning import make_plan

    return make_plan(suite, _runs(runs), skip_missing=skip_missing)


def run(suite: Suite, *, runs: str | Path | None = None, reports: str | Path = "reports", **options: Any) -> Outcome:
    """Run everything that is missing; options: jobs, device, skip_missing (see `ddpm_bench.running.run`)."""
    from ddpm_bench.running import run as run_suite

    return run_suite(suite, runs=_runs(runs), reports=Path(reports), **options)


def evaluate(
    images: Sequence[str | Path],
    dataset: Any,
    metrics: Sequence[str],
    *,
    runs: str | Path | None = None,
    **options: Any,
) -> Evaluated:
    """The metrics of images that somebody else generated; options: extractors, overrides, samples, jobs, device,
    skip_missing (see `ddpm_bench.evaluating.evaluate`)."""
    from ddpm_bench.evaluating import evaluate as evaluate_images

    return evaluate_images([Path(path) for path in images], dataset, metrics, runs=_runs(runs), **options)


def results(suite: str, *, runs: str | Path | None = None) -> Results:
    """The results of a suite run before, by its name: `.table`, `.timestep_kl`, `.claims`, `.cells`."""
    from ddpm_bench.records import Results

    return Results(_runs(runs), suite)
