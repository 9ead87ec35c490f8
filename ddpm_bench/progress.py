"""Progress of a run: a live display on a terminal, plain lines otherwise. Reads the logs of the workers' tasks."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ddpm_bench.executors import Job
from ddpm_bench.executors.local import Worker
from ddpm_bench.stages import Task, failure_file, log_file
from ddpm_bench.store import Store

PLAIN_SECONDS = 5.0
"""Time between two plain lines of a worker, at first; later a thirtieth of the time so far, so that logs stay short."""
DETAIL = 48
"""Columns of the terminal that the numbers of a worker take."""
TAIL = 8192
"""Bytes at the end of a log that are looked at."""


class Display:
    """Shows what the workers do. Use as a context manager; `tick(workers)` refreshes it."""

    def __init__(self, runs: Path, jobs: list[Job], stream: TextIO | None = None):
        self.runs, self.store = runs, Store(runs / "store")
        self._tasks = [task for job in jobs for task in job.tasks]
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._live = self._console.is_terminal
        self._bar = 20 if self._console.width >= 110 else 8
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=self._bar), TextColumn("{task.fields[detail]}"),
            console=self._console, transient=True,
        )  # fmt: skip
        self._rows: list[TaskID] = []
        self._started = time.monotonic()
        self._last_plain: dict[int, float] = {}
        self._counted = (-1.0, 0)

    def __enter__(self) -> Display:
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()

    def _finished(self) -> int:
        now = time.monotonic()
        if now - self._counted[0] > 1.0:
            done = sum(self._is_over(task) for task in self._tasks)
            self._counted = (now, done)
        return self._counted[1]

    def _is_over(self, task: Task) -> bool:
        return self.store.has(task.stage, task.key) or failure_file(self.runs, task.stage, task.key).is_file()

    def tick(self, workers: list[Worker]) -> None:
        """Refresh the display."""
        if self._live:
            self._tick_live(workers)
        else:
            self._tick_plain(workers)

    def _tick_live(self, workers: list[Worker]) -> None:
        if not self._rows:
            self._rows = [self._progress.add_task("", total=1, detail="") for _ in range(len(workers) + 1)]
        total, done = len(self._tasks), self._finished()
        detail = f"{done}/{total} artifacts  {clock(time.monotonic() - self._started)}"
        self._progress.update(self._rows[0], description="all", total=total, completed=done, detail=detail)
        width = max(20, self._console.width - self._bar - DETAIL)
        for row, worker in zip(self._rows[1:], workers, strict=True):
            name, detail, done_here, of = self.describe(worker)
            shown = name if cell_len(name) <= width else set_cell_size(name, width - 1) + "…"
            self._progress.update(row, description=shown, completed=done_here, total=of, detail=detail)

    def _tick_plain(self, workers: list[Worker]) -> None:
        now = time.monotonic()
        pause = max(PLAIN_SECONDS, (now - self._started) / 30)
        for i, worker in enumerate(workers):
            if worker.job is None or now - self._last_plain.get(i, -pause) < pause:
                continue
            self._last_plain[i] = now
            name, detail, _, _ = self.describe(worker)
            self._console.print(
                f"[{clock(now - self._started):>5}] {self._finished():3d}/{len(self._tasks)}  {name}  {detail}",
                soft_wrap=True, markup=False,
            )  # fmt: skip

    def describe(self, worker: Worker) -> tuple[str, str, float, float]:
        """(what, details, done, total) of a worker's current task."""
        if worker.job is None or worker.process is None:
            return "idle", "", 0, 1
        task = next((task for task in worker.job.tasks if not self._is_over(task)), None)
        if task is None:
            return worker.job.name, "ending", 1, 1
        name = f"{task.stage}: {worker.job.name}"
        event = newest_event(log_file(self.runs, task.stage, task.key), worker.process.pid)
        if event is None:
            return name, "starting", 0, 1
        if event["event"] != "progress":
            return name, "begun", 0, 1
        done, total = event["done"], event["total"]
        parts = [f"{done}/{total} {event['unit']}"]
        speed = event.get("per_second") or (done / event["elapsed"] if event["elapsed"] >= 0.5 else None)
        if speed:
            parts += [f"{speed:.3g}/s", f"{clock((total - done) / speed)} left"]
        memory = resident_bytes(worker.process.pid)
        if memory:
            parts.append(f"{memory / 2**20:.0f} MiB")
        return name, "  ".join(parts), done, total


def clock(seconds: float) -> str:
    """1:05, 2:00:09."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def newest_event(file: Path, pid: int) -> dict[str, Any] | None:
    """The newest event of a process that says how far it is: progress, else its start. Reads the end of the log."""
    if not file.is_file():
        return None
    with open(file, "rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
        lines = stream.read().decode("utf-8", "replace").splitlines(keepends=True)
    for line in reversed(lines):
        if not (line.startswith("{") and line.endswith("\n")):  # the first may be cut off, the last not written out
            continue
        event: dict[str, Any] = json.loads(line)
        if event["pid"] == pid and event["event"] in ("progress", "start", "resume"):
            return event
    return None


def resident_bytes(pid: int) -> int | None:
    """Memory of a process, None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None
