"""`ddpm-bench show`: documentation, parameters, curve and source of one entry."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

CURVED = ("schedules", "weightings")
"""Axes whose entries are drawn."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("show")(command)


def command(
    axis: Annotated[str, typer.Argument(help="An axis: its directory (schedules) or its key (schedule).")],
    name: Annotated[str, typer.Argument(help="A registered name.")],
    timesteps: Annotated[
        int | None, typer.Option(min=1, help="Draw a schedule at this T.", show_default="1000")
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PARAMETER=VALUE", help="Draw it with this parameter; repeatable."),
    ] = None,
) -> None:
    """The documentation, parameters and source of one entry; schedules and weightings with their curve."""
    import inspect

    from ddpm_bench import registry
    from ddpm_bench.errors import UserError

    entry, directory = registry.get(axis, name), registry.axis_of(axis).directory
    if timesteps is not None and directory != "schedules":
        raise UserError(f"--timesteps {timesteps}: for schedules only")
    if parameters and directory not in CURVED:
        raise UserError(f"--set {parameters[0]}: for what is drawn only: {', '.join(CURVED)}")
    curve: list[str] = []
    if directory in CURVED:
        from ddpm_bench.cli import _curves

        curve = _curves.curve(entry, timesteps, parameters or [])
    print(f"{registry.axis_of(axis).key} {name}\n")
    print(inspect.cleandoc(entry.__doc__))
    if dataclasses.is_dataclass(entry) and dataclasses.fields(entry):
        print("\nParameters")
        documents = registry.field_documents(entry)  # type: ignore[arg-type]
        for field in dataclasses.fields(entry):
            default = "required" if field.default is dataclasses.MISSING else repr(field.default)
            if field.default_factory is not dataclasses.MISSING:
                made = field.default_factory()
                default = getattr(made, "name", None) or repr(made)
            print(f"  {field.name}: {field.type} = {default}")
            if documents.get(field.name):
                print(f"      {documents[field.name]}")
    if curve:
        print("\n" + "\n".join(curve))
    source = inspect.getsourcefile(entry)
    print(f"\nSource  {source}\n")
    print(inspect.getsource(entry), end="")
