"""suites/cifar_ablation.toml scaled down on photographs: the whole grid, to a report, without the weights of FID."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import ddpm_bench as db
from tests.support import REPOSITORY, artifacts, cli

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]


def write_photographs(folder: Path, count: int = 60) -> None:
    """JPEG patches of the two photographs that scikit-learn ships, one class each, 48×40 so that the crop has work."""
    rng = np.random.default_rng(0)
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(count // 2):
            top, left = rng.integers(image.shape[0] - 40), rng.integers(image.shape[1] - 48)
            Image.fromarray(image[top : top + 40, left : left + 48]).save(folder / name / f"{i:03d}.jpg", quality=95)


def test_sixteen_cells_twelve_trainings_to_a_report(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photographs")
    settings = [
        'dataset={name = "image_folder", path = "photographs", size = 32}',
        "network.channels=32", "training.steps=2", "training.batch_size=8", "diffusion.timesteps=30",
        "evaluation.samples=8", "evaluation.images=8",
    ]  # fmt: skip
    flags = [part for setting in settings for part in ("--set", setting)]
    suite = REPOSITORY / "suites" / "cifar_ablation.toml"
    plan = cli("plan", suite, *flags, "--skip-missing", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    assert "16 cells, 12 trainings" in plan.stdout
    refused = cli("run", suite, *flags, cwd=tmp_path)
    assert refused.returncode == 2
    assert "weights-inception-2015-12-05-6726825d.pth" in refused.stderr
    assert not (tmp_path / "runs").exists()
    done = cli("run", suite, *flags, "--skip-missing", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = db.results("cifar_ablation", runs=tmp_path / "runs")
    assert [cell.status for cell in results.cells] == ["done"] * 16
    assert sum(stage == "train" for stage, _ in artifacts(tmp_path / "runs")) == 12
    for cell in results.cells:
        assert cell.metrics["fid"]["value"] is None
        assert "weights" in cell.metrics["fid"]["reason"]
        assert np.isfinite(cell.metrics["bits_per_dim"]["value"])
        samples = cell.samples()
        assert samples.shape == (8, 3, 32, 32)
        assert samples.dtype == np.uint8
    assert results.data["data"]["shape"] == [3, 32, 32]
    page = (tmp_path / "reports" / "cifar_ablation" / "index.html").read_text(encoding="utf-8")
    assert all(override in page.replace("&#34;", '"') for override in settings)
