"""Fewer steps: which t of the original chain are kept, and the chain that they make."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process


def linspace(num_timesteps: int, num_steps: int) -> list[float]:
    """1 + i (T − 1)/(S − 1); T for S = 1. Keeps t = 1 and t = T. Source: Nichol & Dhariwal 2021, § 4."""
    if num_steps == 1:
        return [num_timesteps]
    return [1 + i * (num_timesteps - 1) / (num_steps - 1) for i in range(num_steps)]


def leading(num_timesteps: int, num_steps: int) -> list[float]:
    """1 + i ⌊T/S⌋: keeps t = 1, stops short of T. Source: Song et al. 2021 (DDIM), appendix D.2, linear."""
    return [1 + i * (num_timesteps // num_steps) for i in range(num_steps)]


def trailing(num_timesteps: int, num_steps: int) -> list[float]:
    """T − i T/S, downwards: keeps t = T, not t = 1. Source: Lin et al. 2024, Common diffusion noise schedules, 3.3."""
    return sorted(num_timesteps - i * num_timesteps / num_steps for i in range(num_steps))


def quadratic(num_timesteps: int, num_steps: int) -> list[float]:
    """1 + (i √(0.8 T)/(S − 1))²: dense at small t. Source: Song et al. 2021 (DDIM), appendix D.2, quadratic."""
    if num_steps == 1:
        return [num_timesteps]
    return [1 + (i * math.sqrt(0.8 * num_timesteps) / (num_steps - 1)) ** 2 for i in range(num_steps)]


SPACINGS = {"linspace": linspace, "leading": leading, "trailing": trailing, "quadratic": quadratic}


def kept_timesteps(spacing: str, num_timesteps: int, num_steps: int) -> Tensor:
    """The kept t, 1-based and ascending, int64 [S]. Raises ValueError for too many steps or duplicates."""
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"sampling_steps = {num_steps} is not between 1 and the {num_timesteps} steps of the process")
    kept = [math.floor(t + 0.5) for t in SPACINGS[spacing](num_timesteps, num_steps)]
    if len(set(kept)) != len(kept) or kept[0] < 1 or kept[-1] > num_timesteps:
        raise ValueError(f"spacing {spacing} cannot choose {num_steps} different steps of {num_timesteps}")
    return torch.tensor(kept, dtype=torch.int64)


def respace(process: Process, timesteps: Tensor) -> Process:
    """The chain over the kept t: the same ᾱ at these t, β_i = 1 − ᾱ_{t_i}/ᾱ_{t_{i−1}}.

    process: a full chain; timesteps: int64 [S], 1-based, ascending.
    Source: Nichol & Dhariwal 2021, Improved DDPM, § 4, eq. 19.
    """
    if len(timesteps) == len(process):
        return process
    log_alpha_bar = process.log_alpha_bar[timesteps - 1]
    beta = -torch.expm1(torch.diff(log_alpha_bar, prepend=torch.zeros(1, dtype=torch.float64)))
    return Process(beta, log_alpha_bar, timesteps, len(process))
