"""`ddpm-bench report`: render the report again, or print the table."""

from __future__ import annotations

from typing import Annotated

import typer

from ddpm_bench.cli._options import DEFAULT_REPORTS, DEFAULT_RUNS, Reports, Runs

FORMATS = ("csv", "json", "latex", "markdown")


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
    from ddpm_bench.records import suite_folder, update

    if format not in (None, *FORMATS):
        raise UserError(f"--format {format}: unknown; known: {', '.join(FORMATS)}")
    name = suite_name(suite, runs)
    update(runs, name)
    if format is None:
        from ddpm_bench.report import build

        print(build(runs, name, reports))
    elif format == "json":
        print((suite_folder(runs, name) / "results.json").read_text(encoding="utf-8"), end="")
    else:
        from ddpm_bench.cli._results_table import results_table
        from ddpm_bench.report.export import to_csv, to_latex, to_markdown
        from ddpm_bench.report.source import ResultsView
        from ddpm_bench.report.words import symbols

        view, writer = ResultsView(runs, name), {"csv": to_csv, "latex": to_latex, "markdown": to_markdown}[format]
        with symbols(view.data["symbols"]):
            print(writer(results_table(view)), end="")
