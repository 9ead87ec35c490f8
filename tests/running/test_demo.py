"""What `make demo` does after its run: the comparison with an untrained network, on a run of a few steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY, cli

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]


def test_the_demo_says_whether_it_learned(tmp_path: Path) -> None:
    """Thirty steps need not be enough: it ends with 0 or 1 and a line for each comparison, never in between."""
    short = ["training.steps=30", "training.warmup_steps=5", "evaluation.images=20"]
    flags = [part for setting in short for part in ("--set", setting)]
    done = cli("run", REPOSITORY / "suites" / "digits_quickstart.toml", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "benchmarks.quickstart_learns"]
    asked = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert asked.returncode in (0, 1), asked.stderr
    assert "Traceback" not in asked.stderr
    verdicts = [line.split()[0] for line in asked.stdout.splitlines() if " < " in line or " ≥ " in line]
    assert len(verdicts) == 12, asked.stdout
    assert (asked.returncode == 0) == (set(verdicts) == {"ok"})
