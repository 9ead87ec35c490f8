"""`ddpm-bench ui`: the MLflow UI on this store."""

from __future__ import annotations

from typing import Annotated

import typer

from ddpm_bench.cli._options import DEFAULT_RUNS, Runs


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("ui")(command)


def command(
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 5000,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Open the MLflow UI on the runs of this store (stop it with Ctrl-C)."""
    import subprocess

    from ddpm_bench.tracking import ui_command

    raise typer.Exit(subprocess.run(ui_command(runs, port), check=False).returncode)
