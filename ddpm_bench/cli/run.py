"""`ddpm-bench run`: plan, train, evaluate, track, report."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_bench.cli import FAILED, INTERRUPTED
from ddpm_bench.cli._options import DEFAULT_REPORTS, DEFAULT_RUNS, Name, Only, Reports, Runs, Set, SkipMissing, Suite

if TYPE_CHECKING:
    from ddpm_bench.running import Outcome


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
    from ddpm_bench.errors import UserError

    if executor != "local":
        raise UserError(f"--executor {executor}: unknown; known: local")
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device}: unknown; known: auto, cpu, cuda")
    if jobs != "auto" and not (jobs.isdecimal() and int(jobs) > 0):
        raise UserError(f"--jobs {jobs}: expected auto or a positive number")
    try:
        with _sigterm_as_interrupt():
            from ddpm_bench import run as run_suite
            from ddpm_bench.cli._common import load

            found = load(suite, runs, overrides, only, name)
            outcome = run_suite(
                found, runs=runs, reports=reports, jobs=jobs, device=device, skip_missing=skip_missing,
                notify=lambda text: print(text, file=sys.stderr),
            )  # fmt: skip
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    _show(found.name, outcome, runs)
    if outcome.failed:
        for cell in outcome.failed:
            print(f"failed: {cell}; `ddpm-bench logs {cell}{_option(runs)}` shows why", file=sys.stderr)
        raise typer.Exit(FAILED)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM (a scheduler's, a container's) ends a run as Ctrl-C does: with its workers, resumable, code 75."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(suite: str, outcome: Outcome, runs: Path) -> None:
    from rich.console import Console

    from ddpm_bench.cli._results_table import print_results
    from ddpm_bench.cli._verdicts import print_verdicts
    from ddpm_bench.report.source import ResultsView
    from ddpm_bench.tracking import tracking_uri

    if outcome.warning:
        print(f"warning: {outcome.warning}", file=sys.stderr)
    if not outcome.tasks_run:
        print(f"{suite}: nothing to do, every artifact exists already.")
    view, console = ResultsView(runs, suite), Console(highlight=False)
    print_results(view, console)
    print_verdicts(view, console)
    print(f"report   {outcome.report}")
    print(f"results  {runs / 'suites' / suite / 'results.json'}")
    print(f"MLflow   {tracking_uri(runs)}")
    print(f"next     open the report in a browser; `ddpm-bench ui{_option(runs)}` shows the curves")


def _option(runs: Path) -> str:
    """What a command needs to find these runs."""
    return "" if runs == DEFAULT_RUNS else f" --runs {runs}"
