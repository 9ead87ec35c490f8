"""The MLflow mirror: `sync` brings MLflow to the state of a suite's results, and writes nothing where it already is.

Results are the truth and MLflow is made from them, so losing or deleting the mirror loses nothing. What has been
written is asked of MLflow itself: a tag holds the digest of the state a run was last brought to, and where it differs
(or is lost) every parameter and metric point is compared with what the run holds. The active runs of the experiment
are the cells of results.json; a run whose training or reverse process is no longer the cell's is deleted (MLflow keeps
it and `sync` restores it when the cell becomes that again). Importing this module does not import mlflow.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import logging
import math
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ddpm_bench.errors import UserError

VERSION = 1
"""Raised when what `sync` writes for the same results changes: every run is then compared once more."""

SUITE, CELL, STATUS = "ddpm_bench.suite", "ddpm_bench.cell", "ddpm_bench.status"
TRAIN_KEY, SYNCED, STORE, RETIRED = (f"ddpm_bench.{name}" for name in ("train_key", "synced", "store", "retired"))
WITHDRAWN, CURRENT = "ddpm_bench.withdrawn", "ddpm_bench.current."
PARENT = "mlflow.parentRunId"

TABLES = ("dataset", "network", "diffusion", "training", "reverse", "evaluation")
"""The tables of a configuration that describe a cell; the others describe the suite."""

DOTTED = {name: f"diffusion.{name}" for name in ("timesteps", "prediction", "schedule", "loss")} | {
    name: f"reverse.{name}" for name in ("variance", "sampler", "sampling_steps", "thresholding")
}
"""The configuration key of every axis with a short name."""

CURVES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "gradient_norm": "train/gradient_norm",
    "validation_epsilon_mse": "validation/epsilon_mse",
    "validation_bits_per_dim": "validation/bits_per_dim",
}
"""The metric of every column of curves.csv."""

PREFIXES = ("train/", "validation/", "eval/")

RUN_STATUS = {"waiting": "SCHEDULED", "running": "RUNNING", "failed": "FAILED", "illegal": "KILLED"}
"""MLflow's status of a cell; the other cells (done, diverged) are FINISHED. KILLED: it was never run."""

MAX_METRICS, MAX_PARAMETERS, MAX_VALUE, MAX_TAG = 1000, 100, 6000, 5000
"""MLflow's limits of one request (metrics; parameters or tags) and of one value in characters."""

LOCK_SECONDS = 120
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's own defaults retry a dead server for minutes; these hold during a sync where the user has set nothing."""

Series = dict[int, float]


class TrackingError(Exception):
    """MLflow could not be brought up to date, in one sentence; the results are unharmed."""


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


@dataclass(frozen=True, kw_only=True)
class _State:
    """What a run has to hold. artifacts: name → JSON value, file to copy, or the samples.npy of a grid."""

    name: str
    status: str
    tags: dict[str, str]
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Series] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    levels: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all of it; files count with their content, samples (immutable in the store) with their path."""
        files = {name: _sha256(item) for name, item in self.artifacts.items() if isinstance(item, Path)}
        state = [VERSION, self.status, self.tags, self.parameters, self.metrics, self.artifacts | files, self.levels]
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def tracking_uri(runs: Path) -> str:
    """MLFLOW_TRACKING_URI, or the sqlite store runs/mlflow.db."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(runs / 'mlflow.db').resolve().as_posix()}"


def ui_command(runs: Path, port: int) -> list[str]:
    """The command line of MLflow's UI on this store; it inherits that telemetry is off unless the user turned it on.

    Raises UserError where MLFLOW_TRACKING_URI is a server, which has a UI of its own.
    """
    uri = tracking_uri(runs)
    if not _is_database(uri):
        raise UserError(
            f"MLFLOW_TRACKING_URI={_shown(uri)} is no database: a server has its own UI, open that in a browser"
        )
    _telemetry_off()
    artifacts = (runs / "mlartifacts").resolve().as_uri()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--default-artifact-root", artifacts]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def sync(runs: Path, suite: str, report: Path | None = None) -> SyncReport:
    """Bring MLflow to the state of runs/suites/<suite>; a second call writes nothing.

    runs: the directory of suites/ and store/. report: the suite's index.html, an artifact of the parent if it exists.
    One experiment and one parent run per suite name, one child run per cell, found again by their tags. Processes
    that sync at once take turns under runs/.mlflow.lock, which also guards the creation of the database.
    Raises UserError without results of that name, TrackingError when MLflow does not answer or refuses.
    """
    parent, cells = _states(runs, suite, report)
    uri = tracking_uri(runs)
    with _quiet_and_quick():
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with FileLock(runs / ".mlflow.lock", timeout=LOCK_SECONDS):
                return _Mirror(uri, runs, suite).bring(parent, cells)
        except Timeout as error:
            raise TrackingError(f"another process has been syncing {runs} for {LOCK_SECONDS} s") from error
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # ImportError: a database's driver
            reason = _reason(error).replace(uri, _shown(uri))
            raise TrackingError(f"MLflow at {_shown(uri)} could not be brought up to date: {reason}") from error


