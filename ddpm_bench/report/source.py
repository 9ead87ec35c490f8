"""What a report is made of: results.json of one suite, its tables, and artifacts of the store read when asked for."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddpm_bench.errors import UserError

SCHEMA = 1

TIMESTEP_KL_COLUMNS = ["cell_id", "seed", "t", "kl", "stderr", "kl_variance", "kl_mean", "epsilon_mse", "x0_mse",
                       "log_snr", "log_sigma2", "head", "rate", "distortion"]  # fmt: skip


class ResultsView:
    """The results of one suite below `runs`, read without torch.

    data: results.json as it stands; paths in it are relative to `runs`. folder: where it lies if not at the suite's
    place; views: the suites it is made of. Raises UserError when the suite has no results, or they are of another
    schema.
    """

    def __init__(self, runs: Path, suite: str, folder: Path | None = None):
        self.runs, self.suite = Path(runs), suite
        self.views: list[ResultsView] = [self]
        self.folder = folder or self.runs / "suites" / suite
        path = self.folder / "results.json"
        if not path.is_file():
            raise UserError(f'{path}: the suite "{suite}" has no results; run `ddpm-bench run` on it first')
        self.data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if self.data.get("schema") != SCHEMA:
            found = self.data.get("schema")
            raise UserError(f"{path}: schema {found!r}, this version reads schema {SCHEMA}; run the suite again")

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The cells in matrix order."""
        return self.data["cells"]

    @cached_property
    def timestep_kl(self) -> pd.DataFrame:
        """timestep_kl.csv, t = 1…T, kl in bits/dim; no rows when the suite does not measure it."""
        return self._read("timestep_kl.csv")

    @property
    def further_splits(self) -> list[str]:
        """The splits other than test that have a table over timesteps."""
        found = sorted(path.stem for path in self.folder.glob("timestep_kl_*.csv"))
        return [name.removeprefix("timestep_kl_") for name in found]

    def timesteps(self, split: str) -> pd.DataFrame:
        """As timestep_kl, of another split than test."""
        return self._read(f"timestep_kl_{split}.csv")

    def _read(self, name: str) -> pd.DataFrame:
        path = self.folder / name
        if not path.is_file():
            return pd.DataFrame(columns=TIMESTEP_KL_COLUMNS)
        return pd.read_csv(path, dtype={"cell_id": str})

    def curves(self, cell: dict[str, Any]) -> pd.DataFrame | None:
        """curves.csv of the cell's training: one row per logged step; None when it is not in the store."""
        folder = cell["artifacts"].get("train")
        path = self.runs / folder / "curves.csv" if folder else None
        return pd.read_csv(path) if path and path.is_file() else None

    def samples(self, cell: dict[str, Any], count: int) -> np.ndarray | None:
        """The first `count` generated images [n, C, H, W]: uint8 levels, or float32 for data without levels.

        None when the cell has no samples or the store no longer holds them.
        """
        chunks: list[np.ndarray] = []
        for folder in cell["artifacts"].get("samples", []):
            path = self.runs / folder / "samples.npy"
            if not path.is_file():
                break
            chunks.append(np.array(np.load(path, mmap_mode="r")[: count - sum(map(len, chunks))]))
            if sum(map(len, chunks)) >= count:
                break
        return np.concatenate(chunks) if chunks else None
