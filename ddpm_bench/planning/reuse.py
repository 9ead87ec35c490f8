"""Why a training is not reused: the fields in which it differs from the nearest one of the store."""

from __future__ import annotations

import json
import re
from typing import Any

from ddpm_bench.stages import Task
from ddpm_bench.store import Store

DIGEST = re.compile(r"[0-9a-f]{64}")


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """A nested JSON value as dotted path → leaf."""
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for name, item in value.items():
            found |= flatten(item, f"{path}.{name}" if path else name)
        return found
    return {path: value}


def differing(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """The leaves that differ."""
    return [name for name in {**there, **here} if there.get(name) != here.get(name)]


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """`field: there → here` for each leaf that differs; of an entry that became another one its name alone."""
    names = differing(there, here)
    replaced = [name.removesuffix("name") for name in names if name.endswith(".name")]
    found = []
    for name in sorted(names):
        if name.endswith(".name") or not name.startswith(tuple(replaced)):
            shown = name.removeprefix("training.").removesuffix(".name")
            found.append(f"{shown}: {_text(there.get(name))} → {_text(here.get(name))}")
    return found


def _text(value: Any) -> str:
    if isinstance(value, str):
        return f"{value[:8]}…" if DIGEST.fullmatch(value) else value
    return "none" if value is None else json.dumps(value)


def _digest(store: Store, inputs: dict[str, Any]) -> str | None:
    """The digest of the data among the inputs of a training; None where they are not decoded."""
    stage, key = inputs["data"]
    digest: str | None = store.get(stage, key).manifest["info"]["digest"] if store.has(stage, key) else None
    return digest


def nearest_difference(store: Store, task: Task) -> list[str] | None:
    """How the task differs from the nearest training; None without any training."""
    here = flatten(task.spec)
    best: list[str] | None = None
    least = (0, 0)
    for file in sorted((store.root / "train").glob("[0-9a-f]*/manifest.json")):
        manifest = json.loads(file.read_text(encoding="utf-8"))
        there = flatten(manifest["spec"])
        found = differences(there, here)
        if _digest(store, manifest["inputs"]) != _digest(store, task.inputs):
            found.append("the data set's content")
        # Of equals the one with fewer leaves: a schedule before its code was edited is nearer than another schedule.
        distance = (len(found), len(differing(there, here)))
        if best is None or distance < least:
            best, least = found, distance
    return best
