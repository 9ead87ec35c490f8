"""The bound step by step."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_bench.metrics import ScoreMetric
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class TimestepKl(ScoreMetric):
    """The table of the terms of the bound over t = 1…T, with its figure and its series; no value of its own.

    KL(q(x_{t−1}|x_t, x_0) ‖ p(x_{t−1}|x_t)) in bits per dimension; at t = 1 the decoder's L_0.

    Source: Ho et al. 2020, eq. 5; Nichol & Dhariwal 2021, fig. 2.
    """

    unit = "bits/dim"
    suffixes = ()
