"""Every sampler in plain floats, on one value, with the formulas of the papers; nothing is imported from the package.

x̂_0 is linear in x_t at each step: `lines` has its (slope, offset). The result is then linear in (x_T, z), and its law
for normal x_T and z follows from what it answers to each of them alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.oracles import Chain

Lines = list[tuple[float, float]]
Slow = Callable[[float, list[float], Chain, Lines], float]
"""slow(x_T, z of each step, chain, lines) → x_0."""


def slow_ancestral(x: float, z: list[float], chain: Chain, lines: Lines) -> float:
    """Ho et al. 2020, algorithm 2 in ε, with σ² = β."""
    for i in reversed(range(len(z))):
        slope, offset = lines[i]
        a, b, beta = chain.alpha_bar[i], chain.one_minus_alpha_bar[i], chain.beta[i]
        eps = (x - math.sqrt(a) * (slope * x + offset)) / math.sqrt(b)
        x = (x - beta / math.sqrt(b) * eps) / math.sqrt(1 - beta) + (math.sqrt(beta) * z[i] if i else 0.0)
    return x


def slow_ddim(eta: float) -> Slow:
    """Song et al. 2021, eq. 12 with eq. 16."""

    def walk(x: float, z: list[float], chain: Chain, lines: Lines) -> float:
        for i in reversed(range(len(z))):
            slope, offset = lines[i]
            a, before = chain.alpha_bar[i], chain.alpha_bar[i - 1] if i else 1.0
            guess = slope * x + offset
            eps = (x - math.sqrt(a) * guess) / math.sqrt(1 - a)
            spread = eta * math.sqrt((1 - before) / (1 - a)) * math.sqrt(1 - a / before)
            x = math.sqrt(before) * guess + math.sqrt(max(0.0, 1 - before - spread**2)) * eps + spread * z[i]
        return x

    return walk


def slow_dpm_solver(x: float, z: list[float], chain: Chain, lines: Lines) -> float:
    """Lu et al. 2022 (DPM-Solver++), algorithm 2; the last step, to λ = ∞, is of first order."""
    lam = [0.5 * math.log(a / b) for a, b in zip(chain.alpha_bar, chain.one_minus_alpha_bar, strict=True)]
    guesses: dict[int, float] = {}
    for i in reversed(range(len(z))):
        slope, offset = lines[i]
        guesses[i] = slope * x + offset
        if i == 0:
            return guesses[0]
        sigma = [math.sqrt(chain.one_minus_alpha_bar[j]) for j in (i - 1, i)]
        h = lam[i - 1] - lam[i]
        direction = guesses[i]
        if i + 1 in guesses:
            r = (lam[i] - lam[i + 1]) / h
            direction = (1 + 1 / (2 * r)) * guesses[i] - 1 / (2 * r) * guesses[i + 1]
        x = sigma[0] / sigma[1] * x - math.sqrt(chain.alpha_bar[i - 1]) * (math.exp(-h) - 1) * direction
    raise AssertionError


def law(slow: Slow, chain: Chain, lines: Lines) -> tuple[float, float]:
    """(mean, variance) of x_0 for x_T and z from N(0, 1)."""
    size = len(lines)
    rest = [0.0] * size
    shift = slow(0.0, rest, chain, lines)
    answers = [slow(1.0, rest, chain, lines) - shift]
    answers += [slow(0.0, [float(i == j) for j in range(size)], chain, lines) - shift for i in range(size)]
    return shift, math.fsum(answer**2 for answer in answers)
