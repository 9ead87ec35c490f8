"""`ddpm-bench list`: what is registered. Prints from directories and entry points, without importing the entries."""

from __future__ import annotations

from pathlib import Path
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
    """The registered names of all axes; of one axis, what each of its entries is."""
    from ddpm_bench import registry

    if axis is None:
        width = max(len(directory) for directory in registry.AXES)
        for directory in registry.AXES:
            print(f"{directory:{width}}  {', '.join(registry.names(directory)) or '–'}")
        return
    found = {name: _first_line(registry.origin(axis, name)) for name in registry.names(axis)}
    width = max(map(len, found), default=0)
    for name, line in found.items():
        print(f"{name:{width}}  {line}".rstrip())


def _first_line(origin: str) -> str:
    """What an entry says of itself, read from its file; empty where that is not found."""
    import ast
    from importlib.util import find_spec

    module, _, thing = origin.partition(":")
    top, *rest = module.split(".")
    spec = find_spec(top)  # of the top-level module alone: imports nothing
    if spec is None or spec.origin is None:
        return ""
    folder = Path(spec.origin).parent
    file = folder.joinpath(*rest).with_suffix(".py") if rest else Path(spec.origin)
    for node in ast.parse(file.read_bytes()).body if file.is_file() else []:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            decorators = {ast.unparse(item).rpartition(".")[2] for item in node.decorator_list}
            if node.name == thing if thing else "register" in decorators:
                return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""
