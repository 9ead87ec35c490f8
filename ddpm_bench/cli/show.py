"""`ddpm-bench show`: documentation, parameters and source of one entry."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("show")(command)


def command(
    axis: Annotated[str, typer.Argument(help="An axis: its directory (schedules) or its key (schedule).")],
    name: Annotated[str, typer.Argument(help="A registered name.")],
) -> None:
    """The documentation, parameters and source of one entry."""
    import inspect

    from ddpm_bench import registry

    entry = registry.get(axis, name)
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
    source = inspect.getsourcefile(entry)
    print(f"\nSource  {source}\n")
    print(inspect.getsource(entry), end="")
