"""The reverse process written out slowly: one image, one t, float64, coefficients from decimal arithmetic.

The network is called with single rows, and the noise is drawn by its documented key.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from ddpm_bench.randomness import Stream
from tests.oracles import Chain, chain, cosine_betas, linear_betas


def betas(schedule: str, num_timesteps: int) -> list[float]:
    """β of the schedules that the tests use: cosine, and linear without its factor 1000/T."""
    return cosine_betas(num_timesteps) if schedule == "cosine" else linear_betas(num_timesteps, scale=False)


def noise(seed: int, purpose: str, step: int, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """The noise of one image at one step."""
    drawn: np.ndarray = Stream(seed, purpose).normal(step, torch.tensor([index]), shape)[0].double().numpy()
    return drawn


def score_noise(seed: int, split: str, num_timesteps: int, t: int, draw: int, index: int, shape: Any) -> np.ndarray:
    """The noise of a draw at the 1-based t in a score: the first draws have the keys 1…T, each later one T + 1 more."""
    return noise(seed, f"score {split}", draw * (num_timesteps + 1) + t, index, shape)


def call(net: nn.Module, x_t: np.ndarray, t: int) -> np.ndarray:
    """The output for one image; t: 1-based."""
    with torch.inference_mode():
        output: np.ndarray = net(torch.from_numpy(x_t).float()[None], torch.tensor([t - 1]))[0].double().numpy()
    return output


def x_0_hat(prediction: str, output: np.ndarray, x_t: np.ndarray, t: int, full: Chain) -> np.ndarray:
    """x̂_0 of what the network says at the 1-based t of the full chain."""
    signal, rest = math.sqrt(full.alpha_bar[t - 1]), math.sqrt(full.one_minus_alpha_bar[t - 1])
    if prediction == "epsilon":
        return (x_t - rest * output) / signal
    if prediction == "v":
        return signal * x_t - rest * output
    if prediction == "mu":
        return (output - full.posterior_x_t[t - 1] * x_t) / full.posterior_x_0[t - 1]
    return output


def full_chain(schedule: str, num_timesteps: int) -> Chain:
    """The chain over all t."""
    return chain(betas(schedule, num_timesteps))


def kept_chain(schedule: str, num_timesteps: int, kept: list[int]) -> Chain:
    """The chain over the kept t."""
    return chain(betas(schedule, num_timesteps), kept)


def sigma2(variance: str, first_step: str, walked: Chain) -> list[float]:
    """σ² of each step of the chain that is walked."""
    table = list(walked.beta if variance == "beta" else walked.posterior_variance)
    table[0] = walked.posterior_variance[1] if first_step == "beta_tilde_2" and len(table) > 1 else walked.beta[0]
    return table


def learned_sigma2(walked: Chain, i: int, v: np.ndarray) -> np.ndarray:
    """σ² = β^((1+v)/2) β̃^((1−v)/2) of each pixel; β̃_2 (of the walked chain) for β̃_1 = 0, β_1 where it has one step."""
    low = walked.posterior_variance[max(i, 1)] if len(walked.beta) > 1 else walked.beta[0]
    return np.array([walked.beta[i] ** ((1 + x) / 2) * low ** ((1 - x) / 2) for x in v.flat]).reshape(v.shape)
