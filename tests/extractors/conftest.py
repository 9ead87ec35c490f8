"""Fixtures of tests about weight files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of imported weights, not there yet."""
    monkeypatch.setenv("DDPM_BENCH_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


class Dangerous:
    """Pickled, it creates a file when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return io.open, (str(self.marker), "w")


@pytest.fixture
def dangerous(tmp_path: Path) -> tuple[Path, Path]:
    """(a file that executes code when it is opened without restriction, the trace this leaves)."""
    path, marker = tmp_path / "dangerous.pth", tmp_path / "executed"
    torch.save({"fc.bias": Dangerous(marker)}, path)
    torch.load(path, weights_only=False)["fc.bias"].close()
    assert marker.exists()  # the danger is real
    marker.unlink()
    return path, marker
