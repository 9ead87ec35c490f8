"""`ddpm-bench data`: the local data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ddpm_bench.datasets import Dataset

Name = Annotated[str, typer.Argument(help="A data set: `ddpm-bench list datasets`.")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    data = typer.Typer(help="Local data sets.", no_args_is_help=True)
    data.command("list")(list_all)
    data.command("fetch")(fetch)
    data.command("verify")(verify)
    app.add_typer(data, name="data")


def list_all() -> None:
    """Every data set: its images, where it comes from, its licence, and where it was found or what is missing."""
    from ddpm_bench import registry
    from ddpm_bench.cli._parameters import required
    from ddpm_bench.datasets import _local, data_root

    print(f"looked for in {data_root()} (DDPM_BENCH_DATA)")
    for name in registry.names("datasets"):
        entry = registry.get("datasets", name)
        lines = [_local.provenance(entry.published)] if required(entry) else _local.describe(entry(), data_root())
        print("\n".join(f"{name if not i else '':14} {line}" for i, line in enumerate(lines)))


def fetch(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Download without asking.")] = False,
) -> None:
    """Download a published data set after saying how large it is and where it goes: checked, all of it or nothing."""
    from ddpm_bench import registry
    from ddpm_bench.datasets import _local, data_root
    from ddpm_bench.errors import UserError

    entry, root = registry.get("datasets", name), data_root()
    about = entry.published
    if about.downloader is None:
        raise UserError(f"{name}: nothing to fetch, it comes from {about.origin}")
    dataset: Dataset = entry()
    try:
        there = dataset.sources(root)
    except UserError:
        there = []
    if there:
        print(f"{name} is there already: {there[0].parent}; `ddpm-bench data verify {name}` checks it")
        return
    print(f"{name} {_local.provenance(about)}")
    print(f"to {root / about.folder}")
    if not yes:
        try:
            agreed = typer.confirm("Download it?")
        except typer.Abort:
            raise UserError(f"{name}: no answer, nothing was downloaded; --yes downloads without asking") from None
        if not agreed:
            print("nothing was downloaded")
            return
    print(f"{name} is in {_local.fetch(dataset, root)}")


def verify(
    name: Name,
    parameters: Annotated[
        list[str] | None, typer.Option("--set", metavar="PARAMETER=VALUE", help="A parameter of it; repeatable.")
    ] = None,
) -> None:
    """Check the files of a data set: their MD5 where it is published, and that every image can be decoded."""
    from ddpm_bench import registry
    from ddpm_bench.cli._parameters import make, parse, required
    from ddpm_bench.datasets import _local, data_root
    from ddpm_bench.errors import UserError

    entry, given = registry.get("datasets", name), parse(parameters or [])
    missing = [f"--set {parameter}=VALUE" for parameter in required(entry) if parameter not in given]
    if missing:
        raise UserError(f"{name}: say which: {' '.join(missing)}")
    dataset = make(entry, given)
    for line in _local.verify(dataset, data_root()):
        print(line)
    print(f"{name} is sound")
