"""`ddpm-bench weights`: the weight files of feature extractors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    weights = typer.Typer(help="Weight files of feature extractors.", no_args_is_help=True)
    weights.command("import")(import_file)
    weights.command("list")(list_files)
    app.add_typer(weights, name="weights")


def import_file(file: Annotated[Path, typer.Argument(help="The file of the published Inception weights.")]) -> None:
    """Verify the published Inception weights by their SHA-256 and copy them to where they are looked for."""
    from ddpm_bench.extractors.inception import import_weights

    print(import_weights(file))


def list_files() -> None:
    """Every extractor, its weight file, or what is missing."""
    from ddpm_bench import registry
    from ddpm_bench.errors import UserError

    for name in registry.names("extractors"):
        extractor = registry.get("extractors", name)()
        try:
            print(f"{name:20} {extractor.digest()[:16]}  {extractor.weights()}")
        except UserError as problem:
            print(f"{name:20} {str(problem).removeprefix(f'extractor {name}: ')}")
