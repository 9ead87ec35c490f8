"""Bits per dimension."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_bench.metrics import ScoreMetric
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class BitsPerDim(ScoreMetric):
    """The variational bound on the negative log-likelihood, in bits per dimension, and the terms it consists of.

    bits/dim = (L_T + Σ_{t=2}^T L_{t−1} + L_0)/(D ln 2), mean over images; D counts pixels and channels. The terms of
    the sum are split into variance cost and mean cost; L_0, both costs and L_T add up to the bound. The network part is
    the bound minus that of a perfect network: the same σ², and x̂_0 = x_0.

    Source: Ho et al. 2020, eq. 5; Sohl-Dickstein et al. 2015, eq. 14.
    """

    unit = "bits/dim"
    suffixes = ("", "_l_0", "_mean_cost", "_variance_cost", "_l_T", "_network")
