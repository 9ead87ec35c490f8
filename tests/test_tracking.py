"""The MLflow mirror against a real sqlite store: what it holds, that it settles, and how it fails."""

from __future__ import annotations

import copy
import csv
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
from PIL import Image

from ddpm_bench import tracking
from ddpm_bench.errors import UserError

SUITE = "tiny_suite"
SETTINGS = [
    "MLFLOW_TRACKING_URI",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
]
CURVE = [  # step, loss, learning_rate, gradient_norm, validation_epsilon_mse, validation_bits_per_dim
    ["10", "0.9", "0.0001", "1.5", "", ""],
    ["20", "0.7000000000000001", "0.0002", "1.25", "0.8", "3.5"],
    ["30", "nan", "0.0002", "inf", "0.6", ""],
]


def estimate(value: float | None, unit: str = "bits/dim") -> dict[str, Any]:
    reason = None if value is not None else "weights are missing"
    known = {"stderr": 0.01, "num_samples": 64, "unit": unit, "higher_is_better": False, "protocol": {"split": "test"}}
    return {"value": value, "reason": reason, **known}


def cell(variance: str, status: str, metrics: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {
        "id": f"epsilon-{variance}-s0",
        "label": f"ε, σ²={variance}",
        "axes": {"prediction": "epsilon", "variance": variance, "schedule": "cosine(s=0.02)", "timesteps": 4},
        "seed": 0,
        "status": status,
        "reason": None,
        "train_key": "aa11",
        "shares_training_with": [],
        "artifacts": {},
        "log": "logs/train/aa11.jsonl",
        "training": {"num_parameters": 12, "steps": 30, "num_train_images": 100, "clipped_share": None},
        "metrics": metrics,
        "timings": {},
        **other,
    }


def example() -> dict[str, Any]:
    """Two cells of one training, and one of every other status."""
    trained = {"train": "store/train/aa11", "samples": ["store/sample/bb22"], "likelihood": {}}
    timings = {"train_seconds": 3.0, "images_per_second": 1234.5}
    beta = {"bits_per_dim": estimate(2.55), "kd_tiny": estimate(0.125), "fid": estimate(None)}
    return {
        "schema": 1,
        "suite": SUITE,
        "title": "A tiny suite",
        "created": "2026-01-01T00:00:00Z",
        "environment": {"python": "3.11", "git": "0123abc"},
        "axes": ["variance"],
        "configuration": {
            "title": "A tiny suite",
            "dataset": {"name": "digits"},
            "diffusion": {"schedule": {"name": "cosine", "s": 0.02}, "timesteps": 4},
            "training": {"steps": 30, "learning_rate": 2e-4, "horizontal_flips": False},
            "reverse": {"first_step": "beta_tilde_2"},
            "evaluation": {"metrics": ["bits_per_dim", "kernel_distance"], "samples": 64},
            "matrix": {"variance": ["beta", "beta_tilde"]},
        },
        "overrides": ["training.steps=30"],
        "data": {"name": "digits", "shape": [1, 8, 8], "levels": 17},
        "cells": [
            cell("beta", "done", beta, artifacts=trained, timings=timings),
            cell("beta_tilde", "done", {"bits_per_dim": estimate(2.75)}, artifacts=trained, timings=timings),
            cell("diverging", "diverged", {}, train_key="cc33"),
            cell("failing", "failed", {}, train_key="dd44", reason="RuntimeError: out of memory"),
            cell("refused", "illegal", {}, train_key=None, reason="nothing trains the head"),
            cell("later", "waiting", {}, train_key="ee55"),
        ],
        "claims": [{"statement": "β needs fewer bits", "verdict": "untestable"}],
    }


def write_csv(path: Path, header: str, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def write(runs: Path, results: dict[str, Any]) -> None:
    directory = runs / "suites" / SUITE
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(results), encoding="utf-8")


def write_curve(runs: Path, rows: list[list[Any]]) -> None:
    header = "step,loss,learning_rate,gradient_norm,validation_epsilon_mse,validation_bits_per_dim"
    write_csv(runs / "store/train/aa11/curves.csv", header, rows)


def write_kl(runs: Path, values: dict[int, Any], cell_id: str = "epsilon-beta-s0") -> None:
    header = "cell_id,seed,t,kl,stderr,kl_variance,kl_mean,epsilon_mse,x0_mse"
    rows = [[cell_id, 0, t, value, 0.1, "", "", 0.2, 0.3] for t, value in values.items()]
    write_csv(runs / "suites" / SUITE / "timestep_kl.csv", header, rows)


def fill(runs: Path) -> Path:
    """The example suite with its store in the directory."""
    write(runs, example())
    write_curve(runs, CURVE)
    write_kl(runs, {1: 1.0, 2: 0.1 + 0.2, 3: 0.25, 4: 0.125})
    (runs / "suites" / SUITE / "results.csv").write_text("suite,cell_id\n", encoding="utf-8")
    samples = runs / "store/sample/bb22/samples.npy"
    samples.parent.mkdir(parents=True)
    np.save(samples, np.random.default_rng(0).integers(0, 17, (70, 1, 8, 8), dtype=np.uint8))
    return runs


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables (their creation takes two seconds), made by syncing a suite without cells."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        runs = tmp_path_factory.mktemp("template")
        results = example() | {"suite": "another", "cells": []}
        (runs / "suites/another").mkdir(parents=True)
        (runs / "suites/another/results.json").write_text(json.dumps(results), encoding="utf-8")
        tracking.sync(runs, "another")
    return runs / "mlflow.db"


@pytest.fixture
def runs(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "my runs"
    directory.mkdir()
    shutil.copy(empty_store, directory / "mlflow.db")
    return fill(directory)


def client(runs: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking.tracking_uri(runs))


def children(runs: Path) -> dict[str, Any]:
    """The active child runs by cell; more than one of a cell is an error."""
    mlflow = client(runs)
    experiment = mlflow.get_experiment_by_name(SUITE)
    found = [run for run in mlflow.search_runs([experiment.experiment_id]) if "ddpm_bench.cell" in run.data.tags]
    by_cell = {run.data.tags["ddpm_bench.cell"].split("-")[1]: run for run in found}
    assert len(by_cell) == len(found)
    return by_cell


def history(runs: Path, variance: str, name: str) -> list[tuple[int, float]]:
    points = client(runs).get_metric_history(children(runs)[variance].info.run_id, name)
    return [(point.step, point.value) for point in sorted(points, key=lambda point: (point.timestamp, point.step))]


def rows(runs: Path) -> dict[str, list[Any]]:
    """Every row of every table of the database."""
    database = sqlite3.connect(runs / "mlflow.db")
    try:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(map(repr, database.execute(f'SELECT * FROM "{name}"'))) for name in names}
    finally:
        database.close()


def artifacts(runs: Path, run_id: str) -> Path:
    return next((runs / "mlartifacts").glob(f"{run_id}/artifacts"))


def edit(runs: Path, change: Any) -> dict[str, Any]:
    """Apply `change` to the results on disk."""
    results = json.loads((runs / "suites" / SUITE / "results.json").read_text(encoding="utf-8"))
    change(results)
    write(runs, results)
    return results


def test_holds_what_results_say(runs: Path) -> None:
    report = tracking.sync(runs, SUITE)
    assert (report.created, report.updated, report.unchanged, report.retired) == (7, 0, 0, 0)
    found = children(runs)
    assert {name: run.info.status for name, run in found.items()} == {
        "beta": "FINISHED",
        "beta_tilde": "FINISHED",
        "diverging": "FINISHED",
        "failing": "FAILED",
        "refused": "KILLED",
        "later": "SCHEDULED",
    }
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {report.parent_run_id}
    assert found["diverging"].data.tags["ddpm_bench.status"] == "diverged"
    assert found["failing"].data.tags["ddpm_bench.reason"] == "RuntimeError: out of memory"
    assert found["beta"].info.run_name == "ε, σ²=beta"
    parent = client(runs).get_run(report.parent_run_id)
    assert (parent.info.status, parent.info.run_name) == ("FAILED", SUITE)
    assert parent.data.tags["ddpm_bench.suite"] == SUITE
    assert parent.data.tags["mlflow.source.git.commit"] == "0123abc"


def test_the_parent_says_its_verdicts_and_leads_to_the_comparison(runs: Path) -> None:
    """MLflow folds the cells of a suite away and its charts are then empty: the description links to filled ones."""
    report = tracking.sync(runs, SUITE)
    note = client(runs).get_run(report.parent_run_id).data.tags["mlflow.note.content"]
    assert note.startswith("### A tiny suite\n\n- **untestable**: β needs fewer bits\n\nOf 2 cells of one seed: ")
    links = re.findall(r"\]\(#/(\S+)\)", note)
    assert [link.partition("?")[0] for link in links] == ["metric", "compare-runs"]
    for link in links:
        query = {name: json.loads(values[0]) for name, values in parse_qs(link.partition("?")[2]).items()
                 if name in ("runs", "experiments", "metric")}  # fmt: skip
        assert query["runs"] == [children(runs)[name].info.run_id for name in ("beta", "beta_tilde")]
        assert query["experiments"] == [report.experiment_id]
        assert query.get("metric", "eval/timestep_kl") == "eval/timestep_kl"


def test_cells_of_several_seeds_have_names_of_their_own(runs: Path) -> None:
    tracking.sync(runs, SUITE)
    results = example()
    results["cells"].append({**results["cells"][0], "id": "epsilon-beta-s1", "seed": 1, "train_key": "ff66"})
    write(runs, results)
    report = tracking.sync(runs, SUITE)
    names = {run.info.run_name for run in client(runs).search_runs([report.experiment_id])}
    assert {"ε, σ²=beta, seed 0", "ε, σ²=beta, seed 1"} < names  # the first one was renamed


def test_metrics_equal_the_files_and_null_is_left_out(runs: Path) -> None:
    tracking.sync(runs, SUITE)
    for variance, value in (("beta", 2.55), ("beta_tilde", 2.75)):
        assert history(runs, variance, "eval/bits_per_dim") == [(0, value)]
        assert history(runs, variance, "train/images_per_second") == [(0, 1234.5)]
        assert history(runs, variance, "train/loss") == [(10, 0.9), (20, 0.7000000000000001)]
        assert history(runs, variance, "train/learning_rate") == [(10, 1e-4), (20, 2e-4), (30, 2e-4)]
        assert history(runs, variance, "train/gradient_norm") == [(10, 1.5), (20, 1.25)]
        assert history(runs, variance, "validation/epsilon_mse") == [(20, 0.8), (30, 0.6)]
        assert history(runs, variance, "validation/bits_per_dim") == [(20, 3.5)]
    assert history(runs, "beta", "eval/timestep_kl") == [(1, 1.0), (2, 0.1 + 0.2), (3, 0.25), (4, 0.125)]
    found = children(runs)
    assert "eval/timestep_kl" not in found["beta_tilde"].data.metrics
    assert "eval/fid" not in found["beta"].data.metrics
    assert found["later"].data.metrics == {}


def test_parameters_are_dotted_keys_with_the_cells_labels(runs: Path) -> None:
    tracking.sync(runs, SUITE)
    assert children(runs)["beta_tilde"].data.params == {
        "dataset.name": "digits",
        "diffusion.prediction": "epsilon",
        "diffusion.schedule": "cosine(s=0.02)",
        "diffusion.timesteps": "4",
        "evaluation.metrics": '["bits_per_dim", "kernel_distance"]',
        "evaluation.samples": "64",
        "reverse.first_step": "beta_tilde_2",
        "reverse.variance": "beta_tilde",
        "seed": "0",
        "training.horizontal_flips": "false",
        "training.learning_rate": "0.0002",
        "training.steps": "30",
    }


def test_artifacts(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("<p>report</p>", encoding="utf-8")
    report = tracking.sync(runs, SUITE, report=page)
    results = example()
    top = artifacts(runs, report.parent_run_id)
    assert (top / "index.html").read_text(encoding="utf-8") == "<p>report</p>"
    assert (top / "results.csv").read_text(encoding="utf-8") == "suite,cell_id\n"
    assert json.loads((top / "configuration.json").read_text(encoding="utf-8")) == {
        "configuration": results["configuration"],
        "overrides": ["training.steps=30"],
    }
    files = artifacts(runs, children(runs)["beta"].info.run_id)
    assert json.loads((files / "cell.json").read_text(encoding="utf-8")) == results["cells"][0]
    resolved = json.loads((files / "configuration.json").read_text(encoding="utf-8"))
    assert resolved["axes"]["variance"] == "beta"
    assert resolved["training"] == results["configuration"]["training"]
    assert "matrix" not in resolved
    picture = np.asarray(Image.open(files / "samples.png"))
    samples = np.load(runs / "store/sample/bb22/samples.npy")
    assert picture.shape == (8 * 64 + 7 * 2, 8 * 64 + 7 * 2)
    # Image 19 stands in row 2, column 3; a level of 17 is worth 255/16 grey values.
    tile = picture[2 * 66 : 2 * 66 + 64, 3 * 66 : 3 * 66 + 64]
    assert np.array_equal(tile[::8, ::8], np.rint(samples[19, 0] * (255 / 16)))
    assert np.array_equal(tile, tile[::8, ::8].repeat(8, 0).repeat(8, 1))
    page.write_text("<p>newer</p>", encoding="utf-8")
    tracking.sync(runs, SUITE, report=page)
    assert (top / "index.html").read_text(encoding="utf-8") == "<p>newer</p>"


@pytest.mark.parametrize(("channels", "shape"), [(1, (64, 526)), (2, (64, 526)), (3, (64, 526, 3))])
def test_sample_grid_of_real_values_and_few_images(channels: int, shape: tuple[int, ...]) -> None:
    images = np.linspace(-3.0, 5.0, 2 * channels * 16, dtype=np.float32).reshape(2, channels, 4, 4)
    grid = tracking.sample_grid(images, None)
    assert grid.shape == shape
    assert grid[0, 0].min() == 0
    assert np.all(grid[:, 2 * 66 :] == 255)
    images[0, 0, 0, 0] = np.nan
    assert tracking.sample_grid(images, None).shape == shape


def test_second_call_writes_nothing(runs: Path) -> None:
    tracking.sync(runs, SUITE)
    before, stored = (runs / "mlflow.db").read_bytes(), (runs / "mlflow.db").stat().st_mtime_ns
    files = {path: path.stat().st_mtime_ns for path in (runs / "mlartifacts").rglob("*")}
    report = tracking.sync(runs, SUITE)
    assert (report.created, report.updated, report.unchanged, report.metric_points) == (0, 0, 7, 0)
    assert (runs / "mlflow.db").read_bytes() == before
    assert (runs / "mlflow.db").stat().st_mtime_ns == stored
    assert {path: path.stat().st_mtime_ns for path in (runs / "mlartifacts").rglob("*")} == files


def test_moved_runs_that_did_not_change_write_nothing(runs: Path, tmp_path: Path) -> None:
    tracking.sync(runs, SUITE)
    moved = runs.rename(tmp_path / "elsewhere")
    before = rows(moved)
    assert tracking.sync(moved, SUITE).unchanged == 7
    assert rows(moved) == before
    assert not runs.exists()


def test_lost_digests_lead_to_no_duplicates(runs: Path) -> None:
    first = tracking.sync(runs, SUITE)
    before = rows(runs)
    for run_id in [run.info.run_id for run in children(runs).values()] + [first.parent_run_id]:
        client(runs).delete_tag(run_id, tracking.SYNCED)
    assert rows(runs) != before
    second = tracking.sync(runs, SUITE)
    assert (second.created, second.updated, second.metric_points) == (0, 7, 0)
    assert rows(runs) == before


def test_a_sync_cut_short_is_completed(runs: Path) -> None:
    (runs / "mlartifacts").write_text("a file where the directory should be", encoding="utf-8")
    with pytest.raises(tracking.TrackingError, match=r"^MLflow at sqlite:\S+.* could not be brought up to date: "):
        tracking.sync(runs, SUITE)
    assert rows(runs)["metrics"]
    (runs / "mlartifacts").unlink()
    tracking.sync(runs, SUITE)
    assert history(runs, "beta", "train/loss") == [(10, 0.9), (20, 0.7000000000000001)]
    assert (artifacts(runs, children(runs)["beta"].info.run_id) / "cell.json").is_file()


def test_later_calls_reopen_the_run(runs: Path) -> None:
    started = edit(runs, lambda results: results["cells"][0].update(status="running", metrics={}, artifacts={}))
    assert started["cells"][0]["status"] == "running"
    first = tracking.sync(runs, SUITE)
    run = children(runs)["beta"]
    assert (run.info.status, run.data.metrics) == ("RUNNING", {"train/images_per_second": 1234.5, **KL_LAST})
    assert client(runs).get_run(first.parent_run_id).info.status == "RUNNING"
    write(runs, example())
    second = tracking.sync(runs, SUITE)
    assert (second.parent_run_id, second.created, second.updated) == (first.parent_run_id, 0, 2)
    again = children(runs)["beta"]
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    assert again.info.end_time is not None
    assert again.data.metrics["eval/bits_per_dim"] == 2.55
    edit(runs, lambda results: results["cells"][0].update(status="running"))
    tracking.sync(runs, SUITE)
    assert children(runs)["beta"].info.status == "RUNNING"


KL_LAST = {"eval/timestep_kl": 0.125}


def test_growing_curve_adds_only_the_new_points(runs: Path) -> None:
    tracking.sync(runs, SUITE)
    write_curve(runs, [*CURVE, ["40", "0.5", "0.0002", "1.0", "", ""]])
    report = tracking.sync(runs, SUITE)
    assert report.metric_points == 2 * 3  # loss, learning rate and gradient norm in each of the two cells
    assert history(runs, "beta_tilde", "train/loss") == [(10, 0.9), (20, 0.7000000000000001), (40, 0.5)]


@pytest.mark.parametrize("value", [2.5, 2.625])
def test_changed_value_becomes_the_latest(runs: Path, value: float) -> None:
    """Smaller or larger: MLflow orders points of one step and time stamp by value, so the stamp has to move on."""
    tracking.sync(runs, SUITE)
    edit(runs, lambda results: results["cells"][0]["metrics"]["bits_per_dim"].update(value=value))
    write_kl(runs, {1: 1.0, 2: value, 3: 0.25, 4: value})
    report = tracking.sync(runs, SUITE)
    assert (report.updated, report.metric_points) == (1, 3)
    assert history(runs, "beta", "eval/bits_per_dim") == [(0, 2.55), (0, value)]
    assert children(runs)["beta"].data.metrics["eval/bits_per_dim"] == value
    assert history(runs, "beta", "eval/timestep_kl")[-2:] == [(2, value), (4, value)]
    assert tracking.sync(runs, SUITE).unchanged == 7
    edit(runs, lambda results: results["cells"][0]["metrics"]["bits_per_dim"].update(value=2.55))
    tracking.sync(runs, SUITE)
    assert history(runs, "beta", "eval/bits_per_dim") == [(0, 2.55), (0, value), (0, 2.55)]
    assert children(runs)["beta"].data.metrics["eval/bits_per_dim"] == 2.55


def test_value_that_became_null_is_named(runs: Path) -> None:
    tracking.sync(runs, SUITE)
    edit(runs, lambda results: results["cells"][0]["metrics"].update(kd_tiny=estimate(None)))
    write_kl(runs, {1: 1.0, 3: 0.25})
    tracking.sync(runs, SUITE)
    assert children(runs)["beta"].data.tags["ddpm_bench.withdrawn"] == "eval/kd_tiny, eval/timestep_kl"
    fill_again = example()
    write(runs, fill_again)
    write_kl(runs, {1: 1.0, 2: 0.1 + 0.2, 3: 0.25, 4: 0.125})
    assert tracking.sync(runs, SUITE).metric_points == 0
    assert "ddpm_bench.withdrawn" not in children(runs)["beta"].data.tags


def test_changed_evaluation_keeps_the_run_and_its_parameter(runs: Path) -> None:
    tracking.sync(runs, SUITE)
    before = children(runs)["beta"].info.run_id
    edit(runs, lambda results: results["configuration"]["evaluation"].update(samples=128, splits=["test"]))
    assert tracking.sync(runs, SUITE).created == 0
    run = children(runs)["beta"]
    assert (run.info.run_id, run.data.params["evaluation.samples"]) == (before, "64")
    assert run.data.tags["ddpm_bench.current.evaluation.samples"] == "128"
    assert run.data.params["evaluation.splits"] == '["test"]'
    write(runs, example())
    tracking.sync(runs, SUITE)
    assert "ddpm_bench.current.evaluation.samples" not in children(runs)["beta"].data.tags


def other_training(results: dict[str, Any]) -> None:
    results["cells"][0].update(train_key="ff66", artifacts={})


def other_reverse(results: dict[str, Any]) -> None:
    results["configuration"]["reverse"]["first_step"] = "beta_1"


@pytest.mark.parametrize(("change", "replaced"), [(other_training, 1), (other_reverse, 6)])
def test_other_weights_or_reverse_process_get_a_run_of_their_own(runs: Path, change: Any, replaced: int) -> None:
    tracking.sync(runs, SUITE)
    before = children(runs)
    edit(runs, change)
    report = tracking.sync(runs, SUITE)
    assert (report.created, report.retired) == (replaced, replaced)
    after = children(runs)
    assert after["beta"].info.run_id != before["beta"].info.run_id
    assert tracking.sync(runs, SUITE).unchanged == 7
    write(runs, example())
    report = tracking.sync(runs, SUITE)
    assert (report.created, report.retired, report.metric_points) == (0, replaced, 0)
    restored = children(runs)
    assert {name: run.info.run_id for name, run in restored.items()} == {
        name: run.info.run_id for name, run in before.items()
    }
    assert restored["beta"].data.tags == before["beta"].data.tags


def test_cell_that_left_the_suite_is_retired_but_not_another_stores(runs: Path) -> None:
    tracking.sync(runs, SUITE)
    later, refused = (children(runs)[name].info.run_id for name in ("later", "refused"))
    client(runs).set_tag(refused, tracking.STORE, "/somebody/else")
    edit(runs, lambda results: results.update(cells=results["cells"][:4]))
    assert tracking.sync(runs, SUITE).retired == 1
    assert client(runs).get_run(later).info.lifecycle_stage == "deleted"
    assert client(runs).get_run(refused).info.lifecycle_stage == "active"


def test_what_the_user_deleted_comes_back(runs: Path) -> None:
    first = tracking.sync(runs, SUITE)
    client(runs).delete_run(children(runs)["beta"].info.run_id)
    assert tracking.sync(runs, SUITE).created == 1
    assert history(runs, "beta", "train/loss") == [(10, 0.9), (20, 0.7000000000000001)]
    client(runs).delete_run(first.parent_run_id)
    report = tracking.sync(runs, SUITE)
    assert (report.created, report.updated) == (1, 6)
    assert {run.data.tags["mlflow.parentRunId"] for run in children(runs).values()} == {report.parent_run_id}
    client(runs).delete_experiment(first.experiment_id)
    assert tracking.sync(runs, SUITE).experiment_id == first.experiment_id


def test_long_and_odd_texts(runs: Path) -> None:
    def change(results: dict[str, Any]) -> None:
        results["configuration"]["network"] = {"name": "x" * 6000, "widths": list(range(9999)), "note": "", "big": {}}
        results["configuration"]["network"] |= {f"field_{index}": index for index in range(150)}
        results["cells"][3]["reason"] = "Traceback\n" * 2000
        results["cells"][0]["metrics"]["fd_own/net[1]@2"] = estimate(1.5)

    edit(runs, change)
    tracking.sync(runs, SUITE)
    found = children(runs)
    params = found["beta"].data.params
    assert params["network.name"] == "x" * 6000
    assert params["network.widths"] == json.dumps(list(range(9999)))[:5999] + "…"
    assert params["network.field_149"] == "149"
    assert found["beta"].data.metrics["eval/fd_own/net_1__2"] == 1.5
    assert found["failing"].data.tags["ddpm_bench.reason"].endswith("…")
    assert tracking.sync(runs, SUITE).unchanged == 7


def test_more_points_than_one_request_holds(runs: Path) -> None:
    write_kl(runs, {t: 1 / t for t in range(1, 2502)})
    tracking.sync(runs, SUITE)
    assert history(runs, "beta", "eval/timestep_kl") == [(t, 1 / t) for t in range(1, 2502)]


def test_another_suite_has_its_own_experiment(runs: Path) -> None:
    first = tracking.sync(runs, SUITE)
    before = rows(runs)["metrics"]
    shutil.copytree(runs / "suites" / SUITE, runs / "suites/second")
    results = copy.deepcopy(example()) | {"suite": "second"}
    (runs / "suites/second/results.json").write_text(json.dumps(results), encoding="utf-8")
    second = tracking.sync(runs, "second")
    assert second.experiment_id != first.experiment_id
    assert second.created == 7
    assert len(rows(runs)["metrics"]) == 2 * len(before)


def test_unknown_suite_is_the_users_error(runs: Path) -> None:
    with pytest.raises(UserError, match="no results of this suite"):
        tracking.sync(runs, "typo")


def test_dead_server_fails_quickly_and_settings_are_left_alone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    before = dict(os.environ)
    start = time.monotonic()
    with pytest.raises(tracking.TrackingError) as raised:
        tracking.sync(runs, SUITE)
    assert time.monotonic() - start < 10
    message = f"MLflow at http://127.0.0.1:{port} could not be brought up to date: Connection refused"
    assert str(raised.value) == message
    assert dict(os.environ) == before | {"MLFLOW_DISABLE_TELEMETRY": os.environ["MLFLOW_DISABLE_TELEMETRY"]}


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///{runs}/broken.db",
        "sqlite:///{runs}/broken.db/mlflow.db",
        "sqlite:///{runs}/suites",  # a directory: what MLflow itself would retry for 100 s
        "postgresql://me:secret@127.0.0.1:1/mlflow",
        "{runs}",
    ],
)
def test_store_that_cannot_be_used(runs: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    (runs / "broken.db").write_text("not a database " * 100, encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(runs=runs))
    start = time.monotonic()
    with pytest.raises(tracking.TrackingError, match=r"could not be brought up to date: \S+") as raised:
        tracking.sync(runs, SUITE)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert time.monotonic() - start < 10


def test_database_named_by_the_user(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "not" / "there" / "yet.db"
    before = (runs / "mlflow.db").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own}")
    assert tracking.sync(runs, SUITE).uri == f"sqlite:///{own}"
    assert (runs / "mlflow.db").read_bytes() == before
    assert f"sqlite:///{own}" in tracking.ui_command(runs, 5000)


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=120, check=False)


