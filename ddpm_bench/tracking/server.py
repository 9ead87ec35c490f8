"""Where MLflow is, how it is started, and its habits: retries, logs and telemetry."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ddpm_bench.errors import UserError

DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's own defaults retry a dead server for minutes; these hold during a sync where the user has set nothing."""


class TrackingError(Exception):
    """MLflow could not be brought up to date, in one sentence; the results are unharmed."""


def tracking_uri(runs: Path) -> str:
    """MLFLOW_TRACKING_URI, or the sqlite store runs/mlflow.db."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(runs / 'mlflow.db').resolve().as_posix()}"


def ui_command(runs: Path, port: int) -> list[str]:
    """The command line of MLflow's UI on this store; it inherits that telemetry is off unless the user turned it on.

    Raises UserError where MLFLOW_TRACKING_URI is a server, which has a UI of its own.
    """
    uri = tracking_uri(runs)
    if not is_database(uri):
        raise UserError(
            f"MLFLOW_TRACKING_URI={shown(uri)} is no database: a server has its own UI, open that in a browser"
        )
    telemetry_off()
    artifacts = (runs / "mlartifacts").resolve().as_uri()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--default-artifact-root", artifacts]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def is_database(uri: str) -> bool:
    return uri.split("://")[0].split("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def shown(uri: str) -> str:
    """The address without a user's name and password."""
    return re.sub(r"://[^/@]*@", "://", uri)


def reason(error: Exception) -> str:
    """The system's own word on a connection ("Connection refused"), else the first line of the message."""
    root: BaseException = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    if isinstance(root, OSError) and root.strerror and root.filename is None:
        return root.strerror
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]


def probe(uri: str) -> None:
    """Open the database once: MLflow itself retries one that cannot be opened for 100 s."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def telemetry_off() -> None:
    """Before mlflow is imported, for this process and its children; MLFLOW_DISABLE_TELEMETRY=false turns it on."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@contextlib.contextmanager
def quiet_and_quick() -> Iterator[None]:
    """MLflow imported, its short time limits set where the user set none, its log and its libraries' kept down."""
    telemetry_off()
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
