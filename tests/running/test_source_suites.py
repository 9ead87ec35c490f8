"""The suites for a GPU scaled down on photographs: every cell to a report, without the weights of FID.

The published data sets are replaced by stand-ins, so that claims and published values about them are left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import ddpm_bench as db
from ddpm_bench import running
from ddpm_bench.cli import main
from ddpm_bench.executors import Job
from ddpm_bench.executors.local import Worker
from ddpm_bench.planning.file import read_tasks
from ddpm_bench.stages.runner import run_tasks
from tests.support import REPOSITORY, artifacts

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

SHARED = [
    "training.steps=2", "training.batch_size=8",
    "evaluation.samples=8", "evaluation.images=8", "evaluation.fit_images=4",
]  # fmt: skip
NARROW = "network.channels=8"
TWO_NETWORKS = (
    'matrix.network=[{name = "unet", channels = 8, channel_multipliers = [1, 2, 4, 8], residual_blocks = 1}, '
    '{name = "unet", channels = 8, channel_multipliers = [1, 2, 4, 8], residual_blocks = 4}]'
)


class InThisProcess:
    """Runs the jobs one after the other here: a process for each would spend 3 s on importing torch, 100 times."""

    def __init__(self, runs: Path, plan_file: Path, workers: list[Worker]):
        self.runs, self.plan_file = runs, plan_file

    def run(self, jobs: list[Job], tick: Callable[[list[Worker]], None]) -> None:
        """Each job when no other one still has to make what it needs, from the plan file as a worker reads it."""
        content, waiting = json.loads(self.plan_file.read_text(encoding="utf-8")), list(jobs)
        while waiting:
            to_come = {task.key for job in waiting for task in job.tasks}
            job = next(job for job in waiting if not job.needs & to_come)
            waiting.remove(job)
            run_tasks(self.runs, read_tasks(content, [task.key for task in job.tasks]), "cpu")


@dataclass(frozen=True)
class Desk:
    """A folder with photographs, in which commands are given."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def command(self, name: str, suite: str, settings: list[str], *flags: str) -> tuple[int, str, str]:
        """Exit code and what was printed on both streams."""
        flags = (*(part for setting in settings for part in ("--set", setting)), *flags)
        self.monkeypatch.setattr(
            sys, "argv", ["ddpm-bench", name, str(REPOSITORY / "suites" / f"{suite}.toml"), *flags]
        )
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *self.capsys.readouterr()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """JPEG patches of the two photographs that scikit-learn ships, one class each, 48×40 so that the crop has work."""
    rng = np.random.default_rng(0)
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for i in range(30):
            top, left = rng.integers(image.shape[0] - 40), rng.integers(image.shape[1] - 48)
            patch = Image.fromarray(image[top : top + 40, left : left + 48])
            patch.save(tmp_path / "photographs" / name / f"{i:03d}.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDPM_BENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("DDPM_BENCH_RUNS", raising=False)
    monkeypatch.setattr(running, "LocalExecutor", InThisProcess)
    return Desk(tmp_path, monkeypatch, capsys)


def photographs(channels: int = 3) -> str:
    return f'dataset={{name = "image_folder", path = "photographs", size = 8, channels = {channels}}}'


def test_sixteen_cells_twelve_trainings_to_a_report(desk: Desk) -> None:
    settings = [photographs(), NARROW, "diffusion.timesteps=30", *SHARED]
    code, said, problems = desk.command("plan", "cifar_ablation", settings, "--skip-missing")
    assert code == 0, problems
    assert "16 cells, 12 trainings" in said
    code, _, problems = desk.command("run", "cifar_ablation", settings)
    assert code == 2
    assert "weights-inception-2015-12-05-6726825d.pth" in problems
    assert not (desk.folder / "runs").exists()
    code, _, problems = desk.command("run", "cifar_ablation", settings, "--skip-missing")
    assert code == 0, problems
    results = db.results("cifar_ablation")
    assert [cell.status for cell in results.cells] == ["done"] * 16
    assert sum(stage == "train" for stage, _ in artifacts(desk.folder / "runs")) == 12
    for cell in results.cells:
        assert cell.metrics["fid"]["value"] is None
        assert "weights" in cell.metrics["fid"]["reason"]
        assert np.isfinite(cell.metrics["bits_per_dim"]["value"])
        samples = cell.samples()
        assert samples.shape == (8, 3, 8, 8)
        assert samples.dtype == np.uint8
    assert results.data["data"]["shape"] == [3, 8, 8]
    page = (desk.folder / "reports" / "cifar_ablation" / "index.html").read_text(encoding="utf-8")
    assert all(override in page.replace("&#34;", '"') for override in settings)


@dataclass(frozen=True)
class Case:
    """A suite scaled down. cells, trainings: what is left of it; illegal: cells listed as such."""

    suite: str
    settings: list[str]
    cells: int
    trainings: int
    illegal: int = 0
    channels: int = 3
    left_out: int = 0
    """Claims and published values that are about the replaced data set."""
    unbounded: list[str] = field(default_factory=list)
    """Samplers of cells that have no bits/dim."""


CASES = [
    Case("cifar_ho_table2", [NARROW, "diffusion.timesteps=30"], cells=6, trainings=6, illegal=2, left_out=12),
    Case("cifar_timesteps", [NARROW, "matrix.timesteps=[25, 30]"], cells=4, trainings=2, left_out=8),
    Case("cifar_improved", [NARROW, "diffusion.timesteps=30"], cells=7, trainings=5, illegal=6, left_out=14),
    Case("cifar_steps", [NARROW, "matrix.timesteps=[30]"], cells=4, trainings=2),
    Case("mnist_steps", [NARROW, "matrix.timesteps=[30]"], cells=4, trainings=2, channels=1),
    Case(
        "cifar_sampling_steps", [NARROW, "diffusion.timesteps=30", "matrix.sampling_steps=[5, 10]"],
        cells=8, trainings=1, left_out=48, unbounded=["ddim"],
    ),
    Case("celeba_epsilon_vs_x0", [TWO_NETWORKS, "diffusion.timesteps=30"], cells=8, trainings=6, left_out=6),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.suite)
def test_every_cell_to_a_report(case: Case, desk: Desk) -> None:
    settings = [photographs(case.channels), *SHARED, *case.settings]
    code, _, problems = desk.command("run", case.suite, settings, "--skip-missing")
    assert code == 0, problems
    results = db.results(case.suite)
    done = [cell for cell in results.cells if cell.status == "done"]
    assert len(done) == case.cells
    assert [cell.status for cell in results.cells if cell not in done] == ["illegal"] * case.illegal
    assert sum(stage == "train" for stage, _ in artifacts(desk.folder / "runs")) == case.trainings
    for cell in done:
        assert cell.samples().shape == (8, case.channels, 8, 8)
        bound = cell.metrics["bits_per_dim"]["value"]
        assert bound is None if cell.axes["sampler"] in case.unbounded else np.isfinite(bound)
    assert len(results.data["notes"]) == case.left_out
    assert results.data["claims"] == results.data["references"] == []
    assert (desk.folder / "reports" / case.suite / "index.html").is_file()
