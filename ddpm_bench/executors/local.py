"""The local executor: worker processes on this machine, one single-thread worker per core or one per GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ddpm_bench.executors import Job
from ddpm_bench.stages import Log, Task, failure_file
from ddpm_bench.stages.runner import record_failure
from ddpm_bench.store import Store

MAX_DEATHS = 2
"""A task that killed its process this often is recorded as failed."""


@dataclass
class Worker:
    """A slot for one process: a core or a GPU."""

    device: str
    visible_gpu: str | None = None
    process: subprocess.Popen[bytes] | None = None
    job: Job | None = None


@dataclass
class LocalExecutor:
    """Runs jobs until none is left that can run."""

    runs: Path
    plan_file: Path
    workers: list[Worker]
    deaths: dict[str, int] = field(default_factory=dict)

    def run(self, jobs: list[Job], tick: Callable[[list[Worker]], None]) -> None:
        """Run all jobs, each after the jobs that make its inputs; `tick` is called several times a second.

        Ends early, with its workers stopped, on any exception of tick (KeyboardInterrupt included).
        """
        waiting = sorted(jobs, key=lambda job: -job.weight)
        try:
            while waiting or any(worker.process for worker in self.workers):
                made_later = {task.key for job in waiting for task in job.tasks}
                made_later |= {task.key for worker in self.workers if worker.job for task in worker.job.tasks}
                for worker in self.workers:
                    ready = next((job for job in waiting if not job.needs & made_later), None)
                    if worker.process is None and ready is not None:
                        waiting.remove(ready)
                        self._start(worker, ready)
                tick(self.workers)
                time.sleep(0.1)
                for worker in self.workers:
                    if worker.process is not None and worker.process.poll() is not None:
                        waiting[:0] = self._finish(worker)
        finally:
            self._stop()

    def _start(self, worker: Worker, job: Job) -> None:
        environment = dict(os.environ)
        if worker.device == "cpu":
            environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        if worker.visible_gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = worker.visible_gpu
        command = [sys.executable, "-m", "ddpm_bench", "stage", "run", "--plan", str(self.plan_file),
                   "--runs", str(self.runs), "--device", worker.device, "--watch-parent"]  # fmt: skip
        output = self.runs / "logs" / "workers.txt"
        output.parent.mkdir(parents=True, exist_ok=True)
        with open(output, "ab") as stream:
            worker.process = subprocess.Popen(
                [*command, *(task.key for task in job.tasks)], stdin=subprocess.PIPE, stdout=stream, stderr=stream,
                env=environment,
            )  # fmt: skip
        worker.job = job

    def _finish(self, worker: Worker) -> list[Job]:
        """Free the slot; the job again if its process died before its end."""
        assert worker.process is not None and worker.job is not None
        code, job = worker.process.returncode, worker.job
        if worker.process.stdin:
            worker.process.stdin.close()
        worker.process, worker.job = None, None
        if code in (0, 1):
            return []
        victim = self._running_task(job)
        if victim is None:  # it died at the very end, with nothing left to do
            return []
        self.deaths[victim.key] = self.deaths.get(victim.key, 0) + 1
        if self.deaths[victim.key] >= MAX_DEATHS:
            text = f"the process of this task died {MAX_DEATHS} times (exit code {code}; out of memory?)"
            record_failure(self.runs, victim, text, text)
            return [Job(job.name, [task for task in job.tasks if task is not victim], job.needs, job.weight)]
        Log(self.runs, victim.stage, victim.key).write("died", code=code)
        return [job]

    def _running_task(self, job: Job) -> Task | None:
        """The task that the dead process was in or about to begin: the first that is neither finished nor failed."""
        store = Store(self.runs / "store")
        for task in job.tasks:
            over = store.has(task.stage, task.key) or failure_file(self.runs, task.stage, task.key).is_file()
            if not over:
                return task
        return None

    def _stop(self) -> None:
        """End the workers, gently first: what they had finished is in the store."""
        alive = [worker.process for worker in self.workers if worker.process is not None]
        for process in alive:
            process.terminate()
        for process in alive:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for worker in self.workers:
            if worker.process is not None and worker.process.stdin is not None:
                worker.process.stdin.close()


def make_workers(device: str, jobs: str | int) -> list[Worker]:
    """The slots: device auto|cpu|cuda, jobs auto or a number. One per visible GPU, else one per core."""
    gpus = visible_gpus() if device in ("auto", "cuda") else []
    if device == "cuda" and not gpus:
        from ddpm_bench.errors import UserError

        raise UserError("--device cuda: no CUDA device is visible here; use --device cpu")
    if gpus:
        count = len(gpus) if jobs == "auto" else int(jobs)
        return [Worker("cuda", gpus[i % len(gpus)]) for i in range(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [Worker("cpu") for _ in range(cores if jobs == "auto" else int(jobs))]


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES would name them, without creating a CUDA context in this process."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip() and name.strip() != "-1"]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
