"""The MLflow mirror: `sync` brings MLflow to the state of a suite's results, and writes nothing where it already is.

Results are the truth and MLflow is made from them, so losing or deleting the mirror loses nothing. `wanted.py` says
what MLflow has to hold, `mirror.py` brings it there, `server.py` knows addresses and MLflow's habits. Importing this
package does not import mlflow.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from ddpm_bench.tracking.grid import sample_grid
from ddpm_bench.tracking.mirror import Mirror, SyncReport
from ddpm_bench.tracking.server import TrackingError, quiet_and_quick, reason, shown, tracking_uri, ui_command
from ddpm_bench.tracking.wanted import STORE, SYNCED, states

__all__ = ["STORE", "SYNCED", "SyncReport", "TrackingError", "sample_grid", "sync", "tracking_uri", "ui_command"]

LOCK_SECONDS = 120


def sync(runs: Path, suite: str, report: Path | None = None) -> SyncReport:
    """Bring MLflow to the state of runs/suites/<suite>; a second call writes nothing.

    runs: the directory of suites/ and store/. report: the suite's index.html, an artifact of the parent if it exists.
    One experiment and one parent run per suite name, one child run per cell, found again by their tags. Processes
    that sync at once take turns under runs/.mlflow.lock, which also guards the creation of the database.
    Raises UserError without results of that name, TrackingError when MLflow does not answer or refuses.
    """
    parent, cells = states(runs, suite, report)
    uri = tracking_uri(runs)
    with quiet_and_quick():
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with FileLock(runs / ".mlflow.lock", timeout=LOCK_SECONDS):
                return Mirror(uri, runs, suite).bring(parent, cells)
        except Timeout as error:
            raise TrackingError(f"another process has been syncing {runs} for {LOCK_SECONDS} s") from error
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # ImportError: a database's driver
            why = reason(error).replace(uri, shown(uri))
            raise TrackingError(f"MLflow at {shown(uri)} could not be brought up to date: {why}") from error
