"""A run killed at any moment resumes and ends in the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import TINY, cli, cli_in_background, stable_results, write_suite

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

SUITE = TINY.replace("steps = 40", "steps = 400").replace("timesteps = 10", "timesteps = 200")
SUITE = SUITE.replace("samples = 20", "samples = 200").replace('["epsilon", "x0"]', '["epsilon"]')


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_suite(folder, SUITE)
    done = cli("run", "tiny.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def events(runs: Path, stage: str) -> list[dict]:  # type: ignore[type-arg]
    found = []
    for file in sorted((runs / "logs" / stage).glob("*.jsonl")):
        text = file.read_text()
        found += [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return found


def wait_for(condition, process: subprocess.Popen[str]) -> None:  # type: ignore[no-untyped-def,type-arg]
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("victim", ["worker", "run"])
@pytest.mark.parametrize("stage", ["train", "sample"])
def test_sigkill(uninterrupted: Path, tmp_path: Path, stage: str, victim: str) -> None:
    write_suite(tmp_path, SUITE)
    runs = tmp_path / "runs"

    def inside() -> list[dict]:  # type: ignore[type-arg]
        """Progress events of the stage that prove it is under way; in training after the first checkpoint."""
        found = events(runs, stage)
        begun = any(event["event"] == "checkpoint" for event in found) if stage == "train" else True
        last = found[-1] if found else None
        inner = begun and last and last["event"] == "progress" and last["done"] < last["total"]
        return [last] if inner else []  # type: ignore[list-item]

    with cli_in_background("run", "tiny.toml", cwd=tmp_path) as process:
        wait_for(inside, process)
        worker = inside()[0]["pid"] if inside() else events(runs, stage)[-1]["pid"]
        os.kill(worker if victim == "worker" else process.pid, signal.SIGKILL)
        if victim == "worker":  # the run submits the job again by itself
            process.communicate(timeout=300)
            assert process.returncode == 0
        else:
            process.wait(timeout=60)
            finished = {event["event"] for event in events(runs, stage)}
            assert stage != "train" or "done" not in finished, "the kill came after the stage"
            deadline = time.monotonic() + 30
            while Path(f"/proc/{worker}").exists():  # the worker ends when its run does
                assert time.monotonic() < deadline
                time.sleep(0.05)
            done = cli("run", "tiny.toml", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    starts = [event for event in events(runs, stage) if event["event"] == "start"]
    normal = [event for event in events(uninterrupted / "runs", stage) if event["event"] == "start"]
    assert len(starts) > len(normal), "the kill did not hit inside the stage"
    if stage == "train":
        assert any(event["event"] == "resume" for event in events(runs, "train"))
    assert stable_results(runs) == stable_results(uninterrupted / "runs")
