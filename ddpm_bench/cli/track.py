"""`ddpm-bench track sync`: bring MLflow to the state of the store."""

from __future__ import annotations

from typing import Annotated

import typer

from ddpm_bench.cli import FAILED
from ddpm_bench.cli._options import DEFAULT_REPORTS, DEFAULT_RUNS, Reports, Runs


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    track = typer.Typer(help="Tracking with MLflow.", no_args_is_help=True)
    track.command("sync")(command)
    track.callback()(lambda: None)
    app.add_typer(track, name="track")


def command(
    suite: Annotated[str | None, typer.Argument(help="A suite's name or file; every suite if left out.")] = None,
    runs: Runs = DEFAULT_RUNS,
    reports: Reports = DEFAULT_REPORTS,
) -> None:
    """Bring MLflow to the state of the store; what is there already is not written again."""
    import sys

    from ddpm_bench import tracking
    from ddpm_bench.cli._common import suite_name
    from ddpm_bench.records import update

    everything = sorted(file.parent.name for file in (runs / "suites").glob("*/plan.json"))
    for name in [suite_name(suite, runs)] if suite or not everything else everything:
        update(runs, name)
        try:
            print(f"{name}: {tracking.sync(runs, name, reports / name / 'index.html')}")
        except tracking.TrackingError as problem:
            print(f"{name}: {problem}", file=sys.stderr)
            raise typer.Exit(FAILED) from None
