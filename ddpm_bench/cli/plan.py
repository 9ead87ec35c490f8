"""`ddpm-bench plan`: what a run would do, and everything that would stop it."""

from __future__ import annotations

import typer

from ddpm_bench.cli._options import DEFAULT_RUNS, Name, Only, Runs, Set, SkipMissing, Suite


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("plan")(command)


def command(
    suite: Suite,
    overrides: Set = None,
    only: Only = None,
    name: Name = None,
    skip_missing: SkipMissing = False,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """The resolved cells, shared trainings, what exists, and the exact cost. Exit code 0 when `run` would start."""
    from rich.console import Console

    from ddpm_bench import plan as make_plan
    from ddpm_bench.cli._common import load
    from ddpm_bench.cli._plan_table import print_plan
    from ddpm_bench.errors import UserError

    found = load(suite, runs, overrides, only, name)
    plan = make_plan(found, runs=runs, skip_missing=skip_missing)
    print_plan(plan, Console(highlight=False))
    if plan.problems:
        raise UserError(plan.problems)
