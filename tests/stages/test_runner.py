"""Running tasks: what a failure leaves, what is passed over, what is tried again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_bench.identity import IDENTITY_VERSION
from ddpm_bench.stages import Context, Task, Verified, baseline, failure_file
from ddpm_bench.stages.runner import Skipped, run_task, run_tasks
from ddpm_bench.store import Artifact, DamagedArtifact
from tests.stages.workbench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "runs")


def task(bench: Bench, data: Artifact, images: int = 9) -> Task:
    return bench.task("baseline", {"split": "test", "images": images}, {"data": data})


def events(bench: Bench, item: Task) -> list[dict[str, Any]]:
    file = bench.runs / "logs" / item.stage / f"{item.key}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def break_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(context: Context) -> None:
        np.save(context.out / "half.npy", np.zeros(3))
        raise ZeroDivisionError("the stage broke")

    monkeypatch.setattr(baseline, "run", run)


def test_a_failure_is_recorded_and_stops_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bench.data()
    bad, good = task(bench, data), task(bench, data, 5)
    run = baseline.run
    with monkeypatch.context() as patch:
        patch.setattr(baseline, "run", lambda context: run(context) if context.spec["images"] == 5 else broken(context))
        assert run_tasks(bench.runs, [bad, good], "cpu") is False
    assert not bench.store.has(bad.stage, bad.key)
    assert bench.store.has(good.stage, good.key)
    record = json.loads(failure_file(bench.runs, bad.stage, bad.key).read_text())
    assert record["reason"] == "ZeroDivisionError: the stage broke"
    assert record["stage"] == "baseline"
    assert "Traceback" in record["traceback"]
    assert "in broken" in record["traceback"]
    assert [event["event"] for event in events(bench, bad)] == ["start", "failed"]
    assert events(bench, bad)[-1]["traceback"] == record["traceback"]
    assert not failure_file(bench.runs, good.stage, good.key).exists()


def broken(context: Context) -> None:
    np.save(context.out / "half.npy", np.zeros(3))
    raise ZeroDivisionError("the stage broke")


def test_the_next_try_removes_the_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    item = task(bench, bench.data())
    with monkeypatch.context() as patch:
        break_stage(patch)
        assert not run_tasks(bench.runs, [item], "cpu")
    assert failure_file(bench.runs, item.stage, item.key).is_file()
    present: list[bool] = []
    run = baseline.run

    def watch(context: Context) -> None:
        present.append(failure_file(bench.runs, item.stage, item.key).exists())
        run(context)

    monkeypatch.setattr(baseline, "run", watch)
    assert run_tasks(bench.runs, [item], "cpu")
    assert present == [False]  # gone as soon as it is tried again
    assert not failure_file(bench.runs, item.stage, item.key).exists()
    assert [event["event"] for event in events(bench, item)] == ["start", "failed", "start", "done"]


@pytest.mark.parametrize("problem", [ZeroDivisionError("broke"), KeyboardInterrupt()])
def test_an_exception_leaves_nothing_half_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, problem: BaseException
) -> None:
    item, inside = task(bench, bench.data()), []

    def run(context: Context) -> None:
        np.save(context.out / "half.npy", np.zeros(3))
        inside.append(context.out)
        raise problem

    monkeypatch.setattr(baseline, "run", run)
    with pytest.raises(type(problem)):
        run_task(bench.runs, bench.store, item, "cpu", Verified())
    assert not inside[0].exists()
    assert list((bench.store.root / "baseline").iterdir()) == []


def test_a_finished_task_is_passed_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    item = task(bench, bench.data())
    assert run_tasks(bench.runs, [item, item], "cpu")
    break_stage(monkeypatch)
    assert run_tasks(bench.runs, [item], "cpu")
    assert [event["event"] for event in events(bench, item)] == ["start", "done"]


def test_without_its_input_a_task_is_left_out(bench: Bench) -> None:
    item = Task("baseline", "ab" * 32, {"split": "test", "images": 9}, {"data": ["data", "cd" * 32]})
    assert run_tasks(bench.runs, [item], "cpu")
    assert events(bench, item) == []
    assert not failure_file(bench.runs, item.stage, item.key).exists()
    with pytest.raises(Skipped):
        run_task(bench.runs, bench.store, item, "cpu", Verified())


@pytest.mark.parametrize("name", ["train", "score"])
def test_without_a_sound_training_a_task_is_left_out(bench: Bench, name: str) -> None:
    """A diverged training is an input that ended early, in a list of inputs too."""
    data = bench.data()
    with bench.store.create("train", "ef" * 32, {"outcome": {"status": "diverged"}}) as out:
        (out / "raw.safetensors").write_bytes(b"nan")
    place = ["train", "ef" * 32]
    inputs = {"data": ["data", data.path.name], name: place if name == "train" else [place]}
    item = Task("likelihood", "ab" * 32, {}, inputs)
    assert run_tasks(bench.runs, [item], "cpu")
    assert not bench.store.has(item.stage, item.key)
    assert events(bench, item) == []


def test_a_damaged_input_is_a_failure_that_says_what_to_do(bench: Bench) -> None:
    data = bench.data()
    file = data.path / "test.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    item = task(bench, data)
    assert not run_tasks(bench.runs, [item], "cpu")
    reason = json.loads(failure_file(bench.runs, item.stage, item.key).read_text())["reason"]
    assert reason.startswith("DamagedArtifact")
    assert str(file) in reason
    assert "remove" in reason


def test_an_artifact_is_verified_once_per_process(bench: Bench) -> None:
    data, cache = bench.data(), Verified()
    assert cache(data) is cache(bench.store.get("data", data.path.name))
    (data.path / "test.npy").write_bytes(b"")
    cache(bench.store.get("data", data.path.name))
    with pytest.raises(DamagedArtifact):
        Verified()(data)


def test_what_a_manifest_says(bench: Bench) -> None:
    data = bench.data()
    item = bench.task("baseline", {"split": "test", "images": 9}, {"data": data}, note="a knob")
    run_task(bench.runs, bench.store, item, "cpu", Verified())
    manifest = bench.store.get(item.stage, item.key).manifest
    assert manifest["schema"] == 1
    assert (manifest["stage"], manifest["key"], manifest["spec"], manifest["inputs"]) == (
        "baseline", item.key, item.spec, item.inputs,
    )  # fmt: skip
    assert (manifest["version"], manifest["identity"]) == (baseline.VERSION, IDENTITY_VERSION)
    assert manifest["recorded"]["note"] == "a knob"
    assert manifest["recorded"]["device"] == "cpu"
    assert manifest["recorded"]["environment"]["packages"]["torch"]
    assert manifest["timings"]["seconds"] >= 0
    assert set(manifest["files"]) == {"estimates.json"}


def test_progress_is_sparse_and_ends(bench: Bench) -> None:
    from ddpm_bench.stages import Log

    log = Log(bench.runs, "sample", "ab" * 32)
    for done in range(1, 1001):
        log.progress(done, 1000, "calls")
    found = [json.loads(line) for line in log.file.read_text().splitlines()]
    assert len(found) < 20
    assert (found[-1]["done"], found[-1]["total"], found[-1]["unit"]) == (1000, 1000, "calls")
