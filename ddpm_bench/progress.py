"""Progress of a run: a live display on a terminal, plain lines otherwise. Reads the logs of the workers' tasks."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ddpm_bench.executors import Job
from ddpm_bench.executors.local import Worker
from ddpm_bench.records import last_event
from ddpm_bench.stages import Task, failure_file, log_file
from ddpm_bench.store import Store

PLAIN_SECONDS = 5.0
"""Time between two plain lines of a worker."""


class Display:
    """Shows what the workers do. Use as a context manager; `tick(workers)` refreshes it."""

    def __init__(self, runs: Path, jobs: list[Job], stream: TextIO | None = None):
        self.runs, self.store = runs, Store(runs / "store")
        self._tasks = [task for job in jobs for task in job.tasks]
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._live = self._console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(), console=self._console, transient=True,
        )  # fmt: skip
        self._rows: list[TaskID] = []
        self._started = time.monotonic()
        self._last_plain: dict[int, float] = {}
        self._counted = (-1.0, 0)
        self._begins: dict[tuple[str, int], float] = {}

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
        total = len(self._tasks)
        self._progress.update(
            self._rows[0], description="all", total=total, completed=self._finished(), detail=f"{total} artifacts"
        )
        for row, worker in zip(self._rows[1:], workers, strict=True):
            name, detail, done, of = self.describe(worker)
            self._progress.update(row, description=f"  {name[:44]}", completed=done, total=of, detail=detail)

    def _tick_plain(self, workers: list[Worker]) -> None:
        now = time.monotonic()
        for i, worker in enumerate(workers):
            if worker.job is None or now - self._last_plain.get(i, -PLAIN_SECONDS) < PLAIN_SECONDS:
                continue
            self._last_plain[i] = now
            name, detail, _, _ = self.describe(worker)
            minutes, seconds = divmod(int(now - self._started), 60)
            self._console.print(
                f"[{minutes:2d}:{seconds:02d}] {self._finished():3d}/{len(self._tasks)}  {name}  {detail}",
                soft_wrap=True, markup=False,
            )  # fmt: skip

    def describe(self, worker: Worker) -> tuple[str, str, float, float]:
        """(what, details, done, total) of a worker's current task."""
        if worker.job is None or worker.process is None:
            return "idle", "", 0, 1
        task = next((task for task in worker.job.tasks if not self._is_over(task)), None)
        if task is None:
            return worker.job.name, "", 1, 1
        event = last_event(log_file(self.runs, task.stage, task.key))
        name = f"{task.stage}: {worker.job.name}"
        if not event or event["pid"] != worker.process.pid:
            return name, "starting", 0, 1
        if event["event"] != "progress":
            return name, str(event["event"]), 0, 1
        done, total = event["done"], event["total"]
        begun = self._begin(task, worker.process.pid)
        parts = [f"{done}/{total} {event['unit']}"]
        speed = event.get("per_second") or (done / (event["time"] - begun) if event["time"] > begun else None)
        if speed:
            left = int((total - done) / speed)
            parts += [f"{speed:.3g}/s", f"{left // 60}:{left % 60:02d} left"]
        memory = resident_bytes(worker.process.pid)
        if memory:
            parts.append(f"{memory / 2**20:.0f} MiB")
        return name, "  ".join(parts), done, total

    def _begin(self, task: Task, pid: int) -> float:
        place = (task.key, pid)
        if place not in self._begins:
            self._begins[place] = time.time() - 0.25
        return self._begins[place]


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
