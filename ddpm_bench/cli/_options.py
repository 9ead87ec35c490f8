"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
