"""Noise schedules: β_1 … β_T."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import Entry


class Schedule(Entry, axis="schedules"):
    """How much noise each step adds."""

    def betas(self, num_timesteps: int) -> Tensor:
        """β_t for t = 1…T, float64 [T]. Raises ValueError when the schedule does not exist for this T."""
        raise NotImplementedError

    def process(self, num_timesteps: int) -> Process:
        """The forward process of this schedule. Raises ValueError unless 0 < β_t < 1 throughout."""
        return Process.from_betas(self.betas(num_timesteps))

    def refuse(self, cell: Any) -> str | None:
        """A schedule without betas in (0, 1) for the cell's T."""
        try:
            self.process(cell.diffusion.timesteps)
        except ValueError as problem:
            return str(problem)
        return None


def betas_from_alpha_bar(alpha_bar: Tensor, max_beta: float) -> Tensor:
    """β_i = 1 − ᾱ(i/T) / ᾱ((i−1)/T), capped, float64 [T]; alpha_bar: float64 [T + 1] at 0, 1/T, …, 1.

    Source: Nichol & Dhariwal 2021, § 3.2 (the cap keeps the end of the chain from becoming singular).
    """
    return torch.clamp(1.0 - alpha_bar[1:] / alpha_bar[:-1], max=max_beta)
