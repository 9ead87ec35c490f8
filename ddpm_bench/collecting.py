"""Collecting: what the store and the logs hold for the cells of a plan, as the content of results.json.

Reads and computes nothing, and needs no torch. `records.py` writes the result to files.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddpm_bench.environment import environment
from ddpm_bench.store import Artifact, Store, alive

SCHEMA = 1


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
            "symbols": plan["symbols"],
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
            "variant": cell["variant"],
            "status": status, "reason": reason, "train_key": cell.get("train"),
            "shares_training_with": [i for i in self._sharing.get(cell.get("train", ""), []) if i != cell["id"]],
            "artifacts": self._artifacts(cell), "log": None, "training": None,
            "network_calls": None, "fit": None, "gallery": None, "landscape": None, "metrics": {},
            "tables": {}, "timings": {},
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
            record["network_calls"] = self._network_calls(cell)
            record["fit"] = self._fit(cell)
            record["gallery"] = self._gallery(cell)
            record["landscape"] = self._landscape(cell)
            record["timings"]["sample_seconds"] = sum(c.manifest["timings"]["seconds"] for c in chunks if c) or None
        record["metrics"] = self.metrics(cell, status, reason)
        record["tables"] = self.tables(cell)
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
        scores = [*(key for keys in cell["score"].values() for key in keys), *cell["fit"]]
        likelihoods, quality = cell["likelihood"].values(), cell["quality"].values()
        wanted = [cell["train"], *scores, *likelihoods, *cell["samples"], *cell["features"], *quality]
        wanted += [*([cell["gallery"]] if cell.get("gallery") else []), *cell.get("nearest", {}).values()]
        wanted += [cell[stage] for stage in ("forward", "landscape") if cell.get(stage)]
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
            "gallery": place("gallery", cell["gallery"]) if cell.get("gallery") else None,
            "nearest": {
                space: found for space, key in cell.get("nearest", {}).items() if (found := place("nearest", key))
            },
            "forward": place("forward", cell["forward"]) if cell.get("forward") else None,
            "landscape": place("landscape", cell["landscape"]) if cell.get("landscape") else None,
        }

    def _fit(self, cell: dict[str, Any]) -> dict[str, Any] | None:
        """What the cell's σ² was fitted to, {"split": …, "num_images": …}; None where it is not fitted, or not yet."""
        fits = [key for key in cell["fit"] if self.plan["tasks"][key]["stage"] == "fit"]
        artifact = self.artifact("fit", fits[0]) if fits else None
        return artifact.manifest["info"] if artifact else None

    def _gallery(self, cell: dict[str, Any]) -> dict[str, Any] | None:
        """What its pictures are of ({"network_calls": …, "timesteps": [the t of x̂_0]}; None as long as they are not
        made), and "nearest": how often samples are nearer to training images than held-out ones, by space."""
        made = self.artifact("gallery", cell["gallery"]) if cell.get("gallery") else None
        searched = {space: self.artifact("nearest", key) for space, key in cell.get("nearest", {}).items()}
        nearest = {
            space: json.loads((artifact.path / "nearer.json").read_text(encoding="utf-8"))
            for space, artifact in searched.items() if artifact
        }  # fmt: skip
        if made is None and not nearest:
            return None
        info = made.manifest["info"] if made else {"network_calls": 0, "timesteps": []}
        return {"network_calls": info["network_calls"], "timesteps": info["timesteps"], "nearest": nearest}

    def _landscape(self, cell: dict[str, Any]) -> dict[str, Any] | None:
        """Around the path of its training: what was measured, and the shares of the variance that two components hold,
        of the path (`share`) and of random walks (`null`, `null_averaged`)."""
        made = self.artifact("landscape", cell["landscape"]) if cell.get("landscape") else None
        if made is None:
            return None
        found = json.loads((made.path / "landscape.json").read_text(encoding="utf-8"))
        of = {"share": "shares", "null": "null", "null_averaged": "null_averaged"}
        kept = {name: found[name] for name in ("steps", "weights", "split", "images", "draws_per_image")}
        shares = {name: sum(found[key][:2]) if found[key] else None for name, key in of.items()}
        return {**kept, **shares, "network_calls": made.manifest["info"]["network_calls"]}

    def _network_calls(self, cell: dict[str, Any]) -> dict[str, int]:
        """Calls of the network behind the cell's likelihood (fits included) and its samples, as far as they are made;
        cells that share them count them each."""
        scores = [*(key for keys in cell["score"].values() for key in keys), *cell["fit"]]
        found = {"likelihood": scores, "sample": cell["samples"]}
        return {
            name: sum(
                artifact.manifest.get("info", {}).get("network_calls", 0)
                for key in keys
                if (artifact := self.artifact(self.plan["tasks"][key]["stage"], key))
            )
            for name, keys in found.items()
        }

    def metrics(self, cell: dict[str, Any], status: str, reason: str | None) -> dict[str, Any]:
        """Result name → record of a cell in this status, those that have no value with their reason."""
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
                found |= {name + suffix: estimate for suffix, estimate in self._of_part(name, artifact).items()}
        expected = self.plan["metrics"]
        why = {"diverged": f"diverged: {reason}", "failed": reason}.get(status, "not computed yet")

        def reason_of(name: str) -> str:
            if cell["no_bound"] and name.startswith("bits_per_dim"):
                return str(cell["no_bound"])
            return str(self.plan["not_computed"].get(name, why))

        missing = {
            name: {
                "value": None, "stderr": None, "num_samples": 0, **expected[name], "protocol": {},
                "reason": reason_of(name),
            }
            for name in expected if name not in found
        }  # fmt: skip
        order = [*expected, *found]
        everything = {**found, **missing}
        if not any(name.startswith("bits_per_dim") for name in expected):
            order = [name for name in order if not name.startswith("bits_per_dim")]
        return {name: everything[name] for name in dict.fromkeys(order)}

    def _of_part(self, name: str, artifact: Artifact) -> dict[str, Any]:
        """Suffix → estimate of the result of this name: a metric such as precision and recall has several."""
        part = self.plan.get("parts", {}).get(name, "")
        found = estimates(artifact)
        return {key.removeprefix(part): estimate for key, estimate in found.items() if key.startswith(part)}

    def tables(self, cell: dict[str, Any]) -> dict[str, Any]:
        """Result name → the tables that the metric leaves beside its values, where it leaves any."""
        found = {}
        for name, key in cell["quality"].items():
            artifact = self.artifact("quality", key)
            if artifact and (artifact.path / "tables.json").is_file():
                found[name] = json.loads((artifact.path / "tables.json").read_text(encoding="utf-8"))
        return found

    def baselines(self) -> Iterator[dict[str, Any]]:
        """Codes, floors and uniform noise, with the companions of their metrics."""
        for baseline in self.plan["baselines"]:
            artifact = self.artifact(baseline["stage"], baseline["key"])
            if artifact is None:
                continue
            if baseline["name"] is None:
                for name, estimate in estimates(artifact).items():
                    yield {"name": name, "metric": baseline["metric"], **estimate}
                continue
            for suffix, estimate in self._of_part(baseline["metric"], artifact).items():
                if suffix and estimate["value"] is None:
                    continue  # a companion that does not exist here; cells say why
                yield {"name": baseline["name"], "metric": baseline["metric"] + suffix, **estimate}

    def timesteps(self, split: str) -> Iterator[list[str]]:
        """The rows of timestep_kl.csv of a split, as text: the numbers stay as the likelihood stage wrote them."""
        for cell in self.plan["cells"]:
            key = cell.get("likelihood", {}).get(split)
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
