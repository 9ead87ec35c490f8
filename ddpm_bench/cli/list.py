"""`ddpm-bench list`: what is registered. Prints from directories and entry points, without importing the entries."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("list")(command)


def command(
    axis: Annotated[
        str | None, typer.Argument(help="An axis: its directory (schedules) or its key (schedule).")
    ] = None,
) -> None:
    """The registered names of an axis, or of all."""
    from ddpm_bench import registry

    axes = [registry.axis_of(axis)] if axis else list(registry.AXES.values())
    width = max(len(item.directory) for item in axes)
    for item in axes:
        print(f"{item.directory:{width}}  {', '.join(registry.names(item.directory)) or '–'}")
