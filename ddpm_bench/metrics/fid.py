"""The Fréchet Inception distance."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_bench.metrics.frechet_distance import FrechetDistance
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Fid(FrechetDistance):
    """The Fréchet Inception distance: frechet_distance of Inception-v3 with the published weights, and of nothing else.

    With other weights the result is named fd_inception_unverified.

    Source: Heusel et al. 2017, eq. 6.
    """

    extractor = "inception"
