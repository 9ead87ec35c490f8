"""What several commands need: finding a suite, printing a results table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from ddpm_bench.suite import Suite


def load(suite: str, runs: Path, overrides: list[str] | None, only: list[str] | None, name: str | None) -> Suite:
    """The suite of a file, or of the file that a suite run before came from. Raises UserError."""
    from ddpm_bench import load_suite

    path = Path(suite)
    if not path.is_file() and not suite.endswith(".toml"):
        known = runs / "suites" / suite / "plan.json"
        if not known.is_file():
            raise UserError(f'no suite file "{suite}", and no suite of that name under {runs}')
        path = Path(json.loads(known.read_text(encoding="utf-8"))["path"])
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
    if (runs / "suites" / suite / "plan.json").is_file():
        return suite
    if Path(suite).is_file():
        return load(suite, runs, None, None, None).name
    from ddpm_bench.records import read_plan

    read_plan(runs, suite)
    return suite


def headline(results: dict[str, Any]) -> list[str]:
    """The metrics of a short table: the parts and companions of others are left out."""
    names = list(dict.fromkeys(name for cell in results["cells"] for name in cell["metrics"]))
    return [name for name in names if not any(name != other and name.startswith(f"{other}_") for other in names)]


def print_table(results: dict[str, Any], console: Console) -> None:
    """The results table of a run: a row a cell, then the baselines."""
    from rich.table import Table

    names = headline(results)
    units = {name: m["unit"] for cell in results["cells"] for name, m in cell["metrics"].items()}
    table = Table(title=results["title"], title_justify="left", title_style="bold")
    table.add_column("variant")
    for name in names:
        table.add_column(f"{name}\n{units.get(name) or ''}".strip(), justify="right")
    table.add_column("status")
    seeds = len({cell["seed"] for cell in results["cells"]}) > 1
    for cell in results["cells"]:
        values = [_value(cell["metrics"].get(name)) for name in names]
        reason = f": {cell['reason']}" if cell["reason"] and cell["status"] != "running" else ""
        label = f"{cell['label']}, seed {cell['seed']}" if seeds else cell["label"]
        table.add_row(label, *values, f"{cell['status']}{reason}")
    rows = {name: {} for name in dict.fromkeys(b["name"] for b in results["baselines"])}  # type: ignore[var-annotated]
    for baseline in results["baselines"]:
        rows[baseline["name"]][baseline["metric"]] = baseline
    table.add_section()
    for name, found in rows.items():
        if any(metric in names for metric in found):
            table.add_row(f"[dim]{name}[/dim]", *(_value(found.get(metric)) for metric in names), "")
    console.print(table)


def _value(metric: dict[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return "–"
    value, error = metric["value"], metric["stderr"]
    return f"{value:.4g}" if error is None else f"{value:.3f} ± {error:.3f}"
