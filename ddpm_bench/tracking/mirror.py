"""Bringing one experiment of MLflow to wanted states.

What has been written is asked of MLflow itself: a tag holds the digest of the state a run was last brought to, and
where it differs (or is lost) every parameter and metric point is compared with what the run holds. The active runs of
the experiment are the cells of results.json; a run whose training or reverse process is no longer the cell's is
deleted (MLflow keeps it and `sync` restores it when the cell becomes that again).
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_bench.tracking.grid import sample_grid
from ddpm_bench.tracking.note import NOTE, links
from ddpm_bench.tracking.server import is_database, probe, shown
from ddpm_bench.tracking.wanted import CELL, MAX_TAG, STORE, SUITE, SYNCED, TRAIN_KEY, Series, State, cut

RETIRED, WITHDRAWN, CURRENT = "ddpm_bench.retired", "ddpm_bench.withdrawn", "ddpm_bench.current."
PARENT = "mlflow.parentRunId"

PREFIXES = ("train/", "validation/", "eval/")

MAX_METRICS, MAX_PARAMETERS = 1000, 100
"""MLflow's limits of one request: metrics; parameters or tags."""


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """What one `sync` did: the address, the parent run, and how many runs and metric points it wrote."""

    uri: str
    experiment_id: str
    parent_run_id: str
    created: int
    updated: int
    unchanged: int
    retired: int
    metric_points: int

    def __str__(self) -> str:
        """`up to date (5 runs) at …`, or what was written."""
        total = self.created + self.updated + self.unchanged
        counts = {"created": self.created, "updated": self.updated, "retired": self.retired}
        done = [f"{count} {verb}" for verb, count in counts.items() if count]
        if not done:
            return f"up to date ({total} runs) at {self.uri}"
        points = f", {self.metric_points} metric points written" if self.metric_points else ""
        return f"{', '.join(done)} of {total} runs{points} at {self.uri}"


