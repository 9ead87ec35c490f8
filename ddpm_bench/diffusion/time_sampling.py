"""How training draws t: from one uniform number per image, by the inverse of a distribution p_t.

Where p_t is not uniform, the loss of an image at t is weighted by 1/(T p_t), so that its expectation stays the mean
over t. A draw is a function of its uniform number and of the losses seen before, which are part of a training's state.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

TimeSampling = Literal["uniform", "loss_second_moment"]
"""uniform: every t equally often; loss_second_moment: p_t ∝ √E[L_t²]."""

HISTORY = 10
"""Losses remembered for each t."""
UNIFORM_SHARE = 0.001
"""The part of p_t that stays uniform, which bounds the weights by 1/UNIFORM_SHARE."""


class TimeSampler:
    """Uniform t; also what other samplers share with it. Source: Ho et al. 2020, algorithm 1."""

    def __init__(self, num_timesteps: int, device: str = "cpu"):
        self.num_timesteps, self.device = num_timesteps, device

    def sample(self, unit: Tensor) -> tuple[Tensor, Tensor | None]:
        """(t, weight) of the next step: int64 [B], and 1/(T p_t) in float64 [B], None where all are 1.

        unit: uniform numbers in (0, 1), float64 [B].
        """
        return (unit * self.num_timesteps).long(), None

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Take note of a step: t int64 [B]; losses: of each image, without weight, [B]."""

    def state(self) -> dict[str, Tensor]:
        """The tensors that later draws depend on, for a checkpoint; empty where there are none."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""


class LossSecondMoment(TimeSampler):
    """p_t = (1 − u) √m_t / Σ_s √m_s + u/T: m_t the mean of the last 10 squared losses at t, u = 0.001.

    Uniform with weight 1 until every t has 10 losses. Losses that are not finite are not remembered: the training ends
    with them, but some steps later. Nothing here waits for the device.

    Source: Nichol & Dhariwal 2021, § 3.3, eq. 18; their code, resample.LossSecondMomentResampler (the uniform part).
    """

    def __init__(self, num_timesteps: int, device: str = "cpu"):
        super().__init__(num_timesteps, device)
        self._losses = torch.zeros(num_timesteps, HISTORY, dtype=torch.float64, device=device)
        self._counts = torch.zeros(num_timesteps, dtype=torch.int64, device=device)

    def probabilities(self) -> Tensor:
        """p_t of the history, float64 [T]; not used before every t has 10 losses."""
        root = self._losses.square().mean(1).sqrt()
        return (1.0 - UNIFORM_SHARE) * root / root.sum() + UNIFORM_SHARE / self.num_timesteps

    def sample(self, unit: Tensor) -> tuple[Tensor, Tensor | None]:
        """t with P(t) = p_t: the first whose cumulated probability exceeds the uniform number."""
        uniform, _ = super().sample(unit)
        p = self.probabilities()
        cumulated = p.cumsum(0)
        drawn = torch.searchsorted(cumulated / cumulated[-1], unit.contiguous(), right=True)
        warm = (self._counts >= HISTORY).all()
        t = torch.where(warm, drawn, uniform)
        return t, torch.where(warm, 1.0 / (self.num_timesteps * p[t]), 1.0)

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Remember the losses in their order, the last 10 of each t."""
        # A row more than T takes what is not remembered: the shapes must not depend on the values, which would wait.
        rows = torch.where(torch.isfinite(losses), t, self.num_timesteps)
        same = rows[:, None] == rows[None, :]
        before = same.tril(-1).sum(1)  # images of this step with the same t
        after = same.triu(1).sum(1)
        counts = torch.cat([self._counts, self._counts.new_zeros(1)])
        slots = (counts[rows] + before) % HISTORY
        kept = torch.where(after < HISTORY, rows, self.num_timesteps)
        history = torch.cat([self._losses, self._losses.new_zeros(1, HISTORY)])
        self._losses = history.index_put((kept, slots), losses.to(torch.float64))[:-1]
        self._counts = counts.scatter_add(0, rows, torch.ones_like(rows))[:-1]

    def state(self) -> dict[str, Tensor]:
        """The losses, float64 [T, 10] in the order of a ring, and how many there have been at each t, int64 [T]."""
        return {"losses": self._losses, "counts": self._counts}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self._losses, self._counts = (state[name].to(self.device) for name in ("losses", "counts"))


TIME_SAMPLERS: dict[TimeSampling, type[TimeSampler]] = {"uniform": TimeSampler, "loss_second_moment": LossSecondMoment}
"""Name → sampler."""