class _Mirror:
    """One experiment of one MLflow server or database, under the lock."""

    def __init__(self, uri: str, runs: Path, suite: str):
        from mlflow import MlflowClient

        if _is_database(uri):
            _probe(uri)
        with warnings.catch_warnings():
            # MLflow's mapping uses a loader strategy that SQLAlchemy 2.1 deprecates.
            warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", category=DeprecationWarning)
            self.client = MlflowClient(tracking_uri=uri)
            experiment = self.client.get_experiment_by_name(suite)
        self.uri, self.suite, self.store = uri, suite, str(runs.resolve())
        self.points = 0
        if experiment is None:
            root = (runs / "mlartifacts").resolve().as_uri() if _is_database(uri) else None
            self.experiment_id = self.client.create_experiment(suite, artifact_location=root)
        else:
            self.experiment_id = experiment.experiment_id
            if experiment.lifecycle_stage == "deleted":
                self.client.restore_experiment(self.experiment_id)

    def bring(self, parent: _State, cells: dict[str, _State]) -> SyncReport:
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
        written = sum(self._write(chosen[cell], states[cell]) for cell in cells) + self._write(top, parent)
        return SyncReport(
            uri=_shown(self.uri),
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

    def _write(self, run: Any, state: _State) -> bool:
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
                tags[CURRENT + key] = _cut(value, MAX_TAG)
        if withdrawn := self._write_metrics(run, state.metrics):
            tags[WITHDRAWN] = _cut(", ".join(withdrawn), MAX_TAG)
        self._write_artifacts(run_id, state)
        for key in run.data.tags:
            if key.startswith("ddpm_bench.") and key not in tags and key != SYNCED:
                self.client.delete_tag(run_id, key)
        changed = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
        for start in range(0, len(changed), MAX_PARAMETERS):
            self.client.log_batch(run_id, tags=changed[start : start + MAX_PARAMETERS])
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

    def _write_artifacts(self, run_id: str, state: _State) -> None:
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


def sample_grid(images: np.ndarray, levels: int | None) -> np.ndarray:
    """Up to 64 images as one picture of eight columns, enlarged without interpolation.

    images: [N, C, H, W], levels 0 … levels−1, or real values (levels None), which are stretched from their least to
    their greatest. Returns uint8 [height, width] for C = 1, [height, width, 3] for C = 3; of other C the first channel.
    """
    values = np.nan_to_num(np.asarray(images[:64], dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = (0.0, levels - 1.0) if levels is not None else (values.min(), values.max())
    shades = np.rint(255 * (values - low) / (high - low if high > low else 1.0)).clip(0, 255).astype(np.uint8)
    if shades.shape[1] != 3:
        shades = shades[:, :1]
    scale, gap, columns = max(1, 64 // max(shades.shape[2:])), 2, 8
    tiles = shades.transpose(0, 2, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = tiles.shape[1] + gap, tiles.shape[2] + gap
    rows = math.ceil(len(tiles) / columns)
    grid = np.full((rows * height - gap, columns * width - gap, tiles.shape[3]), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        grid[row * height :, column * width :][: height - gap, : width - gap] = tile
    return grid[..., 0] if grid.shape[2] == 1 else grid


def _states(runs: Path, suite: str, report: Path | None) -> tuple[_State, dict[str, _State]]:
    """The parent's and the cells' states from the files of results."""
    directory = runs / "suites" / suite
    if not (directory / "results.json").is_file():
        raise UserError(f"{directory / 'results.json'}: no results of this suite; run it first")
    results = json.loads((directory / "results.json").read_text(encoding="utf-8"))
    timesteps: dict[str, Series] = {}
    for row in _rows(directory / "timestep_kl.csv"):
        if (kl := _finite(row["kl"])) is not None:
            timesteps.setdefault(row["cell_id"], {})[int(row["t"])] = kl
    cells = {cell["id"]: _cell_state(results, cell, timesteps.get(cell["id"], {}), runs) for cell in results["cells"]}
    statuses = {state.status for state in cells.values()}
    files = {"results.csv": directory / "results.csv", "index.html": report}
    state = _State(
        name=suite,
        # A cell still at work decides first, then one that failed, then one that has not begun.
        status=next((status for status in ("RUNNING", "FAILED", "SCHEDULED") if status in statuses), "FINISHED"),
        tags={SUITE: suite, "ddpm_bench.title": _cut(results["title"], MAX_TAG)} | _source(results),
        artifacts={name: path for name, path in files.items() if path is not None and path.is_file()}
        | {"configuration.json": {"configuration": results["configuration"], "overrides": results["overrides"]}},
    )
    return state, cells


def _cell_state(results: dict[str, Any], cell: dict[str, Any], timestep_kl: Series, runs: Path) -> _State:
    tags = {SUITE: results["suite"], CELL: cell["id"], STATUS: cell["status"]} | _source(results)
    if cell["train_key"]:
        tags[TRAIN_KEY] = cell["train_key"]
    if cell["reason"]:
        tags["ddpm_bench.reason"] = _cut(cell["reason"], MAX_TAG)
    singles = {_metric_name(f"eval/{name}"): estimate["value"] for name, estimate in cell["metrics"].items()}
    singles["train/images_per_second"] = cell["timings"].get("images_per_second")
    metrics = {name: {0: float(value)} for name, value in singles.items() if _finite(value) is not None}
    if train := cell["artifacts"].get("train"):
        for row in _rows(runs / train / "curves.csv"):
            for column, name in CURVES.items():
                if (value := _finite(row.get(column))) is not None:
                    metrics.setdefault(name, {})[int(row["step"])] = value
    if timestep_kl:
        metrics["eval/timestep_kl"] = timestep_kl
    tables = {name: table for name, table in results["configuration"].items() if name in TABLES}
    resolved = {"suite": results["suite"], "axes": cell["axes"], "seed": cell["seed"], **tables}
    artifacts: dict[str, Any] = {"configuration.json": resolved, "cell.json": cell}
    for directory in cell["artifacts"].get("samples") or []:
        if (runs / directory / "samples.npy").is_file():
            artifacts["samples.png"] = f"{directory}/samples.npy"
            break
    return _State(
        name=cell["label"],
        status=RUN_STATUS.get(cell["status"], "FINISHED"),
        tags=tags,
        parameters=_parameters(tables, cell),
        metrics=metrics,
        artifacts=artifacts,
        levels=results["data"]["levels"] if results["data"] else None,
    )


def _parameters(tables: dict[str, Any], cell: dict[str, Any]) -> dict[str, str]:
    """The dotted keys of a cell's configuration; an axis stands at its key with the cell's label."""
    flat = _flatten(tables, "")
    for axis, label in cell["axes"].items():
        key = DOTTED.get(axis, axis)
        flat = {name: value for name, value in flat.items() if name != key and not name.startswith(f"{key}.")}
        flat[key] = label
    flat["seed"] = cell["seed"]
    texts = {key: item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for key, item in flat.items()}
    return {key: _cut(text, MAX_VALUE) for key, text in sorted(texts.items())}


def _flatten(table: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _fits(run: Any, state: _State) -> bool:
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


def _source(results: dict[str, Any]) -> dict[str, str]:
    """MLflow's own tags for where a run comes from."""
    commit = results["environment"].get("git")
    return {"mlflow.source.name": "ddpm-bench"} | ({"mlflow.source.git.commit": commit} if commit else {})


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, none without the file. Not pandas: its parser is one bit off in the last digit."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _finite(value: Any) -> float | None:
    """The number, or None for what is empty, null or not finite: MLflow would store it as 0 or 1.8e308."""
    number = math.nan if value in (None, "") else float(value)
    return number if math.isfinite(number) else None


def _metric_name(name: str) -> str:
    """The name with every character that MLflow refuses replaced."""
    return re.sub(r"[^\w./ :-]", "_", name)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_database(uri: str) -> bool:
    return uri.split("://")[0].split("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def _shown(uri: str) -> str:
    """The address without a user's name and password."""
    return re.sub(r"://[^/@]*@", "://", uri)


def _reason(error: Exception) -> str:
    """The system's own word on a connection ("Connection refused"), else the first line of the message."""
    root: BaseException = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    if isinstance(root, OSError) and root.strerror and root.filename is None:
        return root.strerror
    return _cut(next(iter(str(error).splitlines()), type(error).__name__), 300)


def _probe(uri: str) -> None:
    """Open the database once: MLflow itself retries one that cannot be opened for 100 s."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _telemetry_off() -> None:
    """Before mlflow is imported, for this process and its children; MLFLOW_DISABLE_TELEMETRY=false turns it on."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@contextlib.contextmanager
def _quiet_and_quick() -> Iterator[None]:
    """MLflow imported, its short time limits set where the user set none, its log and its libraries' kept down."""
    _telemetry_off()
    import mlflow  # noqa: F401  (it configures its logger, whose level is set below)

    missing = {name: value for name, value in DEFAULTS.items() if name not in os.environ}
    # urllib3 warns of every retry; the one sentence of TrackingError says it.
    levels = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "urllib3.connectionpool": logging.ERROR}
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        os.environ.update(missing)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        for name in missing:
            del os.environ[name]
