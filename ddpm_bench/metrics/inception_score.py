"""The Inception score."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_bench.metrics.classifier_score import ClassifierScore
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class InceptionScore(ClassifierScore):
    """The Inception score: classifier_score of Inception-v3 with the published weights, and of nothing else.

    With other weights the result is named cs_inception_unverified.

    Source: Salimans et al. 2016, § 4.
    """

    extractor = "inception"
