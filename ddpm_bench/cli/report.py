"""`ddpm-bench report`: render the report again, or print the table."""

from __future__ import annotations

from typing import Annotated

import typer

from ddpm_bench.cli.app import DEFAULT_REPORTS, DEFAULT_RUNS, Reports, Runs


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("report")(command)


def command(
    suite: Annotated[str | None, typer.Argument(help="A suite's name or file; the newest run if left out.")] = None,
    format: Annotated[str | None, typer.Option(help="Print csv, json, markdown or latex instead.")] = None,
    runs: Runs = DEFAULT_RUNS,
    reports: Reports = DEFAULT_REPORTS,
) -> None:
    """Write the HTML report of a suite, with its tables and figures as files."""
    from ddpm_bench.cli._common import suite_name
    from ddpm_bench.errors import UserError
    from ddpm_bench.records import Results, suite_folder, update
    from ddpm_bench.report import build

    files = {"csv": "table.csv", "markdown": "table.md", "latex": "table.tex"}
    if format not in (None, "json", *files):
        raise UserError(f"--format {format}: unknown; known: csv, json, latex, markdown")
    name = suite_name(suite, runs)
    update(runs, name)
    if format == "json":
        print((suite_folder(runs, name) / "results.json").read_text(encoding="utf-8"), end="")
        return
    Results(runs, name)
    page = build(runs, name, reports)
    print((page.parent / files[format]).read_text(encoding="utf-8") if format else page, end="" if format else "\n")
