"""What several commands need: finding a suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_bench.errors import UserError

if TYPE_CHECKING:
    from ddpm_bench.suite import Suite


def load(suite: str, runs: Path, overrides: list[str] | None, only: list[str] | None, name: str | None) -> Suite:
    """The suite of a file; or a suite run before, by its name, with the overrides it was run with (further ones come
    after them). Raises UserError."""
    from ddpm_bench import load_suite
    from ddpm_bench.records import read_plan

    path = Path(suite)
    if not path.is_file() and not suite.endswith(".toml"):
        known = runs / "suites" / suite / "plan.json"
        if not known.is_file():
            files = [file for file in (Path(f"{suite}.toml"), Path("suites") / f"{suite}.toml") if file.is_file()]
            hint = f"; did you mean {files[0]}?" if files else ""
            raise UserError(f'no suite file "{suite}", and no suite of that name under {runs}{hint}')
        plan = read_plan(runs, suite)
        path, name = Path(plan["path"]), name or plan["suite"]
        overrides = [*(item for item in plan["overrides"] if not item.startswith("--only")), *(overrides or [])]
    if not path.is_file():
        raise UserError(f"{path}: no such suite file")
    return load_suite(path, overrides=tuple(overrides or ()), only=tuple(only or ()), name=name)


def suite_name(suite: str | None, runs: Path) -> str:
    """The name of a suite run before, from its name or its file; by default the one that ran last. Raises UserError."""
    if suite is None:
        found = sorted((runs / "suites").glob("*/plan.json"), key=lambda file: file.stat().st_mtime)
        if not found:
            raise UserError(f"nothing has been run under {runs}; start with `ddpm-bench run SUITE`")
        return found[-1].parent.name
    name = name_of(suite, runs)
    if name == suite and not (runs / "suites" / suite / "plan.json").is_file():
        from ddpm_bench.records import read_plan

        read_plan(runs, suite)
    return name


def name_of(suite: str, runs: Path) -> str:
    """The name of a suite that is given by it, or by its file."""
    if (runs / "suites" / suite / "plan.json").is_file() or not Path(suite).is_file():
        return suite
    return load(suite, runs, None, None, None).name
