"""The variational bound written out slowly: image by image, pixel by pixel, t by t, for any σ²."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import nn

from tests.oracles import Chain, log_bin_probability
from tests.stages.slow_chain import call, full_chain, kept_chain, learned_sigma2, score_noise, x_0_hat

Table = list[float] | Literal["learned"]
"""σ² of every step of a chain, or what the head says."""
DRAWS_AT_FIRST = 2


@dataclass
class Terms:
    """One image on one chain, in nats: l_0, perfect (L_0 of x̂_0 = x_0) and log_sigma2_first, head_first for each draw
    of the first step; the rest for each later step. Squared errors are means over pixels at every step."""

    l_0: list[float]
    perfect: list[float]
    l_T: float
    variance: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    log_sigma2: list[float] = field(default_factory=list)
    head: list[float] = field(default_factory=list)
    eps_error: list[float] = field(default_factory=list)
    raw_error: list[float] = field(default_factory=list)
    clipped_error: list[float] = field(default_factory=list)

    @property
    def bound(self) -> dict[str, float]:
        """The four terms of the bound."""
        l_0 = sum(self.l_0) / len(self.l_0)
        return {"l_0": l_0, "mean_cost": sum(self.mean), "variance_cost": sum(self.variance), "l_T": self.l_T}

    @property
    def network(self) -> float:
        """The bound minus that of a perfect network."""
        return (sum(self.l_0) - sum(self.perfect)) / len(self.l_0) + sum(self.mean)


class SlowBound:
    """The bound of one network on the images of one split."""

    def __init__(
        self, net: nn.Module, prediction: str, schedule: str, levels: int | None, values: np.ndarray, *,
        num_timesteps: int = 8, split: str = "test", seed: int = 0,
    ):  # fmt: skip
        self.net, self.prediction, self.schedule, self.levels = net, prediction, schedule, levels
        self.values, self.split, self.seed, self.num_timesteps = values, split, seed, num_timesteps
        self.full = full_chain(schedule, num_timesteps)
        self._draws: dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._first_sigma2: dict[tuple[int, bool], float] = {}

    def image(self, index: int) -> np.ndarray:
        """x_0."""
        values = self.values[index].astype(np.float64)
        return values if self.levels is None else 2 * values / (self.levels - 1) - 1

    def draw(self, index: int, t: int, draw: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x_t at the t of the full chain, x̂_0 there without thresholding, and the head (empty without one)."""
        if (index, t, draw) not in self._draws:
            x_0, a, b = self.image(index), self.full.alpha_bar[t - 1], self.full.one_minus_alpha_bar[t - 1]
            eps = score_noise(self.seed, self.split, self.num_timesteps, t, draw, index, x_0.shape)
            x_t = math.sqrt(a) * x_0 + math.sqrt(b) * eps
            output = call(self.net, x_t, t)
            guess = x_0_hat(self.prediction, output[: len(x_0)], x_t, t, self.full)
            self._draws[index, t, draw] = x_t, guess, output[len(x_0) :]
        return self._draws[index, t, draw]

    def terms(self, index: int, kept: list[int], table: Table, clip: bool) -> Terms:
        """Every term of one image on the chain over the kept t."""
        walked, x_0 = kept_chain(self.schedule, self.num_timesteps, kept), self.image(index)
        a, b = walked.alpha_bar[-1], walked.one_minus_alpha_bar[-1]
        l_T = sum(0.5 * (a * x * x + b - 1 - math.log(b)) for x in x_0.flat)  # KL(N(√a x, b) ‖ N(0, 1))
        found = Terms([], [], l_T)
        for i, t in enumerate(kept):
            draws = [self.draw(index, t, draw) for draw in range(1 if i else DRAWS_AT_FIRST)]
            spreads, guesses = [], []
            for x_t, raw, head in draws:
                guesses.append(np.clip(raw, -1, 1) if clip else raw)
                spreads.append(_sigma2(table, walked, i, head, x_0))
                means = [walked.posterior_x_0[i] * x + walked.posterior_x_t[i] * x_t for x in (x_0, guesses[-1])]
                if i == 0:
                    found.l_0.append(self._decoder(index, means[1], spreads[-1]))
                    found.perfect.append(self._decoder(index, x_0, spreads[-1]))
                    continue
                q, pixels = walked.posterior_variance[i], zip(spreads[-1].flat, *(m.flat for m in means), strict=True)
                parts = [(0.5 * (math.log(p / q) + q / p - 1), (x - y) ** 2 / (2 * p)) for p, x, y in pixels]
                found.variance.append(sum(variance for variance, _ in parts))
                found.mean.append(sum(mean for _, mean in parts))
            found.log_sigma2.append(float(np.mean(np.log(spreads))))
            found.head.append(float(np.mean([head for _, _, head in draws])) if draws[0][2].size else math.nan)
            found.eps_error.append(float(np.mean([self._eps_error(x_0, x_t, raw, t) for x_t, raw, _ in draws])))
            found.raw_error.append(float(np.mean([(x_0 - raw) ** 2 for _, raw, _ in draws])))
            found.clipped_error.append(float(np.mean([(x_0 - np.clip(raw, -1, 1)) ** 2 for _, raw, _ in draws])))
        return found

    def _eps_error(self, x_0: np.ndarray, x_t: np.ndarray, guess: np.ndarray, t: int) -> float:
        """Mean of (ε − ε̂)², both from x_t = √ᾱ x_0 + √(1−ᾱ) ε."""
        signal, rest = math.sqrt(self.full.alpha_bar[t - 1]), math.sqrt(self.full.one_minus_alpha_bar[t - 1])
        eps, eps_hat = ((x_t - signal * x) / rest for x in (x_0, guess))
        return float(np.mean((eps - eps_hat) ** 2))

    def fitted(self, kept: list[int], clip: bool) -> list[float]:
        """β̃ + c² (mean squared error over the split); at the first step what makes the mean L_0 smallest."""
        walked = kept_chain(self.schedule, self.num_timesteps, kept)
        every = [self.terms(index, kept, walked.beta, clip) for index in range(len(self.values))]
        errors = np.mean([terms.clipped_error if clip else terms.raw_error for terms in every], axis=0)
        table = [q + c**2 * m for q, c, m in zip(walked.posterior_variance, walked.posterior_x_0, errors, strict=True)]
        if (kept[0], clip) not in self._first_sigma2:
            self._first_sigma2[kept[0], clip] = smallest(
                lambda sigma2: self._mean_l_0(kept[0], clip, sigma2), 4 * max(1.0, table[0])
            )
        return [self._first_sigma2[kept[0], clip], *table[1:]]

    def _mean_l_0(self, t: int, clip: bool, sigma2: float) -> float:
        total = 0.0
        for index in range(len(self.values)):
            for draw in range(DRAWS_AT_FIRST):
                raw = self.draw(index, t, draw)[1]
                mean = np.clip(raw, -1, 1) if clip else raw
                total += self._decoder(index, mean, np.full(mean.shape, sigma2))
        return total

    def _decoder(self, index: int, mean: np.ndarray, sigma2: np.ndarray) -> float:
        if self.levels is None:
            pairs = zip((self.image(index) - mean).flat, sigma2.flat, strict=True)
            return sum(0.5 * math.log(2 * math.pi * s) + r * r / (2 * s) for r, s in pairs)
        pixels = zip(self.values[index].flat, mean.flat, sigma2.flat, strict=True)
        return -sum(log_bin_probability(int(level), float(m), float(s), self.levels) for level, m, s in pixels)


