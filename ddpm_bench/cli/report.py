"""`ddpm-bench report`: render reports again, print tables, make the index, fail on verdicts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_bench.cli import FAILED
from ddpm_bench.cli._options import DEFAULT_REPORTS, DEFAULT_RUNS, Reports, Runs
from ddpm_bench.errors import UserError, suggestion

if TYPE_CHECKING:
    from ddpm_bench.report.source import ResultsView

FORMATS = ("csv", "json", "markdown", "latex")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("report")(command)


def command(
    suites: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SUITE]...", help="Names or files of suites; the newest run if left out."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="Print csv, json, markdown or latex instead.")] = None,
    index: Annotated[bool, typer.Option("--index", help="Make the index of all reports.")] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,…",
            help="End with code 1 on claims that are contradicted, inconclusive or untestable, or "
            "on cells that failed.",
        ),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    reports: Reports = DEFAULT_REPORTS,
) -> None:
    """Write the HTML report of a suite, with its tables and figures as files; of several suites, one for all too."""
    if format not in (None, *FORMATS):
        raise UserError(f"--format {format}: unknown; known: {', '.join(FORMATS)}")
    if index and format:
        raise UserError("--index makes a page and --format prints a table: give one of them")
    kinds = _kinds(fail_on)
    from ddpm_bench.report.index import build_index
    from ddpm_bench.report.index import views as all_views
    from ddpm_bench.report.offending import offending

    chosen: list[str | None] = [*dict.fromkeys(suites or [])]
    views = [_view(suite, runs, reports) for suite in chosen or ([] if index else [None])]
    if format:
        _print_table(views, format)
    else:
        for path in _build(views, reports):
            print(path)
    if index:
        found = all_views(runs, reports)
        print(build_index(found, reports))
        views = views or found
    lines = offending(views, kinds)
    for line in lines:
        print(line, file=sys.stderr)
    if lines:
        raise typer.Exit(FAILED)


def _kinds(text: str | None) -> list[str]:
    from ddpm_bench.report.offending import KINDS

    if text is None:
        return []
    given = [kind.strip() for kind in text.split(",")]
    unknown = [f"--fail-on {kind}: unknown{suggestion(kind, KINDS)}" for kind in given if kind not in KINDS]
    if unknown:
        raise UserError(unknown)
    return given


def _view(suite: str | None, runs: Path, reports: Path) -> ResultsView:
    """The results of a suite that was run here, brought up to date; else those that were copied here as they are, below
    runs/ or with their report."""
    from ddpm_bench.cli._common import name_of, suite_name
    from ddpm_bench.records import update
    from ddpm_bench.report.source import ResultsView

    given = None if suite is None else name_of(suite, runs)
    if given and not (runs / "suites" / given / "plan.json").is_file():
        for folder in (runs / "suites" / given, reports / given):
            if (folder / "results.json").is_file():
                return ResultsView(runs, given, folder)
    name = suite_name(suite, runs)
    update(runs, name)
    return ResultsView(runs, name)


def _build(views: list[ResultsView], reports: Path) -> list[Path]:
    """The pages. One that came with its results and shows more than can be drawn here is kept, and that is said."""
    from ddpm_bench.report import build
    from ddpm_bench.report.omitted import has_more
    from ddpm_bench.report.several import build_joint

    paths = []
    for view in views:
        page = reports / view.suite / "index.html"
        kept = view.folder == page.parent and has_more(page, view)
        paths.append(build(view.runs, view.suite, reports, view.folder, keep_page=kept))
        if kept:
            print(
                f"{page} is kept as it came: it was made where the suite was run, and has parts that results.json "
                "does not hold. Tables and figures were written beside it.",
                file=sys.stderr,
            )
    return [*paths, build_joint(views, reports)] if len(views) > 1 else paths


def _print_table(views: list[ResultsView], format: str) -> None:
    if format == "json":
        texts = [(view.folder / "results.json").read_text(encoding="utf-8") for view in views]
        print(
            texts[0] if len(texts) == 1 else "[\n" + ",\n".join(text.rstrip("\n") for text in texts) + "\n]\n", end=""
        )
        return
    from ddpm_bench.report.export import to_csv, to_latex, to_markdown
    from ddpm_bench.report.joint import JointView
    from ddpm_bench.report.table import headline_table
    from ddpm_bench.report.words import symbols

    view, writer = views[0] if len(views) == 1 else JointView(views), {
        "csv": to_csv, "latex": to_latex, "markdown": to_markdown,
    }[format]  # fmt: skip
    with symbols(view.data["symbols"]):
        print(writer(headline_table(view)), end="")
