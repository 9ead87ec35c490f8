"""Running tasks in this process: the body of a worker (`python -m ddpm_bench stage run`)."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from ddpm_bench.environment import environment
from ddpm_bench.identity import IDENTITY_VERSION
from ddpm_bench.stages import Context, Log, Task, Verified, failure_file, has_inputs, module
from ddpm_bench.store import Store, write_json

SOME_FAILED = 3
"""Exit code of a worker that came to its end with a recorded failure; Python's own 1 and 2 mean that it broke."""


class Skipped(Exception):
    """An input does not exist: its task failed, diverged or was never run."""


def run_tasks(runs: Path, tasks: list[Task], device: str) -> bool:
    """Run the tasks in order; a finished one is passed over, one without its inputs left out. True if none failed.

    A failure is recorded beside the log of its task and never stops the others.
    """
    store, verified, sound = Store(runs / "store"), Verified(), True
    for task in tasks:
        if store.has(task.stage, task.key):
            continue
        try:
            run_task(runs, store, task, device, verified)
        except Skipped:
            continue
        except Exception as cause:  # the boundary between one cell and the others: recorded with its traceback
            record_failure(runs, task, f"{type(cause).__name__}: {cause}", traceback.format_exc())
            sound = False
    return sound


def run_task(runs: Path, store: Store, task: Task, device: str, verified: Verified) -> None:
    """Make one artifact. Raises Skipped, or whatever the stage raises."""
    if not has_inputs(store, task):
        raise Skipped
    failure_file(runs, task.stage, task.key).unlink(missing_ok=True)
    log, stage_module = Log(runs, task.stage, task.key), module(task.stage)
    manifest: dict[str, Any] = {
        "schema": 1, "stage": task.stage, "key": task.key,
        "version": stage_module.VERSION, "identity": IDENTITY_VERSION, "spec": task.spec, "inputs": task.inputs,
        "recorded": {**task.recorded, "device": device, "environment": environment()},
    }  # fmt: skip
    log.write("start", stage=task.stage)
    started = time.monotonic()
    with store.create(task.stage, task.key, manifest) as out:
        stage_module.run(Context(task, store, out, log, device, manifest, verified))
        manifest["timings"] = {"seconds": time.monotonic() - started, **manifest.get("timings", {})}
    log.write("done", seconds=round(time.monotonic() - started, 3))


def record_failure(runs: Path, task: Task, reason: str, text: str) -> None:
    """Write the failure of a task beside its log, and into it."""
    Log(runs, task.stage, task.key).write("failed", reason=reason, traceback=text)
    write_json(failure_file(runs, task.stage, task.key), {"stage": task.stage, "reason": reason, "traceback": text})


def die_with_parent() -> None:
    """End this process when its parent does: its standard input is a pipe that the parent holds open."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # leaves through the finally clauses: nothing half written stays
        time.sleep(10)
        os._exit(75)

    def leave(*_: object) -> None:
        raise SystemExit(75)

    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=watch, daemon=True).start()


def set_threads(device: str) -> None:
    """One thread per CPU worker: two workers with one thread each are faster than one with two."""
    if device == "cpu":
        import torch

        torch.set_num_threads(1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
