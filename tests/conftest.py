"""Fixtures of tests that need a finished run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import ddpm_bench as db
from tests.support import write_suite

torch.set_num_threads(1)  # as workers do: two threads per process collapse when the other core is busy


@dataclass(frozen=True)
class FinishedRun:
    """A folder with a suite file, runs/ and reports/."""

    folder: Path
    suite: Path

    @property
    def runs(self) -> Path:
        """Where the artifacts lie."""
        return self.folder / "runs"

    @property
    def reports(self) -> Path:
        """Where the report lies."""
        return self.folder / "reports"

    def again(self, text: str | None = None, **options: object) -> object:
        """Run the suite again, with another text if given."""
        if text is not None:
            self.suite.write_text(text, encoding="utf-8")
        return db.run(db.load_suite(self.suite), runs=self.runs, reports=self.reports, **options)


@pytest.fixture(scope="session")
def finished_tiny(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The tiny suite, run once; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    run = FinishedRun(folder, write_suite(folder))
    run.again()
    return run


@pytest.fixture
def tiny(finished_tiny: FinishedRun, tmp_path: Path) -> FinishedRun:
    """A copy of the finished tiny run, modification times kept, to be changed by the test."""
    shutil.copytree(finished_tiny.folder, tmp_path / "copy")
    return FinishedRun(tmp_path / "copy", tmp_path / "copy" / "tiny.toml")