def test_import_is_light() -> None:
    code = "import sys, ddpm_bench.tracking; print(sorted({'mlflow', 'torch', 'pandas'} & sys.modules.keys()))"
    assert python(code).stdout == "[]\n"


TELEMETRY = """
import sys
from pathlib import Path
from ddpm_bench import tracking
tracking.ui_command(Path("runs"), 5000)
from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY
print(MLFLOW_DISABLE_TELEMETRY.get())
"""


@pytest.mark.parametrize(("settings", "disabled"), [({}, "True"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "False")])
def test_telemetry_is_off_unless_turned_on(settings: dict[str, str], disabled: str) -> None:
    # MLflow's own import must not see telemetry on: its environment names are read without importing the client.
    done = python(TELEMETRY, **settings, DO_NOT_TRACK="true")
    assert done.stdout == f"{disabled}\n", done.stderr


SYNC = """
import sys
from pathlib import Path
from ddpm_bench import tracking
tracking.sync(Path(sys.argv[1]), sys.argv[2])
"""


def test_processes_at_once_on_a_fresh_store(tmp_path: Path) -> None:
    """They take turns: one creates the tables, the experiment and the runs, the others find them. All are silent."""
    runs = fill(tmp_path)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-c", SYNC, str(runs), SUITE]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(command, env=clean, **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [(process.returncode, output) for process, output in zip(started, outputs, strict=True)] == [(0, "")] * 2
    assert len(children(runs)) == 6
    assert history(runs, "beta", "train/loss") == [(10, 0.9), (20, 0.7000000000000001)]
    before = rows(runs)
    assert tracking.sync(runs, SUITE).unchanged == 7
    assert rows(runs) == before


def test_ui_of_a_server_is_the_servers(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example.org")
    with pytest.raises(UserError, match="open that in a browser"):
        tracking.ui_command(runs, 5000)


@pytest.mark.slow
def test_sync_through_the_server_of_the_ui(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The UI's own server answers, and a sync through it equals one to the database."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = tracking.ui_command(runs, port)
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/health")
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            report = tracking.sync(runs, SUITE)
            assert (report.created, tracking.sync(runs, SUITE).unchanged) == (7, 7)
            assert history(runs, "beta", "eval/timestep_kl") == [(1, 1.0), (2, 0.1 + 0.2), (3, 0.25), (4, 0.125)]
        finally:
            server.terminate()
            server.wait(timeout=120)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.sync(runs, SUITE).unchanged == 7


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
