"""`ddpm-bench run`: plan, train, evaluate, track, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddpm_bench.cli import FAILED
from ddpm_bench.cli.app import DEFAULT_REPORTS, DEFAULT_RUNS, Name, Only, Reports, Runs, Set, SkipMissing, Suite


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("run")(command)


def command(
    suite: Suite,
    overrides: Set = None,
    only: Only = None,
    name: Name = None,
    jobs: Annotated[
        str, typer.Option(help="Worker processes: auto is one per visible GPU, else one per core.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    executor: Annotated[str, typer.Option(help="Where jobs run: local.")] = "local",
    skip_missing: SkipMissing = False,
    runs: Runs = DEFAULT_RUNS,
    reports: Reports = DEFAULT_REPORTS,
) -> None:
    """Run everything a suite needs; run again to resume: finished work is never redone."""
    from rich.console import Console

    from ddpm_bench import run as run_suite
    from ddpm_bench.cli._common import load, print_table
    from ddpm_bench.errors import UserError

    if executor != "local":
        raise UserError(f"--executor {executor}: unknown; known: local")
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device}: unknown; known: auto, cpu, cuda")
    if jobs != "auto" and not (jobs.isdecimal() and int(jobs) > 0):
        raise UserError(f"--jobs {jobs}: expected auto or a positive number")
    found = load(suite, runs, overrides, only, name)
    errors = Console(stderr=True, highlight=False)
    outcome = run_suite(
        found, runs=runs, reports=reports, jobs=jobs, device=device, skip_missing=skip_missing,
        notify=lambda text: errors.print(text, markup=False),
    )  # fmt: skip
    if outcome.warning:
        errors.print(f"warning: {outcome.warning}", markup=False)
    console = Console(highlight=False)
    if not outcome.tasks_run:
        console.print(f"{found.name}: nothing to do, every artifact exists already.", markup=False)
    print_table(outcome.results.data, console)
    _print_paths(found.name, outcome.report, runs)
    if outcome.failed:
        for cell in outcome.failed:
            errors.print(f"failed: {cell}; `ddpm-bench logs {cell}` shows why", markup=False)
        raise typer.Exit(FAILED)


def _print_paths(suite: str, report: Path, runs: Path) -> None:
    from ddpm_bench.tracking import tracking_uri

    print(f"report   {report}")
    print(f"results  {runs / 'suites' / suite / 'results.json'}")
    print(f"MLflow   {tracking_uri(runs)}")
    print(f"next     open the report in a browser, or `ddpm-bench ui --runs {runs}` for the MLflow UI")
