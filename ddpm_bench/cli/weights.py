"""`ddpm-bench weights`: the weight files of feature extractors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ddpm_bench.extractors import Extractor


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    weights = typer.Typer(help="Weight files of feature extractors.", no_args_is_help=True)
    weights.command("import")(import_file)
    weights.command("list")(list_files)
    app.add_typer(weights, name="weights")


def import_file(file: Annotated[Path, typer.Argument(help="A published weight file, under any name.")]) -> None:
    """Verify a published weight file by its SHA-256 and copy it to where its extractor looks for it."""
    from ddpm_bench.extractors._imported import import_weights
    from ddpm_bench.labels import value_label

    extractor, path = import_weights(file)
    print(f"{value_label(extractor)}: {path}")


def list_files() -> None:
    """Every extractor, the dimension of its features, and its weight file or where to get it."""
    from ddpm_bench.extractors import weights_root
    from ddpm_bench.labels import value_label

    rows = [(value_label(extractor), extractor.num_features, *_state(extractor)) for extractor in _extractors()]
    width = max(len(label) for label, *_ in rows)
    for label, num_features, digest, text in rows:
        print(f"{label:{width}}  {num_features:4}  {digest:16}  {text}")
    if any(digest == MISSING for *_, digest, _ in rows):
        print(f"missing: download the file, then `ddpm-bench weights import FILE` puts it in {weights_root()}")


MISSING = "missing"


def _extractors() -> Iterator[Extractor]:
    """Every extractor, those with several published weight files once for each."""
    from ddpm_bench import registry
    from ddpm_bench.extractors._imported import ImportedExtractor

    for name in registry.names("extractors"):
        cls = registry.get("extractors", name)
        yield from cls.configurations() if issubclass(cls, ImportedExtractor) else [cls()]


def _state(extractor: Extractor) -> tuple[str, str]:
    """(the start of the digest, the file), or (why there is none, what to do)."""
    from ddpm_bench.errors import UserError
    from ddpm_bench.extractors._imported import ImportedExtractor

    if isinstance(extractor, ImportedExtractor) and not extractor.published.path.is_file():
        return MISSING, extractor.published.url
    try:
        return extractor.digest()[:16], str(extractor.weights())
    except UserError as problem:
        return "wrong", str(problem).removeprefix(f"extractor {extractor.name}: ")
