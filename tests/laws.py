"""Data on the line whose best denoiser is a formula: mixtures of normal distributions, single points among them.

A network that computes it is given to what is checked; what that network must cost is an integral. Nothing is imported
from the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tests.oracles import Chain


@dataclass(frozen=True)
class Law:
    """A mixture of normal distributions on the line; a component without width is a point."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def denoise(self, x_t: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        """(E[x_0 | x_t], Var(x_0 | x_t)): the posterior of the component, then that within it. Shapes broadcast."""
        w, m, s2 = (torch.tensor(v, dtype=torch.float64) for v in (self.weights, self.means, self.deviations))
        s2, x, a = s2.square(), x_t[..., None], alpha_bar[..., None]
        total = a * s2 + 1 - a
        share = torch.softmax(w.log() - 0.5 * total.log() - (x - a.sqrt() * m).square() / (2 * total), -1)
        inner = m + a.sqrt() * s2 / total * (x - a.sqrt() * m)
        mean = (share * inner).sum(-1)
        spread = share * (s2 * (1 - a) / total + (inner - mean[..., None]).square())
        return mean, spread.sum(-1)

    def nodes(self, count: int = 121) -> tuple[Tensor, Tensor]:
        """Nodes and weights of x_0: a sum over equidistant points, which for a smooth density that has vanished at
        both ends (8.5 standard deviations: e^-36) converges faster than any power of their number."""
        z = torch.linspace(-8.5, 8.5, count, dtype=torch.float64)
        bell = torch.exp(-z.square() / 2)
        places, weights = [], []
        for w, m, s in zip(self.weights, self.means, self.deviations, strict=True):
            places.append(m + s * z if s else torch.tensor([m], dtype=torch.float64))
            weights.append(w * bell / bell.sum() if s else torch.tensor([w], dtype=torch.float64))
        return torch.cat(places), torch.cat(weights)

    def draw(self, shape: tuple[int, ...], seed: int) -> np.ndarray:
        """Independent values, float64."""
        rng = np.random.default_rng(seed)
        component = rng.choice(len(self.weights), size=shape, p=self.weights)
        drawn: np.ndarray = np.array(self.means)[component]
        return drawn + np.array(self.deviations)[component] * rng.standard_normal(shape)

    def entropy(self) -> float:
        """−∫ p ln p in nats; of points −Σ p ln p."""
        if not any(self.deviations):
            return -sum(w * math.log(w) for w in self.weights)
        low = min(m - 9 * s for m, s in zip(self.means, self.deviations, strict=True))
        high = max(m + 9 * s for m, s in zip(self.means, self.deviations, strict=True))
        x = np.linspace(low, high, 40_001)
        p = self.density(x, 1.0)
        return float(-np.sum(p * np.log(np.maximum(p, 1e-300))) * (x[1] - x[0]))

    def density(self, x: np.ndarray, alpha_bar: float) -> np.ndarray:
        """q(x_t) of the noised law."""
        found = np.zeros_like(x)
        for w, m, s in zip(self.weights, self.means, self.deviations, strict=True):
            variance, centre = alpha_bar * s**2 + 1 - alpha_bar, math.sqrt(alpha_bar) * m
            found += w * np.exp(-((x - centre) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        return found


def normal(mean: float, deviation: float) -> Law:
    """N(mean, deviation²)."""
    return Law((1.0,), (mean,), (deviation,))


TWO_POINTS = Law((0.5, 0.5), (0.5, -0.5), (0.0, 0.0))
FINITE = Law((0.4, 0.25, 0.2, 0.15), (-1.0, -0.25, 0.125, 1.0), (0.0,) * 4)
MIXTURE = Law((0.5, 0.3, 0.2), (-1.0, 0.4, 1.5), (0.3, 0.2, 0.5))


def over_x_t(law: Law, chain: Chain, function: Callable[[int, np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """E f(i, E[x_0 | x_t], Var(x_0 | x_t)) at each step i of the chain, an integral over x_t."""
    found = []
    for i, alpha_bar in enumerate(chain.alpha_bar):
        total = 0.0
        for w, m, deviation in zip(law.weights, law.means, law.deviations, strict=True):
            s = math.sqrt(alpha_bar * deviation**2 + 1 - alpha_bar)
            z = np.linspace(-9, 9, 701)
            x = torch.from_numpy(math.sqrt(alpha_bar) * m + s * z)
            mean, variance = law.denoise(x, torch.tensor(alpha_bar, dtype=torch.float64))
            bell = np.exp(-(z**2) / 2)
            total += w * float(np.sum(function(i, mean.numpy(), variance.numpy()) * bell) / bell.sum())
        found.append(total)
    return np.array(found)


def remaining(law: Law, chain: Chain) -> np.ndarray:
    """E Var(x_0 | x_t) at each step, which is E|x_0 − x̂_0|²."""
    return over_x_t(law, chain, lambda i, mean, variance: variance)


def kl_of_the_end(law: Law, alpha_bar: float) -> float:
    """KL(q(x_T) ‖ N(0, 1)) of normal data, by its formula."""
    (mean,), (deviation,) = law.means, law.deviations
    excess = alpha_bar * (deviation**2 - 1)  # variance − 1, without cancellation
    return 0.5 * (excess - math.log1p(excess) + alpha_bar * mean**2)
