"""A failing or diverging cell never stops the others, and says what happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

import ddpm_bench as db
from tests.conftest import FinishedRun
from tests.support import TINY, cli, write_suite

pytestmark = pytest.mark.xdist_group("runs")

PLUGIN = '''
"""Losses that go wrong."""
from dataclasses import dataclass

import torch

from ddpm_bench.diffusion.losses import Loss
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class {name}(Loss):
    """A loss that goes wrong. Source: none."""

    def per_image(self, output, batch, process, prediction):
        {body}
'''
RAISES = PLUGIN.format(name="Raises", body='raise RuntimeError("the loss broke")')
NAN = PLUGIN.format(
    name="Nan", body="return torch.where(batch.t == 3, torch.nan, 1.0) * output.square().flatten(1).mean(1)"
)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "raises_loss.py").write_text(RAISES)
    (folder / "nan_loss.py").write_text(NAN)
    text = TINY.replace("schema = 1", 'schema = 1\nplugins = ["raises_loss.py", "nan_loss.py"]')
    text = text.replace('prediction = ["epsilon", "x0"]\nvariance = ["beta", "beta_tilde"]',
                        'loss = ["raises_loss", "nan_loss", "simple"]')  # fmt: skip
    write_suite(folder, text)
    return folder


def test_one_fails_one_diverges_one_is_done(broken: Path) -> None:
    done = cli("run", "tiny.toml", cwd=broken)
    assert done.returncode == 1, done.stderr
    cells = {cell.axes["loss"]: cell for cell in db.results("tiny", runs=broken / "runs").cells}
    assert {name: cell.status for name, cell in cells.items()} == {
        "raises_loss": "failed", "nan_loss": "diverged", "simple": "done",
    }  # fmt: skip
    assert "the loss broke" in cells["raises_loss"].reason
    assert cells["raises_loss"].metrics["bits_per_dim"]["value"] is None
    assert "the loss broke" in cells["raises_loss"].metrics["bits_per_dim"]["reason"]
    divergence = cells["nan_loss"].training["divergence"]
    assert divergence["t"] == 4  # index 3 is t = 4 for a user
    assert divergence["loss"] == "nan"
    assert divergence["step"] >= 1
    assert "failed" in done.stdout and "diverged" in done.stdout
    shown = cli("logs", cells["raises_loss"].id, cwd=broken)
    assert "Traceback" in shown.stdout and "the loss broke" in shown.stdout
    state = cli("status", cwd=broken)
    assert "diverged" in state.stdout and "done" in state.stdout


def test_a_second_run_of_the_suite_at_the_same_time_is_refused(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    folder = tmp_path / "runs" / "suites" / "tiny"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        done = cli("run", suite, cwd=tmp_path)
    assert done.returncode == 2
    assert "another run" in done.stderr and "Traceback" not in done.stderr


def test_a_finished_run_lets_go_of_the_suite(finished_tiny: FinishedRun) -> None:
    with FileLock(finished_tiny.runs / "suites" / "tiny" / ".lock", timeout=0):
        pass


@pytest.mark.slow  # about 40 s
def test_a_task_that_kills_its_process_twice_is_recorded_as_failed(tmp_path: Path) -> None:
    (tmp_path / "kills_loss.py").write_text(PLUGIN.format(name="Kills", body="import os; os.kill(os.getpid(), 9)"))
    text = TINY.replace("schema = 1", 'schema = 1\nplugins = ["kills_loss.py"]')
    text = text.replace('prediction = ["epsilon", "x0"]\nvariance = ["beta", "beta_tilde"]',
                        'loss = ["kills_loss", "simple"]')  # fmt: skip
    write_suite(tmp_path, text)
    done = cli("run", "tiny.toml", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    cells = {cell.axes["loss"]: cell for cell in db.results("tiny", runs=tmp_path / "runs").cells}
    assert cells["kills_loss"].status == "failed"
    assert "died 2 times" in cells["kills_loss"].reason
    assert cells["simple"].status == "done"


def test_a_dead_tracking_server_costs_one_warning(tmp_path: Path) -> None:
    text = TINY.replace('["epsilon", "x0"]', '["epsilon"]').replace('["beta", "beta_tilde"]', '["beta"]')
    write_suite(tmp_path, text)
    done = cli("run", "tiny.toml", cwd=tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")  # discard: nobody listens
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning") == 1
    assert "track sync" in done.stderr
    assert [cell.status for cell in db.results("tiny", runs=tmp_path / "runs").cells] == ["done"]
    synced = cli("track", "sync", cwd=tmp_path)
    assert synced.returncode == 0, synced.stderr
    assert (tmp_path / "runs" / "mlflow.db").is_file()
