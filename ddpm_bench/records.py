"""Results: what the store holds for the cells of a suite, as results.json, results.csv and timestep_kl.csv.

`collect` reads plan.json and the store and computes nothing; it needs no torch. results.json is the truth that the
report and MLflow are made from.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_bench.environment import environment
from ddpm_bench.errors import UserError, suggestion
from ddpm_bench.store import Artifact, Store, write_json, write_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SCHEMA = 1
VOLATILE = ("created", "environment", "timings")
"""Entries of results.json (top level and in cells) that may differ between two runs of the same suite."""
TIDY = ("status", "reason", "train_key", "metric", "value", "stderr", "num_samples", "unit", "higher_is_better",
        "extractor", "n_generated", "n_reference", "reference_split")  # fmt: skip
TIMESTEP_COLUMNS = ("cell_id", "seed", "t", "kl", "stderr", "kl_variance", "kl_mean", "epsilon_mse", "x0_mse")


def suite_folder(runs: Path, suite: str) -> Path:
    """Where the results of a suite lie."""
    return runs / "suites" / suite


def read_plan(runs: Path, suite: str) -> dict[str, Any]:
    """plan.json of a suite. Raises UserError when there is none."""
    file = suite_folder(runs, suite) / "plan.json"
    if not file.is_file():
        known = sorted(path.parent.name for path in (runs / "suites").glob("*/plan.json"))
        hint = suggestion(suite, known) if known else "; nothing has been run there yet"
        raise UserError(f'no suite "{suite}" under {runs}{hint}')
    plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return plan


class Collector:
    """Puts the cells of a plan together with what the store and the logs hold."""

    def __init__(self, runs: Path, plan: dict[str, Any]):
        self.runs, self.plan, self.store = runs, plan, Store(runs / "store")
        self._sharing: dict[str, list[str]] = {}
        for cell in plan["cells"]:
            if "train" in cell:
                self._sharing.setdefault(cell["train"], []).append(cell["id"])

    def artifact(self, stage: str, key: str) -> Artifact | None:
        """The finished artifact, or None."""
        return self.store.get(stage, key) if self.store.has(stage, key) else None

    def collect(self) -> dict[str, Any]:
        """results.json without `created`."""
        plan = self.plan
        data = self.artifact("data", plan["data"])
        return {
            "schema": SCHEMA,
            "suite": plan["suite"],
            "title": plan["title"],
            "environment": environment(),
            "axes": plan["axes"],
            "configuration": plan["configuration"],
            "overrides": plan["overrides"],
            "notes": plan["notes"],
            "data": data.manifest["info"] if data else None,
            "cells": [self.cell(cell) for cell in plan["cells"]],
            "claims": [],
            "baselines": list(self.baselines()),
            "references": plan["references"],
            "timings": {},
        }

    def cell(self, cell: dict[str, Any]) -> dict[str, Any]:
        """The record of one cell."""
        status, reason = self.status(cell)
        record = {
            "id": cell["id"], "label": cell["label"], "axes": cell["axes"], "seed": cell["seed"],
            "status": status, "reason": reason, "train_key": cell.get("train"),
            "shares_training_with": [i for i in self._sharing.get(cell.get("train", ""), []) if i != cell["id"]],
            "artifacts": self._artifacts(cell), "log": None, "training": None, "metrics": {}, "timings": {},
        }  # fmt: skip
        if status == "illegal":
            return record
        record["log"] = f"logs/train/{cell['train']}.jsonl"
        train = self.artifact("train", cell["train"])
        if train:
            info = train.manifest["info"]
            record["training"] = {
                "num_parameters": info["num_parameters"], "steps": cell["steps"],
                "num_train_images": info["num_train_images"], "clipped_share": info["clipped_share"],
                "divergence": train.outcome,
            }  # fmt: skip
            timings = train.manifest["timings"]
            record["timings"] = {name: timings.get(name) for name in ("train_seconds", "images_per_second")}
            chunks = [self.artifact("sample", key) for key in cell["samples"]]
            record["timings"]["sample_seconds"] = sum(c.manifest["timings"]["seconds"] for c in chunks if c) or None
        record["metrics"] = self._metrics(cell, status, reason)
        return record

    def status(self, cell: dict[str, Any]) -> tuple[str, str | None]:
        """(status, reason) of a cell."""
        if cell["reason"] is not None:
            return "illegal", cell["reason"]
        train = self.artifact("train", cell["train"])
        if train and train.outcome:
            end = train.outcome
            return "diverged", f"loss {end['loss']} at step {end['step']}, t = {end['t']}"
        tasks = list(self.tasks(cell))
        for stage, key in tasks:
            failure = self.runs / "logs" / stage / f"{key}.failed.json"
            if failure.is_file() and not self.store.has(stage, key):
                return "failed", f"{stage}: {json.loads(failure.read_text(encoding='utf-8'))['reason']}"
        if all(self.store.has(stage, key) for stage, key in tasks):
            return "done", None
        running = [stage for stage, key in tasks if self._is_running(stage, key)]
        return ("running", running[0]) if running else ("waiting", None)

    def tasks(self, cell: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """(stage, key) of every task of a cell, the data and the reference features included."""
        scores = [key for keys in cell["score"].values() for key in keys]
        likelihoods, quality = cell["likelihood"].values(), cell["quality"].values()
        wanted = [cell["train"], *scores, *likelihoods, *cell["samples"], *cell["features"], *quality]
        seen: dict[str, None] = {}
        for key in wanted:
            for place in self.plan["tasks"][key]["inputs"].values():
                pairs = place if isinstance(place[0], list) else [place]
                seen.update(dict.fromkeys(pair[1] for pair in pairs))
            seen[key] = None
        for key in seen:
            yield self.plan["tasks"][key]["stage"], key

    def _is_running(self, stage: str, key: str) -> bool:
        if self.store.has(stage, key):
            return False
        last = last_event(self.runs / "logs" / stage / f"{key}.jsonl")
        return bool(last) and last["event"] not in ("failed", "done", "died") and alive(last["pid"])  # type: ignore[index]

    def _artifacts(self, cell: dict[str, Any]) -> dict[str, Any]:
        if "train" not in cell:
            return {}

        def place(stage: str, key: str) -> str | None:
            return f"store/{stage}/{key}" if self.store.has(stage, key) else None

        return {
            "train": place("train", cell["train"]),
            "likelihood": {split: place("likelihood", key) for split, key in cell["likelihood"].items()},
            "samples": [found for key in cell["samples"] if (found := place("sample", key))],
        }

    def _metrics(self, cell: dict[str, Any], status: str, reason: str | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for split, key in cell["likelihood"].items():
            artifact = self.artifact("likelihood", key)
            if artifact:
                suffix = "" if split == "test" else f"_{split}"
                for part, estimate in estimates(artifact).items():
                    found[f"bits_per_dim{part}{suffix}"] = estimate
        for name, key in cell["quality"].items():
            artifact = self.artifact("quality", key)
            if artifact:
                for part, estimate in estimates(artifact).items():
                    found[f"{name}{part}"] = estimate
        expected = self.plan["metrics"]
        why = {"diverged": f"diverged: {reason}", "failed": reason}.get(status, "not computed yet")
        missing = {
            name: {
                "value": None, "stderr": None, "num_samples": 0, **expected[name], "protocol": {},
                "reason": self.plan["not_computed"].get(name, why),
            }
            for name in expected if name not in found
        }  # fmt: skip
        order = [*expected, *found]
        everything = {**found, **missing}
        if not any(name.startswith("bits_per_dim") for name in expected):
            order = [name for name in order if not name.startswith("bits_per_dim")]
        return {name: everything[name] for name in dict.fromkeys(order)}

    def baselines(self) -> Iterator[dict[str, Any]]:
        """Codes, floors and uniform noise."""
        for baseline in self.plan["baselines"]:
            artifact = self.artifact(baseline["stage"], baseline["key"])
            if artifact is None:
                continue
            for name, estimate in estimates(artifact).items():
                if baseline["name"] is None:
                    yield {"name": name, "metric": baseline["metric"], **estimate}
                elif not name:
                    yield {"name": baseline["name"], "metric": baseline["metric"], **estimate}

    def timesteps(self) -> Iterator[list[str]]:
        """The rows of timestep_kl.csv, as text: the numbers stay as the likelihood stage wrote them."""
        for cell in self.plan["cells"]:
            key = cell.get("likelihood", {}).get("test")
            artifact = self.artifact("likelihood", key) if key else None
            if artifact:
                rows = csv.reader(io.StringIO((artifact.path / "timesteps.csv").read_text(encoding="utf-8")))
                next(rows)
                for row in rows:
                    yield [cell["id"], str(cell["seed"]), *row]


def estimates(artifact: Artifact) -> dict[str, Any]:
    """estimates.json of an artifact."""
    found: dict[str, Any] = json.loads((artifact.path / "estimates.json").read_text(encoding="utf-8"))
    return found


def last_event(file: Path) -> dict[str, Any] | None:
    """The last whole line of a log, or None. Reads the end of the file alone."""
    if not file.is_file():
        return None
    with open(file, "rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - 8192))
        lines = [
            line for line in stream.read().decode("utf-8", "replace").splitlines(keepends=True) if line.endswith("\n")
        ]
    if not lines:
        return None
    try:
        event: dict[str, Any] = json.loads(lines[-1])
    except json.JSONDecodeError:  # a single line longer than what was read: a traceback
        return {"event": "failed", "pid": 0}
    return event


def alive(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def stable(results: dict[str, Any]) -> dict[str, Any]:
    """results.json without what may differ between two equal runs."""
    kept = {name: value for name, value in results.items() if name not in VOLATILE}
    kept["cells"] = [{k: v for k, v in cell.items() if k not in VOLATILE} for cell in results["cells"]]
    return kept


def update(runs: Path, suite: str, total_seconds: float | None = None) -> bool:
    """Bring results.json, results.csv and timestep_kl.csv to the state of the store; False if nothing had changed.

    total_seconds: how long the run that ends here took; given, it is written even if nothing else had changed.
    """
    folder = suite_folder(runs, suite)
    plan = read_plan(runs, suite)
    collector = Collector(runs, plan)
    found = collector.collect()
    file = folder / "results.json"
    if file.is_file():
        old = json.loads(file.read_text(encoding="utf-8"))
        same = old.get("schema") == SCHEMA and stable(old) == stable(found)
        if same and total_seconds is None:
            return False
    found["timings"] = {"total_seconds": total_seconds}
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    write_json(file, {"schema": SCHEMA, "suite": found["suite"], "title": found["title"], "created": created, **found})
    write_text(folder / "results.csv", _csv(*_tidy(found)))
    if "timestep_kl" in plan["configuration"]["evaluation"]["metrics"]:
        write_text(folder / "timestep_kl.csv", _csv(list(TIMESTEP_COLUMNS), list(collector.timesteps())))
    return True


def _csv(header: list[str], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    return text.getvalue()


def _tidy(results: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """results.csv: one row per cell and metric."""
    axes = results["axes"]
    rows = []
    for cell in results["cells"]:
        head = [results["suite"], cell["id"], cell["label"], cell["seed"], *(cell["axes"].get(axis) for axis in axes)]
        for name, metric in cell["metrics"].items() or [(None, {})]:
            protocol = metric.get("protocol", {})
            reason = metric.get("reason") or cell["reason"]
            middle = [cell["status"], reason, cell["train_key"], name]
            values = [metric.get(key) for key in ("value", "stderr", "num_samples", "unit", "higher_is_better")]
            rows.append([*head, *middle, *values, *(protocol.get(key) for key in TIDY[-4:])])
    return ["suite", "cell_id", "label", "seed", *axes, *TIDY], rows


@dataclass(frozen=True)
class ResultCell:
    """One cell of a suite's results."""

    runs: Path
    record: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        record: dict[str, Any] = object.__getattribute__(self, "record")
        if name in record:
            return record[name]
        raise AttributeError(f"a cell has no {name!r}; it has {', '.join(record)}, samples(), model(), process, log()")

    def _train(self) -> Artifact:
        place = self.record["artifacts"].get("train")
        if place is None:
            raise UserError(f"cell {self.record['id']} has no training yet (status {self.record['status']})")
        return Artifact(self.runs / place)

    def samples(self) -> np.ndarray:
        """The generated images, uint8 levels [N, C, H, W], memory-mapped where one chunk holds them all."""
        import numpy as np

        places = self.record["artifacts"].get("samples", [])
        if not places:
            raise UserError(f"cell {self.record['id']} has no samples yet (status {self.record['status']})")
        chunks = [np.load(self.runs / place / "samples.npy", mmap_mode="r") for place in places]
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)

    def model(self, weights: str = "ema", device: str = "cpu") -> Any:
        """The trained network: model(x_t, t) → output, in evaluation mode; t is 0-based."""
        from ddpm_bench.stages._model import load_model

        return load_model(self._train().verify(), weights, device)

    @property
    def process(self) -> Any:
        """The forward process of the cell (`diffusion.process.Process`)."""
        from ddpm_bench.spec import rebuild_training

        training = rebuild_training(self._train().spec["training"])
        return training.schedule.process(training.timesteps)

    def log(self) -> list[dict[str, Any]]:
        """The events of the cell's training."""
        file = self.runs / self.record["log"]
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


