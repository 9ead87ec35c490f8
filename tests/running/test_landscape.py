"""A landscape through the command line: planned, made, reported, reused; switched on after the training too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ddpm_bench as db
from ddpm_bench.collecting import Collector
from ddpm_bench.records import read_plan
from ddpm_bench.report.source import ResultsView
from tests.support import artifacts, cli, store_state, write_suite

pytestmark = pytest.mark.xdist_group("landscape")

SUITE = """
schema = 1
name = "around"

[dataset]
name = "digits"

[network]
name = "unet"
channels = 4
channel_multipliers = [1]
residual_blocks = 1
attention_resolutions = []

[diffusion]
timesteps = 4
schedule = "cosine"

[training]
steps = 6
batch_size = 8
ema_decay = 0.9

[evaluation]
metrics = ["bits_per_dim"]
samples = 2
images = 4
gallery = false

[matrix]
variance = ["beta", "beta_tilde"]
seed = [0, 1]
"""
ON = "evaluation.landscape={checkpoints = 4, points = 3, images = 4}"


def run(home: Path, *overrides: str, name: str | None = None) -> Any:
    """The outcome of a run in this process."""
    suite = db.load_suite(home / "around.toml", overrides=overrides, name=name)
    return db.run(suite, runs=home / "runs", reports=home / "reports")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite run without landscapes, then with them."""
    home = tmp_path_factory.mktemp("landscape")
    write_suite(home, SUITE, "around.toml")
    run(home)
    without = artifacts(home / "runs")
    weights = trained(home, 6)
    plan = cli("plan", "around.toml", "--set", ON, cwd=home)
    assert plan.returncode == 0, plan.stderr
    # Steps 0, 2 and 4 of one training of the two, their weights, and what is measured on them.
    assert "to do: 4 artifacts" in plan.stdout
    done = cli("run", "around.toml", "--set", ON, cwd=home)
    assert done.returncode == 0, done.stderr
    more = sorted(stage for stage, _ in artifacts(home / "runs") - without)
    assert more == ["landscape", "train", "train", "train"]
    assert trained(home, 6) == weights
    return home


def trained(home: Path, steps: int) -> dict[str, bytes]:
    """Key → averaged weights of the trainings of that length."""
    found = {}
    for stage, key in artifacts(home / "runs"):
        path = home / "runs" / "store" / stage / key
        if stage == "train" and json.loads((path / "manifest.json").read_text())["spec"]["steps"] == steps:
            found[key] = (path / "ema.safetensors").read_bytes()
    return found


def results(home: Path, name: str = "around") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / f"runs/suites/{name}/results.json").read_text(encoding="utf-8"))
    return found


def test_the_second_run_does_nothing(folder: Path) -> None:
    before = store_state(folder / "runs")
    assert run(folder, ON).tasks_run == 0
    assert store_state(folder / "runs") == before


def test_the_results_hold_it(folder: Path) -> None:
    cells = results(folder)["cells"]
    assert [cell["status"] for cell in cells] == ["done"] * 4
    found = {(cell["axes"]["variance"], cell["seed"]): cell for cell in cells}
    assert found["beta", 1]["landscape"] is None
    assert found["beta", 1]["artifacts"]["landscape"] is None
    one = found["beta", 0]
    assert one["landscape"] == found["beta_tilde", 0]["landscape"]
    assert one["artifacts"]["landscape"] == found["beta_tilde", 0]["artifacts"]["landscape"]
    record = one["landscape"]
    assert record["steps"] == [0, 2, 4, 6]
    # Eigenvalues 1/(4 sin²(kπ/8)) of four points are 1.7071, 0.5 and 0.2929, together 2.5.
    assert record["null"] == pytest.approx(2.2071 / 2.5, abs=1e-4)
    assert record["null"] < record["null_averaged"] < 1
    assert 0 < record["share"] <= 1
    assert record["network_calls"] == (9 + 8) * 4 * (1 + 8)
    path = folder / "runs" / one["artifacts"]["landscape"]
    assert np.load(path / "bits_per_dim.npy").shape == (3, 3)


def test_the_last_checkpoint_is_the_training_itself(folder: Path) -> None:
    """Its loss is that of the validation curve's kind: ε-MSE near 1 where hardly anything was learned."""
    one = next(cell for cell in results(folder)["cells"] if cell["landscape"])
    found = json.loads((folder / "runs" / one["artifacts"]["landscape"] / "landscape.json").read_text())
    assert found["epsilon_mse"][0] == pytest.approx(1, abs=0.15)  # ε̂ = 0: a mean of 36 · 64 squares of normals
    view = ResultsView(folder / "runs", "around")
    curve = view.curves(one)
    assert curve is not None
    assert one["training"]["steps"] == found["steps"][-1] == curve["step"].iloc[-1]


def test_the_report_shows_it(folder: Path) -> None:
    page = (folder / "reports/around/index.html").read_text(encoding="utf-8")
    assert 'id="landscape"' in page
    assert (folder / "reports/around/figures/landscape.svg").is_file()
    assert (folder / "reports/around/figures/landscape.pdf").is_file()


def test_status_counts_its_checkpoints(folder: Path) -> None:
    collector = Collector(folder / "runs", read_plan(folder / "runs", "around"))
    stages = [[stage for stage, _ in collector.tasks(cell)] for cell in collector.plan["cells"]]
    assert [found.count("landscape") for found in stages] == [1, 0, 1, 0]
    assert [found.count("train") for found in stages] == [4, 1, 4, 1]


def test_switched_off_again_it_is_gone_from_the_results(folder: Path) -> None:
    before = artifacts(folder / "runs")
    assert run(folder, name="plain").tasks_run == 0
    assert artifacts(folder / "runs") == before
    assert all(cell["landscape"] is None for cell in results(folder, "plain")["cells"])
    assert 'id="landscape"' not in (folder / "reports/plain/index.html").read_text(encoding="utf-8")
