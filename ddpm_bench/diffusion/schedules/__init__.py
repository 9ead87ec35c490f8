"""Noise schedules: β_1 … β_T."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import Entry

GIVEN_AT = 1000
"""The T at which the ends of a schedule are given."""


class Schedule(Entry, axis="schedules"):
    """How much noise each step adds."""

    def betas(self, num_timesteps: int) -> Tensor:
        """β_t for t = 1…T, float64 [T]. Raises ValueError when the schedule does not exist for this T."""
        raise NotImplementedError

    def process(self, num_timesteps: int) -> Process:
        """The forward process of this schedule. Raises ValueError unless 0 < β_t < 1 throughout."""
        return Process.from_betas(self.betas(num_timesteps))

    def canonical(self, num_timesteps: int) -> Schedule:
        """The schedule that stands for all that have the betas of this one at this T: it enters the key."""
        return self

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


def thousand_over(num_timesteps: int, largest: float, called: str, name: str) -> float:
    """The factor 1000/T of schedules whose β_t are given at T = 1000.

    largest: the largest β_t at T = 1000; called, name: the schedule in the message, as prose and as registered.
    Raises ValueError where largest · 1000/T reaches 1.
    Source: Nichol & Dhariwal 2021, their code, get_named_beta_schedule.
    """
    factor = GIVEN_AT / num_timesteps
    if factor * largest >= 1:
        raise ValueError(
            f"the {called} schedule needs more than {1000 * largest:g} timesteps, got {num_timesteps}: its last beta, "
            f'{largest:g} · 1000/T, reaches 1; use more timesteps, {{ name = "{name}", scale = false }} or cosine'
        )
    return factor
