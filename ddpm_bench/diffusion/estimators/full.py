"""Every step once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_bench.diffusion.estimators import Draws, Estimator
from ddpm_bench.diffusion.process import Process
from ddpm_bench.randomness import Stream
from ddpm_bench.registry import register

NUM_FIRST = 2


@register
@dataclass(frozen=True, kw_only=True)
class Full(Estimator):
    """Every t ≥ 2 once with one ε, the first step twice: T + 1 network calls per image.

    Source: Ho et al. 2020, eq. 5 (each expectation by one draw); the contrast: Wolter 2007, Introduction to Variance
    Estimation, § 8.2 (successive differences in place of replicates).
    """

    def calls(self, num_steps: int) -> int:
        """S − 1 steps once, the first one twice."""
        return num_steps - 1 + NUM_FIRST

    def draw(self, process: Process, index: Tensor, stream: Stream, spectrum: Tensor | None) -> Draws:
        """t = 1…S−1 for every image; nothing is random but ε."""
        return Draws(torch.arange(1, len(process)).expand(len(index), -1), NUM_FIRST)

    def total(self, values: Tensor, draws: Draws, eps_norm: Tensor | None, num_dims: int) -> tuple[Tensor, Tensor]:
        """(Σ_t value_t, contrast), float64 [n] each; values: [n, S − 1] in the order of t."""
        values = values.double()
        return values.sum(1), _successive_differences(values)


def _successive_differences(values: Tensor) -> Tensor:
    """The noise contrast of Σ_t value_t from one draw for each t, float64 [n]; values: float64 [n, M].

    value_it = f_i(t) + noise, independent over i and t. With k_it = √(n/(n−1)) (value_it − mean over i), which takes
    away the f that the images share and leaves Σ_i Var as it is, the contrast of an image is

        (k_1 − k_2) − (k_3 − k_4) + (k_5 − k_6) − …

    A difference of two has the sum of both variances; what remains of f cancels between neighbouring pairs up to its
    second derivative and is squared in the end, so it can only enlarge the standard error. An odd term c joins the
    last pair (a, b) through ±√(2/3) ((k_a + k_b)/2 − k_c), with the sign that a next pair would have: of variance
    Var(k_c) and uncorrelated with k_a − k_b where the three variances are equal, as they nearly are at the end of a
    long chain. A single term, or a single image, does not show its noise: NaN.
    """
    n, num_terms = values.shape
    if num_terms == 0:
        return values.sum(1)
    if num_terms == 1 or n == 1:
        return torch.full((n,), math.nan, dtype=torch.float64)
    sign = torch.ones(num_terms // 2, dtype=torch.float64)
    sign[1::2] = -1.0
    weight = torch.zeros(num_terms, dtype=torch.float64)
    weight[0 : num_terms - 1 : 2], weight[1::2] = sign, -sign
    if num_terms % 2:
        weight[-3:] += sign[-1] * math.sqrt(2 / 3) * torch.tensor([-0.5, -0.5, 1.0], dtype=torch.float64)
    return math.sqrt(n / (n - 1)) * ((values - values.mean(0)) @ weight)
