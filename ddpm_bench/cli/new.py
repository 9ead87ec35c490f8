"""`ddpm-bench new`: a commented suite to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("new")(command)


def command(
    name: Annotated[str, typer.Argument(help="The name of the suite; the file is NAME.toml.")],
    dataset: Annotated[str, typer.Option(help="A data set: a name, or '{name = \"…\", size = 32}'.")] = "digits",
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the file is written.")] = Path("."),
) -> None:
    """Write a commented suite to start from; nothing is overwritten."""
    from ddpm_bench._suite_parts import SAFE_NAME
    from ddpm_bench.cli._starting_suite import suite_text
    from ddpm_bench.errors import UserError

    if not SAFE_NAME.fullmatch(name):
        raise UserError(f'"{name}" cannot name a suite: letters, digits and ._- only, not beginning with . or -')
    if not to.is_dir():
        raise UserError(f"--to {to}: no such folder")
    file = to / f"{name}.toml"
    if file.exists():
        raise UserError(f"{file} exists already, and nothing is overwritten; choose another name")
    text, missing = suite_text(name, dataset)
    file.write_text(text, encoding="utf-8")
    print(f"wrote    {file}")
    if missing:
        print(f"data     {missing}")
    print(f"next     `ddpm-bench plan {file}` says what it would do and what that costs;")
    print(f"         `ddpm-bench run {file}` does it")
