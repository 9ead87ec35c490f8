"""Stages: functions from files to files, one module each, and the work of running one.

A stage module has VERSION (raised by hand when its numbers move; part of every key) and `run(context)`, which reads
the artifacts of its inputs and fills `context.out`. No stage calls another; `planning.py` makes the graph.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm_bench.store import Artifact, Store, write_text

CHUNK = 128
"""Images per chunk: the unit of evaluation work, storage and resuming. A constant of the stages' VERSIONs."""


@dataclass(frozen=True)
class Task:
    """One artifact to make: `key` hashes stage, VERSION, spec and the identities of the inputs.

    inputs: name → (stage, key) or a list of them. recorded: knobs that do not change the result; not hashed.
    """

    stage: str
    key: str
    spec: dict[str, Any]
    inputs: dict[str, Any]
    recorded: dict[str, Any] = field(default_factory=dict)

    def references(self) -> list[tuple[str, str]]:
        """(stage, key) of every input."""
        found: list[tuple[str, str]] = []
        for value in self.inputs.values():
            found.extend(map(tuple, value) if isinstance(value[0], list | tuple) else [tuple(value)])
        return found


class Log:
    """The log of one task: a line of JSON per event, appended; progress, status and `logs` read it."""

    def __init__(self, runs: Path, stage: str, key: str):
        self.file = log_file(runs, stage, key)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._last, self._started = 0.0, time.monotonic()

    def write(self, event: str, **values: Any) -> None:
        """Append an event."""
        line = json.dumps({"time": round(time.time(), 3), "pid": os.getpid(), "event": event, **values})
        with open(self.file, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def progress(self, done: int, total: int, unit: str, **values: Any) -> None:
        """Append a progress event, at most two a second (and always the last one)."""
        now = time.monotonic()
        if done >= total or now - self._last >= 0.5:
            self._last = now
            elapsed = round(now - self._started, 3)
            self.write("progress", done=done, total=total, unit=unit, elapsed=elapsed, **values)


def log_file(runs: Path, stage: str, key: str) -> Path:
    """Where the log of a task lies."""
    return runs / "logs" / stage / f"{key}.jsonl"


def failure_file(runs: Path, stage: str, key: str) -> Path:
    """Where the failure of a task is recorded; gone as soon as it is tried again."""
    return runs / "logs" / stage / f"{key}.failed.json"


@dataclass(frozen=True)
class Context:
    """What a stage may use: its specification, its inputs, an empty directory, a log and a device.

    manifest: the manifest in the making; a stage may set manifest["outcome"] and manifest["timings"].
    """

    task: Task
    store: Store
    out: Path
    log: Log
    device: str
    manifest: dict[str, Any]
    cache: Callable[[Artifact], Artifact]

    @property
    def spec(self) -> dict[str, Any]:
        """The specification of the task."""
        return self.task.spec

    def input(self, name: str) -> Artifact:
        """The artifact of an input, its files verified (once per process)."""
        stage, key = self.task.inputs[name]
        return self.cache(self.store.get(stage, key))

    def input_list(self, name: str) -> list[Artifact]:
        """The artifacts of an input that is a list."""
        return [self.cache(self.store.get(stage, key)) for stage, key in self.task.inputs[name]]

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the payload."""
        write_text(self.out / name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def module(stage: str) -> Any:
    """The module of a stage."""
    return importlib.import_module(f"ddpm_bench.stages.{stage}")


def has_inputs(store: Store, task: Task) -> bool:
    """Whether every input of the task is finished and did not end early (a diverged training has no users)."""
    return all(store.has(stage, key) and not store.get(stage, key).outcome for stage, key in task.references())


class Verified:
    """Verifies each artifact once per process."""

    def __init__(self) -> None:
        self._known: dict[Path, Artifact] = {}

    def __call__(self, artifact: Artifact) -> Artifact:
        if artifact.path not in self._known:
            self._known[artifact.path] = artifact.verify()
        return self._known[artifact.path]