class Results:
    """The results of a suite as they stand in results.json."""

    def __init__(self, runs: Path, suite: str):
        self.runs, self.suite, self.folder = runs, suite, suite_folder(runs, suite)
        file = self.folder / "results.json"
        if not file.is_file():
            read_plan(runs, suite)
            raise UserError(f'suite "{suite}" has no results yet under {runs}; run it first')
        self.data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if self.data.get("schema") != SCHEMA:
            raise UserError(f"{file}: schema {self.data.get('schema')} is not {SCHEMA}; run the suite again")

    @cached_property
    def cells(self) -> list[ResultCell]:
        """The cells, in the order of the suite."""
        return [ResultCell(self.runs, record) for record in self.data["cells"]]

    @property
    def claims(self) -> list[dict[str, Any]]:
        """The verdicts of the suite's claims."""
        claims: list[dict[str, Any]] = self.data["claims"]
        return claims

    @cached_property
    def table(self) -> pd.DataFrame:
        """The tidy table: one row per cell and metric."""
        import pandas as pd

        return pd.read_csv(self.folder / "results.csv")

    @cached_property
    def timestep_kl(self) -> pd.DataFrame:
        """KL and errors of every cell at every t = 1…T, bits/dim."""
        import pandas as pd

        return pd.read_csv(self.folder / "timestep_kl.csv")
