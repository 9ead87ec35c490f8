"""What a run shows while it goes on: a live display on a terminal, plain lines otherwise."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len

from ddpm_bench import progress
from ddpm_bench.executors import Job
from ddpm_bench.executors.local import Worker
from ddpm_bench.progress import Display, clock, newest_event
from ddpm_bench.stages import Log, Task

TRAIN, SCORE = (Task(stage, stage[0] * 64, {}, {}) for stage in ("train", "score"))


def worker(name: str = "ε, σ²=β, linear, L_simple (+1)") -> Worker:
    """A slot whose process is this one."""
    process: Any = SimpleNamespace(pid=os.getpid())
    return Worker("cpu", process=process, job=Job(name, [TRAIN, SCORE]))


def finish(runs: Path, task: Task) -> None:
    folder = runs / "store" / task.stage / task.key
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")


def test_what_a_worker_does(tmp_path: Path) -> None:
    busy = worker("a job")
    display = Display(tmp_path, [busy.job], io.StringIO())  # type: ignore[list-item]
    log = Log(tmp_path, "train", TRAIN.key)
    assert display.describe(Worker("cpu"))[:2] == ("idle", "")
    assert display.describe(busy)[:2] == ("train: a job", "starting")
    log.write("start", stage="train")
    assert display.describe(busy)[:2] == ("train: a job", "begun")
    log.progress(10, 50, "steps", per_second=4.0)
    log.write("checkpoint", step=10)  # says nothing about how far it is
    name, detail, done, total = display.describe(busy)
    assert (name, done, total) == ("train: a job", 10, 50)
    assert re.fullmatch(r"10/50 steps  4/s  0:10 left  \d+ MiB", detail)
    finish(tmp_path, TRAIN)
    assert display.describe(busy)[:2] == ("score: a job", "starting")
    finish(tmp_path, SCORE)
    assert display.describe(busy)[:2] == ("a job", "ending")


def test_the_log_of_an_earlier_process_does_not_count(tmp_path: Path) -> None:
    log = Log(tmp_path, "train", TRAIN.key)
    log.write("start")
    log.progress(50, 50, "steps")
    assert newest_event(log.file, os.getpid())["done"] == 50  # type: ignore[index]
    assert newest_event(log.file, os.getpid() + 1) is None
    assert newest_event(tmp_path / "none.jsonl", os.getpid()) is None


def test_the_end_of_a_long_log_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    lines = [json.dumps({"pid": 1, "event": "progress", "done": i}) for i in range(1000)]
    file.write_text("\n".join(lines) + '\n{"pid": 1, "event": "prog')
    assert file.stat().st_size > 2 * progress.TAIL
    assert newest_event(file, 1)["done"] == 999  # type: ignore[index]


def test_plain_lines(tmp_path: Path) -> None:
    out, busy = io.StringIO(), worker()
    with Display(tmp_path, [busy.job], out) as display:  # type: ignore[list-item]
        finish(tmp_path, TRAIN)
        log = Log(tmp_path, "score", SCORE.key)
        log.write("start")
        log.progress(24, 24, "calls")
        for _ in range(3):  # too early for a speed
            display.tick([busy, Worker("cpu")])  # one line a worker and PLAIN_SECONDS, none of one that is idle
    assert re.fullmatch(
        r"\[ 0:00\]   1/2  score: ε, σ²=β, linear, L_simple \(\+1\)  24/24 calls  \d+ MiB\n",
        out.getvalue(),
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 140])
def test_the_live_display_fits_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    out, busy = Terminal(), worker("ε, σ²=β̃, cosine(s=0.01), L_simple(weighting=snr) (+3)")
    with Display(tmp_path, [busy.job], out) as display:  # type: ignore[list-item]
        log = Log(tmp_path, "train", TRAIN.key)
        log.write("start")
        log.progress(799_999, 800_000, "steps", per_second=123.4)
        log.progress(800_000, 800_000, "steps", per_second=123.4)
        display.tick([busy, Worker("cpu")])
        display._progress.refresh()
    frame = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).strip("\r ") for line in out.getvalue().splitlines()]
    rows = [line for line in frame if "800000/800000" in line]
    assert rows
    for row in rows:
        assert cell_len(row) <= columns
        assert "━" in row  # the bar is there
        assert re.search(r"800000/800000 steps  123/s  0:00 left  \d+ MiB$", row)  # nothing is cut off
    assert any("0/2 artifacts" in line for line in frame)
    assert any(line.startswith("idle") for line in frame)


def test_clock() -> None:
    assert [clock(value) for value in (0.0, 65.9, 7209)] == ["0:00", "1:05", "2:00:09"]
