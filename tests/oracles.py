"""Second implementations, written another way than what they check, which they never import.

Chains are computed in decimal arithmetic of 50 digits by the product rule for normal densities instead of the closed
coefficients; divergences and decoders by quadrature; the random generator with Python's integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
from scipy import integrate, stats

DIGITS = 50


def linear_betas(num_timesteps: int, first: float = 1e-4, last: float = 0.02, scale: bool = True) -> list[float]:
    """β_t as the convex combination of the two ends."""
    factor = 1000 / num_timesteps if scale else 1.0
    if num_timesteps == 1:
        return [first * factor]
    n = num_timesteps - 1
    return [factor * ((n - i) * first + i * last) / n for i in range(num_timesteps)]


def cosine_betas(num_timesteps: int, s: float = 0.008, cap: float = 0.999) -> list[float]:
    """1 − cos²b/cos²a = sin(b − a) sin(b + a)/cos²a: no cancellation, unlike one minus a ratio."""

    def angle(i: int) -> float:
        return (i / num_timesteps + s) / (1 + s) * math.pi / 2

    step = math.pi / 2 / (1 + s) / num_timesteps
    return [
        min(math.sin(step) * math.sin(angle(i) + angle(i + 1)) / math.cos(angle(i)) ** 2, cap)
        for i in range(num_timesteps)
    ]


@dataclass(frozen=True)
class Chain:
    """The coefficients of a chain, one number per step (entry i is t = i + 1)."""

    beta: list[float]
    alpha_bar: list[float]
    one_minus_alpha_bar: list[float]
    snr: list[float]
    posterior_variance: list[float]
    posterior_x_0: list[float]
    posterior_x_t: list[float]


def chain(betas: list[float], kept: list[int] | None = None) -> Chain:
    """The chain over the kept t (1-based; None: all) of the betas.

    q(x_{t−1} | x_t, x_0) ∝ N(x_t; √α x_{t−1}, β) N(x_{t−1}; √ᾱ_{t−1} x_0, 1 − ᾱ_{t−1}): precisions add, and the mean
    is the precision-weighted one.
    """
    columns: list[list[float]] = []
    with localcontext() as context:
        context.prec = DIGITS
        cumulative, product = [], Decimal(1)
        for beta in betas:
            product *= 1 - Decimal(beta)
            cumulative.append(product)
        before = Decimal(1)
        for t in kept or range(1, len(betas) + 1):
            now = cumulative[t - 1]
            alpha = now / before
            beta = 1 - alpha
            if before == 1:
                variance, x_0, x_t = Decimal(0), Decimal(1), Decimal(0)
            else:
                variance = 1 / (alpha / beta + 1 / (1 - before))
                x_0, x_t = variance * before.sqrt() / (1 - before), variance * alpha.sqrt() / beta
            columns.append([float(v) for v in (beta, now, 1 - now, now / (1 - now), variance, x_0, x_t)])
            before = now
    return Chain(*(list(column) for column in zip(*columns, strict=True)))


def kl_by_quadrature(mean_q: float, var_q: float, mean_p: float, var_p: float) -> float:
    """∫ q ln(q/p): the definition, for two normals on the line."""
    q, p = stats.norm(mean_q, math.sqrt(var_q)), stats.norm(mean_p, math.sqrt(var_p))
    # 12 standard deviations of q: what is left out weighs e^-72.
    low, high = mean_q - 12 * math.sqrt(var_q), mean_q + 12 * math.sqrt(var_q)
    value, _ = integrate.quad(
        lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), low, high, epsabs=1e-13, epsrel=1e-12, limit=200
    )
    return value


@cache
def _nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(count)


def log_bin_probability(level: int, mean: float, sigma2: float, levels: int) -> float:
    """ln ∫ N(x; mean, σ²) over the bin of the level, by Gauss-Legendre quadrature with the largest value factored out.

    The outer bins are one tail each, from scipy.
    """
    sigma = math.sqrt(sigma2)
    centre, half = 2 * level / (levels - 1) - 1, 1 / (levels - 1)
    low, high = (centre - half - mean) / sigma, (centre + half - mean) / sigma
    if level == 0:
        return float(stats.norm.logcdf(high))
    if level == levels - 1:
        return float(stats.norm.logsf(low))
    if low < 0 < high:
        peak, start, end = 0.0, max(low, -12.0), min(high, 12.0)
    else:
        low, high = sorted((abs(low), abs(high)))
        # Beyond 45/low from the nearer end the integrand is below e^-45 of its value there.
        peak, start, end = low, low, min(high, low + 45 / max(low, 1.0))
    nodes, weights = _nodes(200)
    points = (start + end) / 2 + (end - start) / 2 * nodes
    total = (end - start) / 2 * np.sum(weights * np.exp(-(points**2 - peak**2) / 2))
    return float(math.log(total) - peak**2 / 2 - 0.5 * math.log(2 * math.pi))


def log_bin_probability_tanh(level: int, mean: float, sigma2: float, levels: int) -> float:
    """The same as published code has it: Φ(z) ≈ ½ [1 + tanh(√(2/π) (z + 0.044715 z³))], no bin below 1e-12."""

    def phi(z: float) -> float:
        return 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    centre, half, sigma = 2 * level / (levels - 1) - 1, 1 / (levels - 1), math.sqrt(sigma2)
    high = 1.0 if level == levels - 1 else phi((centre + half - mean) / sigma)
    low = 0.0 if level == 0 else phi((centre - half - mean) / sigma)
    return math.log(max(high - low, 1e-12))


def gaussian_law(gains: list[float], shifts: list[float], sigma2: list[float]) -> tuple[float, float]:
    """Mean and variance of x_0 from x_T ~ N(0, 1) and x_{t−1} = g_t x_t + h_t + σ_t z, no noise at the last step."""
    mean, variance = 0.0, 1.0
    for i in reversed(range(len(gains))):
        mean, variance = gains[i] * mean + shifts[i], gains[i] ** 2 * variance + (sigma2[i] if i > 0 else 0.0)
    return mean, variance


def philox_4x32_10(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds on Python's unbounded integers."""
    word = 1 << 32
    a, b, c, d = counter
    left, right = key
    for _ in range(10):
        first, second = divmod(0xD2511F53 * a, word), divmod(0xCD9E8D57 * c, word)
        a, b, c, d = second[0] ^ b ^ left, second[1], first[0] ^ d ^ right, first[1]
        left, right = (left + 0x9E3779B9) % word, (right + 0xBB67AE85) % word
    return a, b, c, d
