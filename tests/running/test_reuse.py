"""Finished work is reused, never redone: what exactly a change recomputes."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from tests.conftest import FinishedRun
from tests.support import TINY, artifacts, stable_results, store_state

pytestmark = pytest.mark.xdist_group("runs")


def new_stages(run: FinishedRun, text: str | None = None) -> list[str]:
    before = artifacts(run.runs)
    run.again(text)
    return sorted(stage for stage, _ in artifacts(run.runs) - before)


def test_four_cells_two_trainings(finished_tiny: FinishedRun) -> None:
    stages = [stage for stage, _ in artifacts(finished_tiny.runs)]
    assert stages.count("train") == 2
    assert stages.count("score") == 2  # σ² is arithmetic on a score
    assert stages.count("likelihood") == 4
    assert stages.count("sample") == 4


def test_second_run_calls_no_stage_and_changes_no_file(tiny: FinishedRun) -> None:
    before, results = store_state(tiny.runs), (tiny.runs / "suites/tiny/results.json").read_bytes()
    started = time.monotonic()
    outcome = tiny.again()
    assert outcome.tasks_run == 0  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5.0  # the product's promise; imports are done in this process
    assert store_state(tiny.runs) == before
    assert (tiny.runs / "suites/tiny/results.json").read_bytes() == results


def test_a_removed_likelihood_is_recomputed_alone(tiny: FinishedRun) -> None:
    results = stable_results(tiny.runs)
    stage, key = next(item for item in sorted(artifacts(tiny.runs)) if item[0] == "likelihood")
    shutil.rmtree(tiny.runs / "store" / stage / key)
    before = store_state(tiny.runs)
    assert new_stages(tiny) == ["likelihood"]
    after = store_state(tiny.runs)
    assert {name for name in after if after[name] != before.get(name)} == {
        name for name in after if name.startswith(f"likelihood/{key}/")
    }
    assert stable_results(tiny.runs) == results


def test_more_samples_train_nothing(tiny: FinishedRun) -> None:
    assert new_stages(tiny, TINY.replace("samples = 20", "samples = 30")) == ["nearest"] * 4 + ["sample"] * 4


def test_another_seed_trains_only_that_seed(tiny: FinishedRun) -> None:
    found = new_stages(tiny, TINY + "seed = [0, 1]\n")
    assert {stage: found.count(stage) for stage in found} == {
        "train": 2, "score": 2, "likelihood": 4, "sample": 4, "gallery": 4, "nearest": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        ('title = "A tiny suite"', 'title = "Another title"'),
        ("[matrix]", '[[claim]]\nstatement = "s"\nmetric = "bits_per_dim"\n'
         'better = { prediction = "epsilon" }\nthan = { prediction = "x0" }\n[matrix]'),
    ],
)  # fmt: skip
def test_a_title_or_a_claim_runs_no_stage(tiny: FinishedRun, change: tuple[str, str]) -> None:
    before = store_state(tiny.runs)
    assert new_stages(tiny, TINY.replace(*change)) == []
    assert store_state(tiny.runs) == before


def test_longer_training_goes_on_from_the_shorter_one(tiny: FinishedRun, tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = new_stages(tiny, TINY.replace("steps = 40", "steps = 60"))
    assert found.count("train") == 2
    logs = [file.read_text() for file in (tiny.runs / "logs" / "train").glob("*.jsonl")]
    resumed = [json.loads(line) for text in logs for line in text.splitlines() if '"resume"' in line]
    assert [event["step"] for event in resumed] == [40, 40]
    straight = FinishedRun(tmp_path / "straight", tmp_path / "straight" / "tiny.toml")
    straight.folder.mkdir()
    straight.again(TINY.replace("steps = 40", "steps = 60"))
    trained = [item for item in artifacts(straight.runs) if item[0] == "train"]
    assert trained
    for stage, key in trained:
        for name in ("raw.safetensors", "ema.safetensors"):
            paths = [run.runs / "store" / stage / key / name for run in (tiny, straight)]
            assert paths[0].read_bytes() == paths[1].read_bytes()


def test_only_keeps_the_results_of_the_other_cells(tiny: FinishedRun) -> None:
    import ddpm_bench as db

    suite = db.load_suite(tiny.suite, only=("prediction=x0",))
    outcome = db.run(suite, runs=tiny.runs, reports=tiny.reports)
    assert [cell.status for cell in outcome.results.cells] == ["done"] * 4
