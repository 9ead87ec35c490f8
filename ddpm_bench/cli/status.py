"""`ddpm-bench status`: how far the cells of a suite are."""

from __future__ import annotations

from typing import Annotated

import typer

from ddpm_bench.cli.app import DEFAULT_RUNS, Runs


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("status")(command)


def command(
    suite: Annotated[str | None, typer.Argument(help="A suite's name or file; the newest run if left out.")] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Show where the artifacts lie.")] = False,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Table of cells: waiting, running, done, diverged, failed or illegal, and why."""
    from rich.console import Console
    from rich.table import Table

    from ddpm_bench.cli._common import suite_name
    from ddpm_bench.records import Collector, read_plan

    name = suite_name(suite, runs)
    plan = read_plan(runs, name)
    collector = Collector(runs, plan)
    table = Table(title=name, title_justify="left")
    for column in ("cell", "status", "artifacts", "why"):
        table.add_column(column, justify="right" if column == "artifacts" else "left")
    places = []
    for cell in plan["cells"]:
        status, reason = collector.status(cell)
        tasks = list(collector.tasks(cell)) if status != "illegal" else []
        finished = [(stage, key) for stage, key in tasks if collector.store.has(stage, key)]
        table.add_row(cell["id"], status, f"{len(finished)}/{len(tasks)}", reason or "")
        places += [f"{cell['id']}  {collector.store.path(stage, key)}" for stage, key in finished]
    Console(highlight=False).print(table)
    if paths:
        print("\n".join(places))
