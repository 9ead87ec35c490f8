"""A cell, and why one makes no sense."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ddpm_bench.datasets import Dataset
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import kept_timesteps
from ddpm_bench.networks import Network
from ddpm_bench.registry import Entry
from ddpm_bench.spec.tables import Diffusion, ReverseOptions, TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant with everything that produces its numbers, as the suite wrote it."""

    dataset: Dataset
    network: Network
    diffusion: Diffusion
    training: TrainingOptions
    reverse: ReverseOptions
    seed: int

    def entries(self) -> list[Entry]:
        """Every registered entry of the cell, entries inside entries included."""
        found: list[Entry] = []

        def walk(value: Any) -> None:
            if isinstance(value, Entry):
                found.append(value)
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                for item in dataclasses.fields(value):
                    walk(getattr(value, item.name))

        walk(self)
        return found

    @property
    def thresholding(self) -> str:
        """The thresholding in force: the default depends on the data."""
        return self.reverse.thresholding or ("none" if self.dataset.levels is None else "clip")

    @property
    def learned_variance(self) -> bool:
        """Whether the network has a variance head: for the cell's σ², or for the one its loss trains with."""
        trained = self.diffusion.loss.variance
        return self.reverse.variance.needs_head or (trained is not None and trained.needs_head)

    def process(self) -> Process:
        """The full forward process."""
        return self.diffusion.schedule.process(self.diffusion.timesteps)

    def kept_timesteps(self) -> list[int]:
        """The t (1-based, of the original process) that the reverse chain walks. Raises ValueError."""
        steps, total = self.reverse.sampling_steps, self.diffusion.timesteps
        count = total if steps == "all" else int(steps)
        return [int(t) for t in kept_timesteps(self.reverse.spacing, total, count)]


def illegal(cell: Cell) -> str | None:
    """Why the cell makes no sense, or None: its own rules first, then every entry's `refuse`."""
    if cell.dataset.levels is None and cell.reverse.thresholding not in (None, "none"):
        return (
            f'thresholding "{cell.reverse.thresholding}" with dataset {cell.dataset.name}: its values have no bounded '
            'range to clip to; use thresholding = "none"'
        )
    try:
        cell.kept_timesteps()
    except ValueError as problem:
        return str(problem)
    for item in cell.entries():
        reason = item.refuse(cell)
        if reason is not None:
            return reason
    return None
