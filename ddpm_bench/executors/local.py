"""The local executor: worker processes on this machine, one single-thread worker per core or one per GPU."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ddpm_bench.errors import UserError
from ddpm_bench.executors import Job
from ddpm_bench.stages import Log, Task, failure_file, has_inputs
from ddpm_bench.stages.runner import SOME_FAILED, record_failure
from ddpm_bench.store import Store

MAX_DEATHS = 2
"""A task that killed its process this often is recorded as failed."""
TAIL_BYTES = 2000
"""How much of a dead worker's output goes into the record of the failure."""


@dataclass
class Worker:
    """A slot for one process: a core or a GPU. output: where the process writes what it prints."""

    device: str
    number: int = 0
    visible_gpu: str | None = None
    process: subprocess.Popen[bytes] | None = None
    job: Job | None = None
    output: Path | None = None


@dataclass
class LocalExecutor:
    """Runs jobs until none is left that can run."""

    runs: Path
    plan_file: Path
    workers: list[Worker]
    deaths: dict[str, int] = field(default_factory=dict)

    def run(self, jobs: list[Job], tick: Callable[[list[Worker]], None]) -> None:
        """Run all jobs, each when the inputs that other jobs make are there; `tick` is called several times a second.

        Ends early, with its workers stopped, on any exception of tick (KeyboardInterrupt included).
        """
        waiting = sorted(jobs, key=lambda job: -job.weight)
        try:
            while waiting or any(worker.process for worker in self.workers):
                self._start_ready(waiting)
                tick(self.workers)
                time.sleep(0.1)
                for worker in self.workers:
                    if worker.process is not None and worker.process.poll() is not None:
                        waiting[:0] = self._finish(worker)
        finally:
            self._stop()

    def _start_ready(self, waiting: list[Job]) -> None:
        """Give each idle worker the first job whose inputs are made, or will never be made by a job still to end."""
        for worker in self.workers:
            if worker.process is not None:
                continue
            active = [other.job for other in self.workers if other.job is not None]
            coming = {task.key: task for job in [*waiting, *active] for task in job.tasks}
            ready = next((job for job in waiting if not self._is_coming(job.needs, coming)), None)
            if ready is None:
                return
            waiting.remove(ready)
            self._start(worker, ready)

    def _is_coming(self, needs: set[str], coming: dict[str, Task]) -> bool:
        store = Store(self.runs / "store")
        return any(not store.has(coming[key].stage, key) for key in needs & coming.keys())

    def _start(self, worker: Worker, job: Job) -> None:
        environment = dict(os.environ)
        if worker.device == "cpu":
            environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        if worker.visible_gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = worker.visible_gpu
        command = [sys.executable, "-m", "ddpm_bench", "stage", "run", "--plan", str(self.plan_file),
                   "--runs", str(self.runs), "--device", worker.device, "--watch-parent"]  # fmt: skip
        worker.output = self.runs / "logs" / f"worker-{os.getpid()}-{worker.number}.txt"
        worker.output.parent.mkdir(parents=True, exist_ok=True)
        with open(worker.output, "wb") as stream:
            worker.process = subprocess.Popen(
                [*command, *(task.key for task in job.tasks)], stdin=subprocess.PIPE, stdout=stream, stderr=stream,
                env=environment,
            )  # fmt: skip
        worker.job = job

    def _finish(self, worker: Worker) -> list[Job]:
        """Free the slot; the job again if its process died before its end."""
        assert worker.process is not None and worker.job is not None and worker.output is not None
        code, job = worker.process.returncode, worker.job
        if worker.process.stdin:
            worker.process.stdin.close()
        text = worker.output.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")
        worker.output.unlink()
        worker.process, worker.job, worker.output = None, None, None
        victim = None if code in (0, SOME_FAILED) else self._running_task(job)
        if victim is None:
            return []
        self.deaths[victim.key] = self.deaths.get(victim.key, 0) + 1
        Log(self.runs, victim.stage, victim.key).write("died", code=code, output=text)
        if self.deaths[victim.key] < MAX_DEATHS:
            return [job]
        memory = " (killed: out of memory?)" if code == -9 else ""
        last = text.strip().splitlines()[-1] if text.strip() else "it printed nothing"
        reason = f"the process of this task died {MAX_DEATHS} times with exit code {code}{memory}: {last}"
        record_failure(self.runs, victim, reason, text)
        return [Job(job.name, [task for task in job.tasks if task is not victim], job.needs, job.weight)]

    def _running_task(self, job: Job) -> Task | None:
        """The task that the dead process was in or about to begin: the first that could run and is not over."""
        store = Store(self.runs / "store")
        for task in job.tasks:
            over = store.has(task.stage, task.key) or failure_file(self.runs, task.stage, task.key).is_file()
            if not over and has_inputs(store, task):
                return task
        return None

    def _stop(self) -> None:
        """End the workers, gently first: what they had finished is in the store."""
        active = [worker for worker in self.workers if worker.process is not None]
        for worker in active:
            worker.process.terminate()  # type: ignore[union-attr]
        for worker in active:
            assert worker.process is not None and worker.output is not None
            try:
                worker.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            if worker.process.stdin is not None:
                worker.process.stdin.close()
            worker.output.unlink(missing_ok=True)


def make_workers(device: str, jobs: str | int) -> list[Worker]:
    """The slots: device auto|cpu|cuda, jobs auto or a positive number. One per visible GPU, else one per core.

    Raises UserError for anything else, and for cuda where there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device {device}: unknown; known: auto, cpu, cuda")
    if jobs != "auto" and not (str(jobs).isdecimal() and int(jobs) > 0):
        raise UserError(f"jobs {jobs}: expected auto or a positive number")
    gpus = visible_gpus() if device in ("auto", "cuda") else []
    if device == "cuda" and not gpus:
        raise UserError("device cuda: no CUDA device is visible here; use cpu")
    if gpus:
        count = len(gpus) if jobs == "auto" else int(jobs)
        return [Worker("cuda", i, gpus[i % len(gpus)]) for i in range(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [Worker("cpu", i) for i in range(cores if jobs == "auto" else int(jobs))]


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES would name them, without creating a CUDA context in this process."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(i) for i in range(count)]
    names = [name.strip() for name in named.split(",")]
    return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))[:count]
