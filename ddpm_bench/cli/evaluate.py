"""`ddpm-bench evaluate`: the protocol of a suite for images that somebody else generated."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ddpm_bench.cli import FAILED
from ddpm_bench.cli._options import DEFAULT_RUNS, Runs, SkipMissing

FORMATS = ("csv", "json", "latex", "markdown")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("evaluate")(command)


def command(
    images: Annotated[
        list[Path], typer.Option("--images", help="A directory, a zip file or an .npz of images; repeatable.")
    ],
    dataset: Annotated[str, typer.Option(help="The data set: a name, or '{name = \"…\", size = 16}'.")],
    metrics: Annotated[
        list[str], typer.Option("--metrics", metavar="NAME,…", help="Metrics as in a suite; repeatable.")
    ],
    extractor: Annotated[
        list[str] | None, typer.Option("--extractor", help="A name or a table; repeatable. Default: as in a suite.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="dataset.… or evaluation.…, such as dataset.size=16."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Images of each set, the first ones; left out: as many as the smallest has."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="Print csv, json, markdown or latex instead.")] = None,
    jobs: Annotated[
        str, typer.Option(help="Worker processes: auto is one per visible GPU, else one per core.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    skip_missing: SkipMissing = False,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Measure images that somebody else generated against a data set: a row for each set, the floors below."""
    from ddpm_bench import evaluate
    from ddpm_bench.errors import UserError
    from ddpm_bench.toml import parse_value

    if format not in (None, *FORMATS):
        raise UserError(f"--format {format}: unknown; known: {', '.join(FORMATS)}")

    def value(flag: str, text: str) -> object:
        try:
            return parse_value(text)
        except ValueError as problem:
            raise UserError(f"{flag}: {problem}") from None

    done = evaluate(
        images,
        value("--dataset", dataset),
        [name.strip() for text in metrics for name in text.split(",") if name.strip()],
        extractors=[value("--extractor", text) for text in extractor or ()],
        overrides=tuple(overrides or ()), samples=samples, runs=runs, jobs=jobs, device=device,
        skip_missing=skip_missing, notify=lambda text: print(text, file=sys.stderr),
    )  # fmt: skip
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    _show(runs, done.folder, done.names, format)
    for reason in done.failed:
        print(f"failed: {reason}", file=sys.stderr)
    if done.failed:
        raise typer.Exit(FAILED)


def _show(runs: Path, folder: Path, names: list[str], format: str | None) -> None:
    """The table of the named results, or results.json; on the terminal with where these lie."""
    from rich.console import Console

    from ddpm_bench.cli._results_table import print_results
    from ddpm_bench.report.export import to_csv, to_latex, to_markdown
    from ddpm_bench.report.source import ResultsView
    from ddpm_bench.report.table import make_table
    from ddpm_bench.report.words import symbols

    if format == "json":
        print((folder / "results.json").read_text(encoding="utf-8"), end="")
        return
    view = ResultsView(runs, "evaluate", folder)
    with symbols(view.data["symbols"]):
        table = make_table(view, names)
        if format is not None:
            print({"csv": to_csv, "latex": to_latex, "markdown": to_markdown}[format](table), end="")
            return
    print_results(view, Console(highlight=False), table)
    print(f"results  {folder / 'results.json'}")
