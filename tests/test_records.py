"""What a run leaves beside its store: results.json, results.csv and timestep_kl.csv, and what they say of trouble."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ddpm_bench as db
from ddpm_bench import records
from ddpm_bench.collecting import Collector, last_event
from ddpm_bench.errors import UserError
from ddpm_bench.stages import Log
from ddpm_bench.store import write_json
from tests.conftest import FinishedRun

pytestmark = pytest.mark.xdist_group("runs")

T = 10
EPSILON = "epsilon-beta-cosine-simple-s0"


def results(run: FinishedRun) -> dict[str, Any]:
    return json.loads((run.runs / "suites/tiny/results.json").read_text(encoding="utf-8"))


def rows(run: FinishedRun, name: str) -> list[dict[str, str]]:
    with open(run.runs / "suites/tiny" / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def header(run: FinishedRun, name: str) -> str:
    return (run.runs / "suites/tiny" / name).read_text(encoding="utf-8").partition("\n")[0]


def cell(run: FinishedRun, cell_id: str = EPSILON) -> dict[str, Any]:
    return next(cell for cell in results(run)["cells"] if cell["id"] == cell_id)


def plan_cell(run: FinishedRun, cell_id: str = EPSILON) -> dict[str, Any]:
    return next(cell for cell in records.read_plan(run.runs, "tiny")["cells"] if cell["id"] == cell_id)


# The files


def test_columns_of_results_csv(finished_tiny: FinishedRun) -> None:
    assert header(finished_tiny, "results.csv") == (
        "suite,cell_id,label,seed,prediction,variance,status,reason,train_key,metric,value,stderr,stderr_noise,"
        "num_samples,unit,higher_is_better,extractor,n_generated,n_reference,reference_split"
    )


def test_columns_of_timestep_kl_csv(finished_tiny: FinishedRun) -> None:
    assert header(finished_tiny, "timestep_kl.csv") == (
        "cell_id,seed,t,kl,stderr,kl_variance,kl_mean,epsilon_mse,x0_mse,log_snr,log_sigma2,head,rate,distortion"
    )


def test_columns_of_log_snr_kl_csv(finished_tiny: FinishedRun) -> None:
    assert header(finished_tiny, "log_snr_kl.csv") == "cell_id,seed,log_snr,kl_density,epsilon_mse,x0_mse"


def test_results_csv_says_what_results_json_says(finished_tiny: FinishedRun) -> None:
    found, table = results(finished_tiny), rows(finished_tiny, "results.csv")
    expected = [
        {
            "suite": "tiny", "cell_id": cell["id"], "label": cell["label"], "seed": "0", "status": "done", "reason": "",
            "prediction": cell["axes"]["prediction"], "variance": cell["axes"]["variance"],
            "train_key": cell["train_key"], "metric": name, "value": json.dumps(metric["value"]),
            "stderr": "" if metric["stderr"] is None else json.dumps(metric["stderr"]),
            "stderr_noise": "" if metric["stderr_noise"] is None else json.dumps(metric["stderr_noise"]),
            "num_samples": str(metric["num_samples"]), "unit": metric["unit"], "higher_is_better": "False",
            "extractor": "", "n_generated": "", "n_reference": "", "reference_split": "",
        }
        for cell in found["cells"] for name, metric in cell["metrics"].items()
    ]  # fmt: skip
    assert table == expected
    assert len(table) == 4 * 6  # four cells, the bound with its four parts and its network part


def test_timestep_kl_csv_adds_up_to_the_bound(finished_tiny: FinishedRun) -> None:
    table = rows(finished_tiny, "timestep_kl.csv")
    for found in results(finished_tiny)["cells"]:
        mine = [row for row in table if row["cell_id"] == found["id"]]
        assert [int(row["t"]) for row in mine] == list(range(1, T + 1))
        assert (mine[0]["kl_variance"], mine[0]["kl_mean"]) == ("", "")  # L_0 has no parts
        assert {row["seed"] for row in mine} == {"0"}
        metrics = {name: metric["value"] for name, metric in found["metrics"].items()}
        # Sums of at most 24 · 10 float64 of size 10: 240 · 10 · 1.1e-16 = 3e-13.
        near = {"abs": 1e-11}
        assert float(mine[0]["kl"]) == pytest.approx(metrics["bits_per_dim_l_0"], **near)
        total = sum(float(row["kl"]) for row in mine) + metrics["bits_per_dim_l_T"]
        assert total == pytest.approx(metrics["bits_per_dim"], **near)
        for part, column in (("variance_cost", "kl_variance"), ("mean_cost", "kl_mean")):
            total = sum(float(row[column]) for row in mine[1:])
            assert total == pytest.approx(metrics[f"bits_per_dim_{part}"], **near)


def test_log_snr_kl_csv_is_made_of_timestep_kl_csv(finished_tiny: FinishedRun) -> None:
    table, terms = rows(finished_tiny, "log_snr_kl.csv"), rows(finished_tiny, "timestep_kl.csv")
    for record in results(finished_tiny)["cells"]:
        mine = [row for row in table if row["cell_id"] == record["id"]]
        steps = [row for row in terms if row["cell_id"] == record["id"]]
        log_snr = [float(row["log_snr"]) for row in steps]
        points = [float(row["log_snr"]) for row in mine]
        assert points == [0.5 * i for i in range(round(2 * points[0]), round(2 * points[-1]) + 1)]
        assert log_snr[-1] <= points[0] < log_snr[-1] + 0.5
        assert log_snr[0] - 0.5 < points[-1] <= log_snr[0]
        for point, row in zip(points, mine, strict=True):
            at = next(i for i in range(1, T) if log_snr[i] <= point <= log_snr[i - 1])
            if log_snr[at] <= point - 0.25 and point + 0.25 <= log_snr[at - 1]:  # within one step
                width = log_snr[at - 1] - log_snr[at]
                assert float(row["kl_density"]) == pytest.approx(float(steps[at]["kl"]) / width, rel=1e-12)
            ends = sorted(float(steps[i]["x0_mse"]) for i in (at - 1, at))
            assert ends[0] - 1e-12 <= float(row["x0_mse"]) <= ends[1] + 1e-12  # linear between them


def test_results_json(finished_tiny: FinishedRun) -> None:
    found = results(finished_tiny)
    assert (found["schema"], found["suite"], found["title"]) == (1, "tiny", "A tiny suite")
    assert found["axes"] == ["prediction", "variance"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["created"])
    assert found["data"] == {**found["data"], "shape": [1, 8, 8], "levels": 17, "num_train": 1293}
    assert found["timings"]["total_seconds"] > 0
    assert {"torch", "numpy", "mlflow"} <= found["environment"]["packages"].keys()
    sharing = {cell["id"]: cell["shares_training_with"] for cell in found["cells"]}
    assert sharing[EPSILON] == ["epsilon-beta_tilde-cosine-simple-s0"]
    for record in found["cells"]:
        assert record["axes"].keys() == {
            "prediction", "variance", "schedule", "loss", "sampler", "sampling_steps", "thresholding", "timesteps",
        }  # fmt: skip
        assert (record["status"], record["reason"]) == ("done", None)
        assert record["training"]["steps"] == 40
        assert record["training"]["divergence"] is None
        assert record["fit"] is None  # of β and β̃
        places = [
            record["artifacts"]["train"],
            *record["artifacts"]["samples"],
            record["artifacts"]["likelihood"]["test"],
        ]
        for place in places:  # relative to runs/, so that a store may be moved
            assert (finished_tiny.runs / place / "manifest.json").is_file()
        assert (finished_tiny.runs / record["log"]).is_file()
    assert [(item["name"], item["metric"]) for item in found["baselines"]] == [
        ("uniform code", "bits_per_dim"), ("per-pixel histogram", "bits_per_dim"),
    ]  # fmt: skip


# Bringing them up to date


def test_nothing_is_written_where_nothing_changed(tiny: FinishedRun) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in (tiny.runs / "suites/tiny").iterdir()}
    assert records.update(tiny.runs, "tiny") is False
    assert {file.name: file.stat().st_mtime_ns for file in (tiny.runs / "suites/tiny").iterdir()} == before


def test_a_suite_without_timestep_kl_has_no_table_of_it(tiny: FinishedRun) -> None:
    plan = records.read_plan(tiny.runs, "tiny")
    plan["configuration"]["evaluation"]["metrics"] = ["bits_per_dim"]
    write_json(tiny.runs / "suites/tiny/plan.json", plan)
    assert records.update(tiny.runs, "tiny") is True
    assert not (tiny.runs / "suites/tiny/timestep_kl.csv").exists()
    assert not (tiny.runs / "suites/tiny/log_snr_kl.csv").exists()


def test_each_further_split_has_a_table_over_timesteps(tiny: FinishedRun) -> None:
    folder = tiny.runs / "suites/tiny"
    before = (folder / "timestep_kl.csv").read_bytes()
    plan = records.read_plan(tiny.runs, "tiny")
    kept = json.dumps(plan)
    plan["configuration"]["evaluation"]["splits"] = ["validation", "test"]
    for entry in plan["cells"][:2]:
        entry["likelihood"]["validation"] = entry["likelihood"]["test"]  # stands for a score of that split
    write_json(folder / "plan.json", plan)
    assert records.update(tiny.runs, "tiny") is True
    found = rows(tiny, "timestep_kl_validation.csv")
    assert (folder / "timestep_kl.csv").read_bytes() == before
    assert found == rows(tiny, "timestep_kl.csv")[: 2 * T]
    assert not (folder / "timestep_kl_train.csv").exists()
    write_json(folder / "plan.json", json.loads(kept))
    assert records.update(tiny.runs, "tiny") is True
    assert not (folder / "timestep_kl_validation.csv").exists()


# What is missing has a reason


def remove(run: FinishedRun, stage: str, key: str) -> None:
    shutil.rmtree(run.runs / "store" / stage / key)


def check_null(run: FinishedRun, status: str, reason: str | None, why: str) -> None:
    """The cell has this status, and every value of it is null with this reason, in both files."""
    records.update(run.runs, "tiny")
    found = cell(run)
    assert (found["status"], found["reason"]) == (status, reason)
    assert found["metrics"].keys() == {"bits_per_dim", *(f"bits_per_dim_{part}" for part in
                                       ("l_0", "mean_cost", "variance_cost", "l_T", "network"))}  # fmt: skip
    for metric in found["metrics"].values():
        assert (metric["value"], metric["stderr"], metric["num_samples"], metric["reason"]) == (None, None, 0, why)
        assert (metric["unit"], metric["higher_is_better"]) == ("bits/dim", False)
    mine = [row for row in rows(run, "results.csv") if row["cell_id"] == EPSILON]
    assert {(row["status"], row["value"], row["reason"]) for row in mine} == {(status, "", why)}
    assert {record["status"] for record in results(run)["cells"] if record["id"] != EPSILON} == {"done"}


def test_waiting(tiny: FinishedRun) -> None:
    remove(tiny, "likelihood", plan_cell(tiny)["likelihood"]["test"])
    check_null(tiny, "waiting", None, "not computed yet")
    assert not [row for row in rows(tiny, "timestep_kl.csv") if row["cell_id"] == EPSILON]


def test_running(tiny: FinishedRun) -> None:
    key = plan_cell(tiny)["likelihood"]["test"]
    remove(tiny, "likelihood", key)
    Log(tiny.runs, "likelihood", key).progress(1, 5, "images")  # by this process, which is alive
    check_null(tiny, "running", "likelihood", "not computed yet")


def test_a_task_whose_process_is_gone_is_not_running(tiny: FinishedRun) -> None:
    key = plan_cell(tiny)["likelihood"]["test"]
    remove(tiny, "likelihood", key)
    process = os.posix_spawn("/bin/true", ["/bin/true"], {})
    os.waitpid(process, 0)
    log = Log(tiny.runs, "likelihood", key)
    log.write("start")
    text = log.file.read_text(encoding="utf-8").replace(f'"pid": {os.getpid()}', f'"pid": {process}')
    log.file.write_text(text, encoding="utf-8")
    check_null(tiny, "waiting", None, "not computed yet")


def test_failed(tiny: FinishedRun) -> None:
    key = plan_cell(tiny)["likelihood"]["test"]
    remove(tiny, "likelihood", key)
    write_json(tiny.runs / "logs/likelihood" / f"{key}.failed.json", {"reason": "RuntimeError: broke"})
    check_null(tiny, "failed", "likelihood: RuntimeError: broke", "likelihood: RuntimeError: broke")


def test_diverged(tiny: FinishedRun) -> None:
    entry = plan_cell(tiny)
    file = tiny.runs / "store/train" / entry["train"] / "manifest.json"
    outcome = {"status": "diverged", "step": 7, "t": 4, "loss": "nan"}
    write_json(file, {**json.loads(file.read_text(encoding="utf-8")), "outcome": outcome})
    for other in records.read_plan(tiny.runs, "tiny")["cells"]:  # both cells of the training
        if other["train"] == entry["train"]:
            remove(tiny, "likelihood", other["likelihood"]["test"])
    records.update(tiny.runs, "tiny")
    assert [record["status"] for record in results(tiny)["cells"]] == ["diverged", "diverged", "done", "done"]
    found = cell(tiny)
    assert found["reason"] == "loss nan at step 7, t = 4"
    assert found["training"]["divergence"] == outcome
    assert {metric["reason"] for metric in found["metrics"].values()} == {"diverged: loss nan at step 7, t = 4"}


def test_illegal(tiny: FinishedRun) -> None:
    plan = records.read_plan(tiny.runs, "tiny")
    kept = ("id", "label", "axes", "seed", "steps", "variant")
    plan["cells"][0] = {key: plan["cells"][0][key] for key in kept} | {"reason": "it makes no sense"}
    write_json(tiny.runs / "suites/tiny/plan.json", plan)
    records.update(tiny.runs, "tiny")
    found = results(tiny)["cells"][0]
    assert (found["status"], found["reason"], found["train_key"]) == ("illegal", "it makes no sense", None)
    mine = [row for row in rows(tiny, "results.csv") if row["cell_id"] == found["id"]]
    assert [(row["status"], row["reason"], row["metric"]) for row in mine] == [("illegal", "it makes no sense", "")]


def test_weights_that_are_missing(tiny: FinishedRun) -> None:
    plan = records.read_plan(tiny.runs, "tiny")
    plan["metrics"]["fid"] = {"unit": "", "higher_is_better": False}
    plan["not_computed"]["fid"] = "its weights are missing"
    write_json(tiny.runs / "suites/tiny/plan.json", plan)
    records.update(tiny.runs, "tiny")
    fid = cell(tiny)["metrics"]["fid"]
    assert (fid["value"], fid["reason"]) == (None, "its weights are missing")
    assert cell(tiny)["status"] == "done"


# From Python


def test_results_from_python(finished_tiny: FinishedRun) -> None:
    found = db.results("tiny", runs=finished_tiny.runs)
    assert list(found.table.metric.unique()) == [
        "bits_per_dim", "bits_per_dim_l_0", "bits_per_dim_mean_cost", "bits_per_dim_variance_cost", "bits_per_dim_l_T",
        "bits_per_dim_network",
    ]  # fmt: skip
    assert len(found.timestep_kl) == 4 * T
    assert set(found.log_snr_kl.cell_id) == set(found.timestep_kl.cell_id)
    assert found.claims == []
    first = found.cells[0]
    assert (first.id, first.status, first.seed) == (EPSILON, "done", 0)
    samples = first.samples()
    assert (samples.shape, samples.dtype) == ((20, 1, 8, 8), np.uint8)
    assert isinstance(samples, np.memmap)
    assert samples.max() <= 16
    assert next(event["event"] for event in first.log()) == "start"
    assert len(first.process) == T
    model = first.model()
    assert not model.module.training
    with pytest.raises(AttributeError, match=r"a cell has no 'colour'; it has id, label"):
        _ = first.colour


def test_results_that_are_not_there(tiny: FinishedRun) -> None:
    with pytest.raises(UserError, match=r'no suite "tinny" under .*; did you mean "tiny"'):
        db.results("tinny", runs=tiny.runs)
    with pytest.raises(UserError, match="nothing has been run there yet"):
        db.results("tiny", runs=tiny.folder / "elsewhere")
    file = tiny.runs / "suites/tiny/results.json"
    write_json(file, {**results(tiny), "schema": 2})
    with pytest.raises(UserError, match="schema 2 is not 1; run the suite again"):
        db.results("tiny", runs=tiny.runs)
    file.unlink()
    with pytest.raises(UserError, match='suite "tiny" has no results yet'):
        db.results("tiny", runs=tiny.runs)


def test_artifacts_that_are_not_there(tiny: FinishedRun) -> None:
    entry = plan_cell(tiny)
    remove(tiny, "sample", entry["samples"][0])
    remove(tiny, "train", entry["train"])
    records.update(tiny.runs, "tiny")
    found = db.results("tiny", runs=tiny.runs).cells[0]
    for ask, what in ((found.samples, "samples"), (found.model, "training")):
        with pytest.raises(UserError, match=rf"cell {EPSILON} has no {what} yet \(status waiting\)"):
            ask()


def test_every_task_of_a_cell_belongs_to_its_status(finished_tiny: FinishedRun) -> None:
    collector = Collector(finished_tiny.runs, records.read_plan(finished_tiny.runs, "tiny"))
    stages = [stage for stage, _ in collector.tasks(plan_cell(finished_tiny))]
    assert stages == ["data", "train", "score", "likelihood", "sample", "gallery", "nearest", "nearest", "forward"]


# The end of a log


def test_last_event(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    assert last_event(file) is None
    file.write_text("")
    assert last_event(file) is None
    file.write_text('{"event": "start", "pid": 1}\n{"event": "progress", "pid": 1}\n{"event": "do')
    assert last_event(file) == {"event": "progress", "pid": 1}  # the last line is not whole
    file.write_text(file.read_text() + 'ne", "traceback": "' + "x" * 10_000 + '", "pid": 1}\n')
    assert last_event(file) == {"event": "failed", "pid": 0}  # only a traceback makes a line that long
