"""A run that is interrupted ends with code 75 and its workers, and the same command goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support import TINY, artifacts, cli, cli_in_background, write_suite

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

# Long enough to be interrupted in the middle of its training.
LONG = TINY.replace("steps = 40", "steps = 100_000").replace('["epsilon", "x0"]', '["epsilon"]')


def workers(parent: int) -> list[int]:
    """The process numbers of the children that run stages."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            ppid = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if ppid == parent:
            found.append(int(place.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    write_suite(tmp_path, LONG)
    with cli_in_background("run", "tiny.toml", "--jobs", "1", cwd=tmp_path) as process:
        deadline = time.monotonic() + 120
        while not any('"progress"' in file.read_text() for file in (tmp_path / "runs/logs/train").glob("*.jsonl")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        children = workers(process.pid)
        assert children
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert out == ""
    assert err.splitlines()[-1] == "interrupted; the same command goes on where this one stopped"
    assert "Traceback" not in err
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a worker outlived its run"
        time.sleep(0.1)
    assert {stage for stage, _ in artifacts(tmp_path / "runs")} == {"data"}
    status = cli("status", cwd=tmp_path)
    assert "2 waiting" in status.stdout.splitlines()[0]