def _sigma2(table: Table, walked: Chain, i: int, head: np.ndarray, x_0: np.ndarray) -> np.ndarray:
    """σ² of each pixel at the step i."""
    return learned_sigma2(walked, i, head) if table == "learned" else np.full(x_0.shape, table[i])


def smallest(function: Callable[[float], float], largest: float) -> float:
    """Where a function of σ² is smallest between 1e-12 and the largest: grids in ln σ², each between the neighbours of
    the best of the last, down to 1e-6.

    Where σ² → 0 is as good as anything, the largest that is worse by no more than 1e-5 of the rise to the other end.
    """
    low, high = math.log(1e-12), math.log(largest)
    at_low, at_high = function(1e-12), function(largest)
    while high - low > 1e-6:
        grid = np.linspace(low, high, 33)
        values = [function(math.exp(x)) for x in grid]
        best = int(np.argmin(values))
        low, high = grid[max(0, best - 1)], grid[min(32, best + 1)]
    bound = min(values) + 1e-5 * (at_high - min(values))
    if at_low > bound:
        return math.exp((low + high) / 2)
    low, high = math.log(1e-12), math.log(largest)
    while high - low > 1e-6:  # the function rises once it has left zero
        middle = (low + high) / 2
        low, high = (middle, high) if function(math.exp(middle)) <= bound else (low, middle)
    return math.exp(low)


def later_contrast(values: np.ndarray) -> list[float]:
    """The noise contrast of each image from its terms of the later steps, [n, M], in the words of its definition.

    k: the term minus the mean over images, times √(n/(n−1)); (k_1 − k_2) − (k_3 − k_4) + …; an odd last term k_c joins
    the last pair as √(2/3) ((k_a + k_b)/2 − k_c), with the sign of a next pair.
    """
    n, count = values.shape
    if count == 0:
        return [0.0] * n
    if count == 1:
        return [math.nan] * n
    found = []
    for row in values:
        k = [math.sqrt(n / (n - 1)) * (x - sum(values[:, m]) / n) for m, x in enumerate(row)]
        total, sign = 0.0, 1.0
        for first in range(0, count - 1, 2):
            total += sign * (k[first] - k[first + 1])
            sign = -sign
        if count % 2:
            total += sign * math.sqrt(2 / 3) * ((k[-3] + k[-2]) / 2 - k[-1])
        found.append(total)
    return found
