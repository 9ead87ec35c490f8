"""Fashion-MNIST at 16×16, from its files to a report: data of another kind than the digits, decoded in full."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import ddpm_bench as db
from ddpm_bench.datasets import data_root
from ddpm_bench.datasets.fashion_mnist import FashionMnist
from ddpm_bench.errors import UserError
from tests.support import write_suite

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

SUITE = """
schema = 1
name = "tiny"
title = "Clothing"

[dataset]
name = "fashion_mnist"
size = 16

[network]
name = "unet"
channels = 8
channel_multipliers = [1, 2, 2]
residual_blocks = 1
attention_resolutions = []

[diffusion]
timesteps = 30
schedule = "cosine"
prediction = "epsilon"

[training]
steps = 60
batch_size = 32
learning_rate = 2e-3
ema_decay = 0.9

[evaluation]
metrics = ["bits_per_dim", "timestep_kl"]
samples = 16
images = 32

[matrix]
variance = ["beta", "beta_tilde"]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    try:
        FashionMnist().sources(data_root())
    except UserError as missing:
        pytest.skip(f"{missing}")
    return write_suite(tmp_path, SUITE)


def test_from_the_files_to_a_report(suite: Path, tmp_path: Path) -> None:
    outcome = db.run(db.load_suite(suite), runs=tmp_path / "runs", reports=tmp_path / "reports")
    results = db.results("tiny", runs=tmp_path / "runs")
    assert outcome.tasks_run > 0
    assert [cell.status for cell in results.cells] == ["done", "done"]
    info = results.data["data"]
    assert (info["shape"], info["levels"]) == ([1, 16, 16], 256)
    assert (info["num_train"], info["num_validation"], info["num_test"]) == (54_000, 6_000, 10_000)
    store = tmp_path / "runs" / "store"
    data = next((store / "data").glob("[0-9a-f]*"))
    labels = np.load(data / "validation_labels.npy")
    assert np.bincount(labels).tolist() == [600] * 10  # the published classes are equally large
    values = np.load(data / "test.npy", mmap_mode="r")
    assert (values.dtype, values.shape) == (np.uint8, (10_000, 1, 16, 16))
    assert values.max() > 200  # grey levels of eight bits, not of the digits' seventeen
    assert len(np.unique(values)) > 200
    baselines = {item["name"]: item["value"] for item in results.data["baselines"]}
    assert baselines["uniform code"] == 8.0
    assert 0 < baselines["per-pixel histogram"] < 8
    for cell in results.cells:
        bits = cell.metrics["bits_per_dim"]
        assert bits["num_samples"] == 32
        # Sixty steps give about 5.2. The uniform code costs 8; a perfect network pays more than the L_0 of 100 steps,
        # 2.69 bits at inner grey levels and 0.79 at black, which is half of the pixels.
        assert 1.5 < bits["value"] < 8
        samples = cell.samples()
        assert (samples.dtype, samples.shape) == (np.uint8, (16, 1, 16, 16))
        assert samples.max() > 16
        assert math.isfinite(cell.metrics["bits_per_dim_l_0"]["value"])
    assert results.cells[0].train_key == results.cells[1].train_key
    assert results.timestep_kl.groupby("cell_id").size().tolist() == [30, 30]
    assert np.isfinite(results.timestep_kl["kl"]).all()
    page = (tmp_path / "reports" / "tiny" / "index.html").read_text(encoding="utf-8")
    assert "54000 training" in page
    assert "256 levels" in page
