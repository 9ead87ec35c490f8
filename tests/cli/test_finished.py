"""Looking at a finished run: status, logs, report, track."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest

from ddpm_bench import tracking
from ddpm_bench.cli.logs import event_lines
from ddpm_bench.records import read_plan
from ddpm_bench.stages import Log
from ddpm_bench.store import write_json
from tests.cli.conftest import Call
from tests.conftest import FinishedRun
from tests.support import cli

pytestmark = pytest.mark.xdist_group("runs")

CELL = "epsilon-beta-cosine-simple-s0"


def likelihood_key(run: FinishedRun) -> str:
    key: str = read_plan(run.runs, "tiny")["cells"][0]["likelihood"]["test"]
    return key


def test_status(call: Call, finished_tiny: FinishedRun) -> None:
    answer = call("status", "--runs", finished_tiny.runs)
    assert (answer.code, answer.err) == (0, "")
    first, *table = answer.out.splitlines()
    assert first == "A tiny suite (tiny): 4 done"
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in table if line.startswith("│")]
    assert rows[0] == [CELL, "done", "9/9"]
    assert [row[1:] for row in rows] == [["done", "9/9"]] * 4
    assert call("status", "tiny", "--runs", finished_tiny.runs).out == answer.out
    assert call("status", finished_tiny.suite, "--runs", finished_tiny.runs).out == answer.out


def test_status_says_where_artifacts_lie(call: Call, finished_tiny: FinishedRun) -> None:
    answer = call("status", "--paths", "--runs", finished_tiny.runs)
    places = [line.split() for line in answer.out.splitlines() if line.startswith("  ")]
    assert len(places) == 36
    assert {stage for stage, _ in places} == {
        "data", "train", "score", "likelihood", "sample", "gallery", "nearest", "forward",
    }  # fmt: skip
    assert all((Path(place) / "manifest.json").is_file() for _, place in places)


def test_status_of_cells_that_are_not_done(call: Call, tiny: FinishedRun) -> None:
    plan = read_plan(tiny.runs, "tiny")
    keys = [cell["likelihood"]["test"] for cell in plan["cells"]]
    for key in keys[:3]:
        shutil.rmtree(tiny.runs / "store" / "likelihood" / key)
    write_json(tiny.runs / "logs/likelihood" / f"{keys[0]}.failed.json", {"reason": "RuntimeError: " + "long " * 30})
    Log(tiny.runs, "likelihood", keys[1]).write("start")
    answer = call("status", "--runs", tiny.runs)
    lines = answer.out.splitlines()
    assert lines[0] == "A tiny suite (tiny): 1 failed, 1 running, 1 waiting, 1 done"
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert [row[1:] for row in rows] == [
        ["failed", "8/9"], ["running (likelihood)", "8/9"], ["waiting", "8/9"], ["done", "9/9"],
    ]  # fmt: skip
    assert lines[-1].rstrip() == f"{CELL}: failed: likelihood: RuntimeError: " + ("long " * 30).rstrip()
    assert max(map(len, lines[1:-1])) <= 80


def test_logs(call: Call, finished_tiny: FinishedRun) -> None:
    answer = call("logs", CELL, "--runs", finished_tiny.runs)
    assert (answer.code, answer.err) == (0, "")
    heads = re.findall(r"^── (\w+) [0-9a-f]{12}$", answer.out, re.MULTILINE)
    assert heads == ["data", "train", "score", "likelihood", "sample", "gallery", "nearest", "nearest", "forward"]
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  progress    40 of 40 steps, [0-9.]+ per second$", answer.out,
                     re.MULTILINE)  # fmt: skip
    assert answer.out.count("checkpoint") == 1
    assert call("logs", CELL, "--suite", "tiny", "--runs", finished_tiny.runs).out == answer.out


def test_logs_of_a_failure_end_with_its_traceback(call: Call, tiny: FinishedRun) -> None:
    log = Log(tiny.runs, "likelihood", likelihood_key(tiny))
    log.write("start", stage="likelihood")
    log.write("failed", reason="RuntimeError: broke", traceback="Traceback (most recent call last):\n  …\nbroke\n")
    out = call("logs", CELL, "--runs", tiny.runs).out
    assert re.search(r"failed      reason RuntimeError: broke\nTraceback \(most recent call last\):\n  …\nbroke\n", out)


def test_logs_of_an_unknown_cell(call: Call, finished_tiny: FinishedRun) -> None:
    answer = call("logs", "epsilon-beta-cosine-simple-s1", "--runs", finished_tiny.runs)
    assert answer.code == 2
    assert answer.err == (
        f'suite "tiny" has no cell "epsilon-beta-cosine-simple-s1"; did you mean "{CELL}"?\n'
    )  # fmt: skip


def test_logs_of_a_cell_that_has_not_begun(call: Call, tiny: FinishedRun) -> None:
    shutil.rmtree(tiny.runs / "logs")
    answer = call("logs", CELL, "--runs", tiny.runs)
    assert answer.out == f'nothing of "{CELL}" has begun; `ddpm-bench status tiny` shows how far the suite is\n'


def test_lines_of_a_log() -> None:
    events = [
        {"event": "start", "stage": "train"}, {"event": "progress", "done": 1, "total": 9, "unit": "steps"},
        {"event": "checkpoint", "step": 3}, {"event": "progress", "done": 5, "total": 9, "unit": "steps"},
        {"event": "died", "code": -9}, {"event": "start", "stage": "train"}, {"event": "resume", "step": 3},
        {"event": "progress", "done": 4, "total": 9, "unit": "steps", "per_second": 12.3456},
    ]  # fmt: skip
    text = "".join(json.dumps({"time": 0.0, "pid": 1, **event}) + "\n" for event in events)
    lines = [line[21:] for line in event_lines(text + '{"time": 0.0, "pid": 1, "eve')]  # cut off
    assert lines == [
        "start", "checkpoint  step 3", "progress    5 of 9 steps", "died        code -9", "start",
        "resume      step 3", "progress    4 of 9 steps, 12.3 per second",
    ]  # fmt: skip


def values(run: FinishedRun) -> dict[str, float]:
    """Label of the cell → bits/dim."""
    found = json.loads((run.runs / "suites/tiny/results.json").read_text(encoding="utf-8"))
    return {cell["id"]: cell["metrics"]["bits_per_dim"]["value"] for cell in found["cells"]}


def test_report(call: Call, finished_tiny: FinishedRun, tmp_path: Path) -> None:
    answer = call("report", "--runs", finished_tiny.runs, "--reports", tmp_path / "out")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{tmp_path / 'out' / 'tiny' / 'index.html'}\n"
    assert Path(answer.out.strip()).read_bytes() == (finished_tiny.reports / "tiny" / "index.html").read_bytes()


@pytest.mark.parametrize("format", ["csv", "json", "markdown", "latex"])
def test_report_formats_print_and_write_nothing(call: Call, finished_tiny: FinishedRun, format: str) -> None:
    answer = call("report", "tiny", "--format", format, "--runs", finished_tiny.runs)
    assert (answer.code, answer.err) == (0, "")
    assert not list(Path().iterdir())
    bits = list(values(finished_tiny).values())
    if format == "json":
        assert answer.out == (finished_tiny.runs / "suites/tiny/results.json").read_text(encoding="utf-8")
        return
    suffix = {"csv": "csv", "markdown": "md", "latex": "tex"}[format]
    assert answer.out == (finished_tiny.reports / "tiny" / f"table.{suffix}").read_text(encoding="utf-8")
    if format == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.out)))
        assert [float(row["bits_per_dim"]) for row in rows[:4]] == bits
    else:
        assert sum(f"{value:.2f}"[:-1] in answer.out for value in bits) == 4
        assert answer.out.startswith({"markdown": "| prediction |", "latex": r"\begin{tabular}"}[format])


def test_track_sync(call: Call, tiny: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    arguments = ("track", "sync", "--runs", tiny.runs, "--reports", tiny.reports)
    first = call(*arguments)  # the copied store lies elsewhere: its runs get their new place
    assert first.code == 0
    assert re.fullmatch(r"tiny: .*5 runs.* at sqlite:///.*/runs/mlflow\.db\n", first.out)
    assert call(*arguments).out == f"tiny: up to date (5 runs) at {tracking.tracking_uri(tiny.runs)}\n"


def test_track_sync_without_a_server(call: Call, tiny: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    answer = call("track", "sync", "--runs", tiny.runs)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("tiny: MLflow at http://127.0.0.1:1 could not be brought up to date: ")
    assert len(answer.errors) == 1


def test_a_second_run_says_that_there_is_nothing_to_do(tiny: FinishedRun) -> None:
    done = cli("run", "tiny.toml", cwd=tiny.folder, COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["tiny: nothing to do, every artifact exists already.", "A tiny suite"]
    for value in values(tiny).values():
        assert f"{value:.2f}"[:-1] in done.stdout
    assert lines[-4:] == [
        "report   reports/tiny/index.html",
        "results  runs/suites/tiny/results.json",
        f"MLflow   {tracking.tracking_uri(tiny.runs)}",
        "next     open the report in a browser; `ddpm-bench ui` shows the curves",
    ]
    assert max(len(line) for line in lines if not line.startswith("MLflow")) <= 80


def test_a_damaged_artifact_fails_what_reads_it_with_its_name(call: Call, tiny: FinishedRun) -> None:
    plan = read_plan(tiny.runs, "tiny")["cells"][0]
    file = tiny.runs / "store" / "score" / plan["score"]["test"][0] / "squared_error_none.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    shutil.rmtree(tiny.runs / "store" / "likelihood" / plan["likelihood"]["test"])
    done = cli("run", "tiny.toml", cwd=tiny.folder)
    assert done.returncode == 1
    assert f"failed: {CELL}; `ddpm-bench logs {CELL}` shows why" in done.stderr.splitlines()
    place = Path("runs") / file.relative_to(tiny.runs)
    reason = f"DamagedArtifact: {place} is not what its manifest says; remove {place.parent} and run again"
    assert f"failed: likelihood: {reason}" in done.stdout
    assert reason in call("logs", CELL, "--runs", tiny.runs).out
