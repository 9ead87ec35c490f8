"""`ddpm-bench stage run`: what a worker process executes. Not for users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    stage = typer.Typer(help="Run tasks of a plan in this process.")
    stage.command("run")(command)
    stage.callback()(lambda: None)
    app.add_typer(stage, name="stage", hidden=True)


def command(
    keys: Annotated[list[str], typer.Argument(help="Keys of tasks, run in this order.")],
    plan: Annotated[Path, typer.Option(help="The plan.json that holds them.")],
    runs: Annotated[Path, typer.Option(help="Where artifacts lie.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    watch_parent: Annotated[bool, typer.Option(help="End when the standard input is closed.")] = False,
) -> None:
    """Run tasks one after the other; exit code 3 if one failed (and was recorded)."""
    from ddpm_bench.planning.file import read_tasks
    from ddpm_bench.registry import load_plugin_file
    from ddpm_bench.stages.runner import SOME_FAILED, die_with_parent, run_tasks, set_threads

    if watch_parent:
        die_with_parent()
    set_threads(device)
    content = json.loads(plan.read_text(encoding="utf-8"))
    for plugin in content["plugins"]:
        load_plugin_file(Path(plugin))
    if not run_tasks(runs, read_tasks(content, keys), device):
        raise typer.Exit(SOME_FAILED)
