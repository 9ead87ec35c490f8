"""The kernel Inception distance."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_bench.metrics.kernel_distance import KernelDistance
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Kid(KernelDistance):
    """The kernel Inception distance: kernel_distance of Inception-v3 with the published weights, and of nothing else.

    With other weights the result is named kd_inception_unverified.

    Source: Bińkowski et al. 2018, § 4.
    """

    extractor = "inception"
