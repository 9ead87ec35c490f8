"""`ddpm-bench status`: how far the cells of a suite are."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from ddpm_bench.cli._options import DEFAULT_RUNS, Runs


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
    from ddpm_bench.collecting import Collector
    from ddpm_bench.records import read_plan

    name = suite_name(suite, runs)
    plan = read_plan(runs, name)
    collector = Collector(runs, plan)
    table = Table()
    for column in ("cell", "status", "artifacts"):
        table.add_column(column, justify="right" if column == "artifacts" else "left")
    places, reasons, counts = [], [], Counter[str]()
    for cell in plan["cells"]:
        status, reason = collector.status(cell)
        tasks = list(collector.tasks(cell)) if status != "illegal" else []
        finished = [(stage, key) for stage, key in tasks if collector.store.has(stage, key)]
        counts[status] += 1
        table.add_row(
            cell["id"],
            f"running ({reason})" if status == "running" else status,
            f"{len(finished)}/{len(tasks)}" if tasks else "–",
        )
        if reason and status != "running":
            reasons.append(f"{cell['id']}: {status}: {reason}")
        places += [cell["id"], *(f"  {stage:10} {collector.store.path(stage, key)}" for stage, key in finished)]
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(f"{plan['title']} ({name}): {summary}")
    Console(highlight=False).print(table)
    for line in [*reasons, *(places if paths else ())]:
        print(line)
