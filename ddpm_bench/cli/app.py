"""The application: every command registers itself in a file of its own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="ddpm-bench",
    help="Ask a question about denoising diffusion models in a TOML file; get an answer with error bars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Suite = Annotated[str, typer.Argument(help="A suite file, or the name of a suite run before.")]
Runs = Annotated[Path, typer.Option(envvar="DDPM_BENCH_RUNS", help="Where artifacts and results lie.")]
Reports = Annotated[Path, typer.Option(help="Where reports are written.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the suite; repeatable.")
]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="KEY=VALUE,…", help="Only the matching cells; repeatable.")
]
Name = Annotated[str | None, typer.Option("--name", help="File results and report under another name.")]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out metrics whose weights are missing instead of refusing.")
]

DEFAULT_RUNS = Path("runs")
DEFAULT_REPORTS = Path("reports")
COMMANDS = ("run", "plan", "report", "status", "logs", "list", "show", "ui", "track", "weights", "stage")

for _command in COMMANDS:
    importlib.import_module(f"ddpm_bench.cli.{_command}").add_to(app)
