"""Do what is missing: plan, run the jobs, keep results and tracking up to date, render the report."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ddpm_bench import records, tracking
from ddpm_bench.errors import UserError, count
from ddpm_bench.executors import Job, make_job
from ddpm_bench.executors.local import LocalExecutor, Worker, make_workers
from ddpm_bench.planning import Plan, make_plan
from ddpm_bench.planning.file import data_to_json, to_json
from ddpm_bench.planning.jobs import make_jobs
from ddpm_bench.progress import Display
from ddpm_bench.report import build
from ddpm_bench.stages import failure_file
from ddpm_bench.store import sha256, write_json, write_text
from ddpm_bench.suite import Suite

SYNC_SECONDS = 10.0
"""Time between two updates of results and tracking while a run goes on."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    results: records.Results
    report: Path
    tasks_run: int
    """Tasks that were missing when it started: 0 means that nothing was done."""
    warning: str | None
    """What went wrong with tracking, or None."""

    selected: list[str]
    """Ids of the cells that were to be run."""
    missing_baselines: list[str]
    """Codes, floors and the like that could not be computed."""

    @property
    def failed(self) -> list[str]:
        """Ids of the cells that should be done and are not, and the baselines that could not be computed."""
        ended = ("done", "diverged", "illegal")
        cells = [cell for cell in self.results.cells if cell.id in self.selected]
        return [*(cell.id for cell in cells if cell.status not in ended), *self.missing_baselines]


class Syncer:
    """Updates results.json and tracking in the background, one at a time; trouble with tracking is one warning."""

    def __init__(self, runs: Path, suite: str, report: Path):
        self.runs, self.suite, self.report = runs, suite, report
        self.warning: str | None = None
        self._thread: threading.Thread | None = None
        self._last = time.monotonic()
        self._problem: BaseException | None = None

    def tick(self) -> None:
        """Start an update if it is time for one."""
        if self._problem is not None:
            raise self._problem
        busy = self._thread is not None and self._thread.is_alive()
        if not busy and time.monotonic() - self._last > SYNC_SECONDS:
            self._last = time.monotonic()
            self._thread = threading.Thread(target=self._update, daemon=True)
            self._thread.start()

    def _update(self) -> None:
        try:
            if records.update(self.runs, self.suite):
                self.track()
        except BaseException as problem:
            self._problem = problem

    def track(self) -> None:
        """Bring tracking to the state of the results and the report, unless the last call has seen the same."""
        marker = records.suite_folder(self.runs, self.suite) / ".tracked"
        files = [records.suite_folder(self.runs, self.suite) / "results.json", self.report]
        state = " ".join([tracking.tracking_uri(self.runs), *(sha256(file) for file in files if file.is_file())])
        if marker.is_file() and marker.read_text(encoding="utf-8") == state:
            return
        if self.warning is not None:
            return  # one warning, and no more waiting for a server that is down
        try:
            tracking.sync(self.runs, self.suite, self.report)
            write_text(marker, state)
        except tracking.TrackingError as problem:
            self.warning = f"tracking: {problem}; the results are safe, `ddpm-bench track sync` catches up"

    def finish(self, seconds: float | None) -> None:
        """The last update of the results; seconds: how long the run took, None where it did nothing."""
        if self._thread is not None:
            self._thread.join()
        if self._problem is not None:
            raise self._problem
        records.update(self.runs, self.suite, seconds)


def run(
    suite: Suite,
    *,
    runs: Path = Path("runs"),
    reports: Path = Path("reports"),
    jobs: str | int = "auto",
    device: str = "auto",
    skip_missing: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Everything that is missing of a suite; finished work is reused, never redone.

    notify: called with a line of text at the start. Raises UserError when the input is wrong (nothing is written then)
    or another run of the suite is active.
    """
    plan = make_plan(suite, runs, skip_missing=skip_missing)
    if plan.problems:
        raise UserError(plan.problems)
    workers = make_workers(device, jobs)
    folder = records.suite_folder(runs, suite.name)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise UserError(f'another run of "{suite.name}" is active on {runs}; wait for it or stop it') from None
    with lock:
        started = time.monotonic()
        report = reports / suite.name / "index.html"
        syncer = Syncer(runs, suite.name, report)

        def execute(todo: list[Job], plan_file: Path, sync: bool) -> None:
            with Display(runs, todo) as display:

                def tick(active: list[Worker]) -> None:
                    display.tick(active)
                    if sync:
                        syncer.tick()

                LocalExecutor(runs, plan_file, workers).run(todo, tick)

        done = 0
        if plan.info is None:  # the keys of everything else need the data's digest
            write_json(folder / "data.json", data_to_json(plan))
            job = make_job(suite.configuration["dataset"]["name"], [plan.data], plan.missing(), 1)
            execute([job], folder / "data.json", False)
            plan = make_plan(suite, runs, skip_missing=skip_missing)
            if plan.info is None:
                raise UserError(_data_failure(runs, plan))
            done += 1
        _write_plan(folder, plan)
        missing = plan.missing()
        todo = make_jobs(plan, len(workers))
        if todo:
            notify(summary(plan, len(missing)))
            execute(todo, folder / "plan.json", True)
        done += len(missing)
        syncer.finish(time.monotonic() - started if done else None)
        results_file = folder / "results.json"
        if not report.is_file() or report.stat().st_mtime_ns < results_file.stat().st_mtime_ns:
            report = build(runs, suite.name, reports)
        syncer.track()
        selected = [cell.suite_cell.id for cell in plan.selected()]
        without = [item for item in plan.baselines if not plan.store.has(item.task.stage, item.task.key)]
        baselines = list(dict.fromkeys(item.name or "codes of the data" for item in without))
        return Outcome(records.Results(runs, suite.name), report, done, syncer.warning, selected, baselines)


def summary(plan: Plan, missing: int) -> str:
    """One line about what a run is going to do."""
    cells, trainings = plan.selected(), {cell.train.key for cell in plan.selected()}
    open_trainings = sum(not plan.store.has("train", key) for key in trainings)
    sizes = f"{count(len(cells), 'cell')}, {count(len(trainings), 'training')} ({open_trainings} to do)"
    return f"{plan.suite.name}: {sizes}, {count(missing, 'artifact')} to make"


def _write_plan(folder: Path, plan: Plan) -> None:
    """Write plan.json where it differs."""
    file, found = folder / "plan.json", to_json(plan)
    if not file.is_file() or json.loads(file.read_text(encoding="utf-8")) != json.loads(json.dumps(found)):
        write_json(file, found)


def _data_failure(runs: Path, plan: Plan) -> str:
    file = failure_file(runs, "data", plan.data.key)
    if file.is_file():
        reason: str = json.loads(file.read_text(encoding="utf-8"))["reason"]
        return reason.removeprefix("UserError: ")
    return f"the data set could not be decoded; see {runs}/logs"
