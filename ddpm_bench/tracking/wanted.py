"""What MLflow has to hold of a suite: results and artifacts as the names, tags and numbers of runs."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm_bench.errors import UserError
from ddpm_bench.tracking import note

VERSION = 2
"""Raised when what `sync` writes for the same results changes: every run is then compared once more."""

SUITE, CELL, STATUS = "ddpm_bench.suite", "ddpm_bench.cell", "ddpm_bench.status"
TRAIN_KEY, SYNCED, STORE = "ddpm_bench.train_key", "ddpm_bench.synced", "ddpm_bench.store"

TABLES = ("dataset", "network", "diffusion", "training", "reverse", "evaluation")
"""The tables of a configuration that describe a cell; the others describe the suite."""

DOTTED = {name: f"diffusion.{name}" for name in ("timesteps", "prediction", "schedule", "loss")} | {
    name: f"reverse.{name}" for name in ("variance", "sampler", "sampling_steps", "thresholding")
}
"""The configuration key of every axis with a short name."""

CURVES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "gradient_norm": "train/gradient_norm",
    "validation_epsilon_mse": "validation/epsilon_mse",
    "validation_bits_per_dim": "validation/bits_per_dim",
}
"""The metric of every column of curves.csv."""
RUN_STATUS = {"waiting": "SCHEDULED", "running": "RUNNING", "failed": "FAILED", "illegal": "KILLED"}
"""MLflow's status of a cell; the other cells (done, diverged) are FINISHED. KILLED: it was never run."""

MAX_VALUE, MAX_TAG = 6000, 5000
"""MLflow's limits of a parameter and of a tag, in characters."""

Series = dict[int, float]
"""Step → value."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a run has to hold.

    artifacts: name → JSON value, file to copy, or the samples.npy of a grid; note: its description, and compared: the
    cells that the description links to, side by side; curve: the
    metric that their chart shows, if they have it.
    """

    name: str
    status: str
    tags: dict[str, str]
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Series] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    levels: int | None = None
    note: str = ""
    compared: tuple[str, ...] = ()
    curve: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all of it; files count with their content, samples (immutable in the store) with their path."""
        files = {name: _sha256(item) for name, item in self.artifacts.items() if isinstance(item, Path)}
        state = [
            VERSION, self.name, self.status, self.tags, self.parameters, self.metrics, self.artifacts | files,
            self.levels,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def states(runs: Path, suite: str, report: Path | None) -> tuple[State, dict[str, State]]:
    """The parent's and the cells' states from the files of results."""
    directory = runs / "suites" / suite
    if not (directory / "results.json").is_file():
        raise UserError(f"{directory / 'results.json'}: no results of this suite; run it first")
    results = json.loads((directory / "results.json").read_text(encoding="utf-8"))
    timesteps: dict[str, Series] = {}
    for row in _rows(directory / "timestep_kl.csv"):
        if (kl := _finite(row["kl"])) is not None:
            timesteps.setdefault(row["cell_id"], {})[int(row["t"])] = kl
    cells = {cell["id"]: _cell_state(results, cell, timesteps.get(cell["id"], {}), runs) for cell in results["cells"]}
    statuses = {state.status for state in cells.values()}
    files = {"results.csv": directory / "results.csv", "index.html": report}
    state = State(
        name=suite,
        # A cell still at work decides first, then one that failed, then one that has not begun.
        status=next((status for status in ("RUNNING", "FAILED", "SCHEDULED") if status in statuses), "FINISHED"),
        tags={SUITE: suite, "ddpm_bench.title": cut(results["title"], MAX_TAG)} | _source(results),
        artifacts={name: path for name, path in files.items() if path is not None and path.is_file()}
        | {"configuration.json": {"configuration": results["configuration"], "overrides": results["overrides"]}},
        note=note.body(results),
        compared=tuple(note.compared(results["cells"])),
        curve="eval/timestep_kl" if timesteps else None,
    )
    return state, cells


def _cell_state(results: dict[str, Any], cell: dict[str, Any], timestep_kl: Series, runs: Path) -> State:
    tags = {SUITE: results["suite"], CELL: cell["id"], STATUS: cell["status"]} | _source(results)
    if cell["train_key"]:
        tags[TRAIN_KEY] = cell["train_key"]
    if cell["reason"]:
        tags["ddpm_bench.reason"] = cut(cell["reason"], MAX_TAG)
    singles = {_metric_name(f"eval/{name}"): estimate["value"] for name, estimate in cell["metrics"].items()}
    singles["train/images_per_second"] = cell["timings"].get("images_per_second")
    metrics = {name: {0: float(value)} for name, value in singles.items() if _finite(value) is not None}
    if train := cell["artifacts"].get("train"):
        for row in _rows(runs / train / "curves.csv"):
            for column, name in CURVES.items():
                if (value := _finite(row.get(column))) is not None:
                    metrics.setdefault(name, {})[int(row["step"])] = value
    if timestep_kl:
        metrics["eval/timestep_kl"] = timestep_kl
    tables = {name: table for name, table in results["configuration"].items() if name in TABLES}
    resolved = {"suite": results["suite"], "axes": cell["axes"], "seed": cell["seed"], **tables}
    artifacts: dict[str, Any] = {"configuration.json": resolved, "cell.json": cell}
    for directory in cell["artifacts"].get("samples") or []:
        if (runs / directory / "samples.npy").is_file():
            artifacts["samples.png"] = f"{directory}/samples.npy"
            break
    several = len({other["seed"] for other in results["cells"]}) > 1
    return State(
        name=cell["label"] + (f", seed {cell['seed']}" if several else ""),
        status=RUN_STATUS.get(cell["status"], "FINISHED"),
        tags=tags,
        parameters=_parameters(tables, cell),
        metrics=metrics,
        artifacts=artifacts,
        levels=results["data"]["levels"] if results["data"] else None,
    )


def _parameters(tables: dict[str, Any], cell: dict[str, Any]) -> dict[str, str]:
    """The dotted keys of a cell's configuration; an axis stands at its key with the cell's label."""
    flat = _flatten(tables, "")
    for axis, label in cell["axes"].items():
        key = DOTTED.get(axis, axis)
        flat = {name: value for name, value in flat.items() if name != key and not name.startswith(f"{key}.")}
        flat[key] = label
    flat["seed"] = cell["seed"]
    texts = {key: item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for key, item in flat.items()}
    return {key: cut(text, MAX_VALUE) for key, text in sorted(texts.items())}


def _flatten(table: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _source(results: dict[str, Any]) -> dict[str, str]:
    """MLflow's own tags for where a run comes from."""
    commit = results["environment"].get("git")
    return {"mlflow.source.name": "ddpm-bench"} | ({"mlflow.source.git.commit": commit} if commit else {})


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, none without the file. Not pandas: its parser is one bit off in the last digit."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _finite(value: Any) -> float | None:
    """The number, or None for what is empty, null or not finite: MLflow would store it as 0 or 1.8e308."""
    number = math.nan if value in (None, "") else float(value)
    return number if math.isfinite(number) else None


def _metric_name(name: str) -> str:
    """The name with every character that MLflow refuses replaced."""
    return re.sub(r"[^\w./ :-]", "_", name)


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
