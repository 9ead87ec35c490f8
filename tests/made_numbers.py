"""Invented numbers that hang together: the terms of the bound by formula, for networks that are not quite optimal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

EXCESS = {
    ("epsilon", "simple"): 0.10, ("epsilon", "vlb"): 0.04, ("epsilon", "hybrid"): 0.07,
    ("x0", "simple"): 0.16, ("x0", "vlb"): 0.06, ("x0", "hybrid"): 0.11,
    ("mu", "simple"): 0.13, ("mu", "vlb"): 0.05, ("mu", "hybrid"): 0.09,
    ("v", "simple"): 0.08, ("v", "vlb"): 0.045, ("v", "hybrid"): 0.06,
}  # fmt: skip
"""How much larger the squared error is than that of the best network."""


def betas(schedule: str, num_steps: int) -> np.ndarray:
    """β_t, t = 1…T."""
    if schedule == "linear":
        return np.linspace(1e-4, 0.02, num_steps) * 1000 / num_steps
    u = np.arange(num_steps + 1) / num_steps
    f = np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


@dataclass(frozen=True)
class Chain:
    """The steps t of a schedule with T steps that a reverse process keeps."""

    schedule: str
    num_steps: int
    kept: int | None = None

    @cached_property
    def t(self) -> np.ndarray:
        """The kept t, from 1 to T."""
        if self.kept is None:
            return np.arange(1, self.num_steps + 1)
        return np.rint(1 + np.arange(self.kept) * (self.num_steps - 1) / (self.kept - 1)).astype(int)

    @cached_property
    def alpha_bar(self) -> np.ndarray:
        """ᾱ at the kept t."""
        return np.cumprod(1 - betas(self.schedule, self.num_steps))[self.t - 1]

    @property
    def previous(self) -> np.ndarray:
        """ᾱ of the step before; 1 before the first."""
        return np.concatenate([[1.0], self.alpha_bar[:-1]])

    @property
    def snr(self) -> np.ndarray:
        """ᾱ/(1 − ᾱ)."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def beta(self) -> np.ndarray:
        """β of the chain."""
        return 1 - self.alpha_bar / self.previous

    @property
    def beta_tilde(self) -> np.ndarray:
        """β̃ of the chain, that of its second step at the first."""
        found = (1 - self.previous) / (1 - self.alpha_bar) * self.beta
        return np.concatenate([found[1:2], found[1:]])

    @property
    def weight(self) -> np.ndarray:
        """c², the weight of |x_0 − x̂_0|² in the squared distance of the means."""
        return self.previous * (self.beta / (1 - self.alpha_bar)) ** 2


def squared_error(prediction: str, loss: str, chain: Chain, random: np.random.Generator) -> np.ndarray:
    """|x_0 − x̂_0|²/D at each kept t: what is unknown of an image shrinks with the noise."""
    full = Chain(chain.schedule, chain.num_steps)
    spread = 0.021 + 0.22 / (1 + 4 * full.snr)
    error = spread * (1 - full.alpha_bar) / (full.alpha_bar * spread + 1 - full.alpha_bar)
    direct = {"x0": 0.15, "mu": 0.08}.get(prediction, 0.0)  # predicting an image is poor at small t
    error *= (1 + EXCESS[prediction, loss]) * (1 + direct / (1 + 0.1 / full.snr)) * np.exp(random.normal(0, 0.006))
    error *= np.exp(random.normal(0, 0.02, chain.num_steps))
    return error[chain.t - 1]


def log_sigma2(variance: str, chain: Chain, fitted: np.ndarray) -> np.ndarray:
    """ln σ². fitted: the squared error on the split that the optimal σ² is fitted to."""
    low, high = np.log(chain.beta_tilde), np.log(chain.beta)
    best = np.log(np.where(chain.t == chain.t[0], 0.0, chain.beta_tilde) + chain.weight * fitted)
    if variance == "learned_range":  # a head that has come most of the way
        with np.errstate(invalid="ignore"):
            return low + (0.08 + 0.85 * np.clip((best - low) / (high - low), 0, 1)) * (high - low)
    return {"beta": np.concatenate([low[:1], high[1:]]), "beta_tilde": low, "optimal": best}[variance]


def terms(chain: Chain, log_variance: np.ndarray, error: np.ndarray) -> dict[str, np.ndarray]:
    """Per t in bits/dim: variance and mean cost (0 at the first step), L_0 there, and what follows from them."""
    sigma2 = np.exp(log_variance)
    ratio = chain.beta_tilde / sigma2
    variance_cost = 0.5 * (ratio - 1 - np.log(ratio)) / math.log(2)
    mean_cost = 0.5 * chain.weight * error / sigma2 / math.log(2)
    variance_cost[0] = mean_cost[0] = 0.0
    l_0 = 0.02 + 0.2 * error[0] / sigma2[0]
    last = chain.alpha_bar[-1]
    l_t = 0.5 * (last * 0.4 - last - math.log(1 - last)) / math.log(2)
    kl = np.concatenate([[l_0], (variance_cost + mean_cost)[1:]])
    rest = np.concatenate([np.cumsum(kl[:0:-1])[::-1], [0.0]])  # of the steps after t
    return {
        "variance": variance_cost, "mean": mean_cost, "kl": kl, "l_0": np.array(l_0), "l_T": np.array(l_t),
        "network": np.array(l_0 - 0.02 + mean_cost.sum()), "x0_mse": error, "epsilon_mse": error * chain.snr,
        "log_snr": np.log(chain.snr), "log_sigma2": log_variance, "rate": l_t + rest,
        "distortion": 127.5 * np.sqrt(error),
    }  # fmt: skip