class Mirror:
    """One experiment of one MLflow server or database, under the lock."""

    def __init__(self, uri: str, runs: Path, suite: str):
        from mlflow import MlflowClient

        if is_database(uri):
            probe(uri)
        with warnings.catch_warnings():
            # MLflow's mapping uses a loader strategy that SQLAlchemy 2.1 deprecates.
            warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", category=DeprecationWarning)
            self.client = MlflowClient(tracking_uri=uri)
            experiment = self.client.get_experiment_by_name(suite)
        self.uri, self.suite, self.store = uri, suite, str(runs.resolve())
        self.points = 0
        if experiment is None:
            root = (runs / "mlartifacts").resolve().as_uri() if is_database(uri) else None
            tags = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens its pages on LLM traces
            self.experiment_id = self.client.create_experiment(suite, artifact_location=root, tags=tags)
        else:
            self.experiment_id = experiment.experiment_id
            if experiment.lifecycle_stage == "deleted":
                self.client.restore_experiment(self.experiment_id)

    def bring(self, parent: State, cells: dict[str, State]) -> SyncReport:
        """Create, update and retire runs; the parent last, so that it is finished only when its children are."""
        runs = self._runs()
        suite_runs = [run for run in runs if CELL not in run.data.tags and _active(run)]
        created = 0 if suite_runs else 1
        top = suite_runs[0] if suite_runs else self._create(parent.name, parent.tags)
        chosen, states = {}, {}
        for cell, state in cells.items():
            states[cell] = state = replace(state, tags=state.tags | {PARENT: top.info.run_id})
            fitting = [run for run in runs if run.data.tags.get(CELL) == cell and _fits(run, state)]
            run = next(iter(sorted(fitting, key=lambda run: not _active(run))), None)
            if run is not None and not _active(run):
                self.client.restore_run(run.info.run_id)
            created += run is None
            chosen[cell] = run or self._create(state.name, state.tags)
        kept = {run.info.run_id for run in chosen.values()}
        retired = [run for run in runs if CELL in run.data.tags and _active(run) and run.info.run_id not in kept]
        # Only what this store has written: others may share the server and the name of the suite.
        retired = [run for run in retired if run.data.tags.get(STORE) == self.store]
        for run in retired:
            self._retire(run)
        linked = links(self.experiment_id, [chosen[cell].info.run_id for cell in parent.compared], parent.curve)
        described = cut(parent.note, MAX_TAG - len(linked)) + linked
        parent = replace(parent, tags=parent.tags | {NOTE: described})
        written = sum(self._write(chosen[cell], states[cell]) for cell in cells) + self._write(top, parent)
        return SyncReport(
            uri=shown(self.uri),
            experiment_id=self.experiment_id,
            parent_run_id=top.info.run_id,
            created=created,
            updated=written - created,
            unchanged=len(cells) + 1 - written,
            retired=len(retired),
            metric_points=self.points,
        )

    def _runs(self) -> list[Any]:
        """The suite's runs, oldest first: the active ones and those that `sync` itself deleted."""
        from mlflow.entities import ViewType

        page = self.client.search_runs([self.experiment_id], run_view_type=ViewType.ALL)
        runs = list(page)
        while page.token:
            page = self.client.search_runs([self.experiment_id], run_view_type=ViewType.ALL, page_token=page.token)
            runs += page
        mine = [run for run in runs if run.data.tags.get(SUITE) == self.suite]
        usable = [run for run in mine if _active(run) or RETIRED in run.data.tags]
        return sorted(usable, key=lambda run: (run.info.start_time, run.info.run_id))

    def _create(self, name: str, tags: dict[str, str]) -> Any:
        return self.client.create_run(self.experiment_id, run_name=name, tags=tags | {STORE: self.store})

    def _retire(self, run: Any) -> None:
        if SYNCED in run.data.tags:
            self.client.delete_tag(run.info.run_id, SYNCED)
        self.client.set_tag(run.info.run_id, RETIRED, "no longer what this cell of the suite is")
        self.client.delete_run(run.info.run_id)

    def _write(self, run: Any, state: State) -> bool:
        """Write what the run lacks; its digest last, so that a write cut short is compared again. Whether it wrote."""
        from mlflow.entities import Param, RunTag

        digest, run_id = state.digest, run.info.run_id
        if run.data.tags.get(SYNCED) == digest:
            return False
        held = run.data.params
        new = [Param(key, value) for key, value in state.parameters.items() if key not in held]
        for start in range(0, len(new), MAX_PARAMETERS):
            self.client.log_batch(run_id, params=new[start : start + MAX_PARAMETERS])
        # Parameters are immutable in MLflow: one that changed keeps its value and gets a tag with the current one.
        tags = state.tags | {STORE: self.store}
        for key, value in state.parameters.items():
            if held.get(key, value) != value:
                tags[CURRENT + key] = cut(value, MAX_TAG)
        if withdrawn := self._write_metrics(run, state.metrics):
            tags[WITHDRAWN] = cut(", ".join(withdrawn), MAX_TAG)
        self._write_artifacts(run_id, state)
        for key in run.data.tags:
            if key.startswith("ddpm_bench.") and key not in tags and key != SYNCED:
                self.client.delete_tag(run_id, key)
        changed = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
        for start in range(0, len(changed), MAX_PARAMETERS):
            self.client.log_batch(run_id, tags=changed[start : start + MAX_PARAMETERS])
        if run.info.run_name != state.name:
            self.client.update_run(run_id, name=state.name)
        if run.info.status != state.status:
            if state.status in ("RUNNING", "SCHEDULED"):
                self.client.update_run(run_id, status=state.status)
            else:
                self.client.set_terminated(run_id, status=state.status)
        self.client.set_tag(run_id, SYNCED, digest)
        return True

    def _write_metrics(self, run: Any, metrics: dict[str, Series]) -> list[str]:
        """Log the points that MLflow lacks or holds with another value; the names whose last value no longer stands.

        MLflow deletes no point. Of several at one step the latest time stamp counts, so a changed value is logged
        with a later one.
        """
        from mlflow.entities import Metric

        now, held = int(time.time() * 1000), run.data.metrics
        points, withdrawn = [], [name for name in held if name.startswith(PREFIXES) and name not in metrics]
        for name, series in metrics.items():
            if name in held and series == {0: held[name]}:
                continue
            latest: dict[int, Any] = {}
            for point in self.client.get_metric_history(run.info.run_id, name) if name in held else []:
                if point.step not in latest or _order(point) > _order(latest[point.step]):
                    latest[point.step] = point
            if not latest.keys() <= series.keys():
                withdrawn.append(name)
            for step, value in series.items():
                if step not in latest:
                    points.append(Metric(name, value, now, step))
                elif latest[step].value != value:
                    points.append(Metric(name, value, max(now, latest[step].timestamp + 1), step))
        for start in range(0, len(points), MAX_METRICS):
            self.client.log_batch(run.info.run_id, metrics=points[start : start + MAX_METRICS])
        self.points += len(points)
        return sorted(withdrawn)

    def _write_artifacts(self, run_id: str, state: State) -> None:
        with tempfile.TemporaryDirectory() as directory:
            for name, item in state.artifacts.items():
                path = Path(directory) / name
                if isinstance(item, Path):
                    path.write_bytes(item.read_bytes())
                elif name == "samples.png":
                    from PIL import Image

                    samples = np.load(Path(self.store) / item, mmap_mode="r")
                    Image.fromarray(sample_grid(samples[:64], state.levels)).save(path)
                else:
                    path.write_text(json.dumps(item, indent=2, ensure_ascii=False), encoding="utf-8")
                self.client.log_artifact(run_id, str(path))


def _fits(run: Any, state: State) -> bool:
    """Whether the run shows these weights, used this way; evaluation may have changed since.

    The train key stands for everything that enters the weights, so only the reverse process is compared besides.
    """
    keys = {run.data.tags.get(TRAIN_KEY), state.tags.get(TRAIN_KEY)} - {None}
    reverse = {key: value for key, value in run.data.params.items() if key.startswith("reverse.")}
    return len(keys) < 2 and all(state.parameters.get(key) == value for key, value in reverse.items())


def _active(run: Any) -> bool:
    return bool(run.info.lifecycle_stage == "active")


def _order(point: Any) -> tuple[int, float]:
    return point.timestamp, point.value
