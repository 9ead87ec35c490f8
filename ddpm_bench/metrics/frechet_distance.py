"""The Fréchet distance of feature distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ddpm_bench.metrics import FeatureInputs, QualityMetric
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class FrechetDistance(QualityMetric):
    """The squared Fréchet distance of two Gaussians with the moments of generated and reference features.

    |μ_g − μ_r|² + tr(Σ_g + Σ_r − 2 (Σ_g Σ_r)^{1/2}), Σ with n − 1, μ in float32 and Σ in float64 as torch-fidelity has
    them. It is biased upwards by about 1/n; below n = 2d a covariance of d features is (nearly) singular, the protocol
    says `rank_deficient`, and the value supports no claim.

    Source: Dowson & Landau 1982; Heusel et al. 2017, eq. 6; torch-fidelity computes it.
    """

    prefix = "fd"

    def values(self, inputs: FeatureInputs) -> dict[str, float]:
        """generated, reference: float32 [N, d]."""
        import torch

        from ddpm_bench.vision import import_torch_fidelity

        import_torch_fidelity()
        from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

        generated, reference = (
            fid_features_to_statistics(torch.from_numpy(features)) for features in (inputs.generated, inputs.reference)
        )
        return {"": fid_statistics_to_metric(generated, reference, verbose=False)[KEY_METRIC_FID]}

    def unable(self, inputs: FeatureInputs) -> str | None:
        """A covariance needs two images."""
        if min(len(inputs.generated), len(inputs.reference)) < 2:
            return "a Fréchet distance needs at least 2 generated and 2 reference images"
        return None

    def protocol(self, n_generated: int, n_reference: int, num_features: int) -> dict[str, Any]:
        """Numbers of images; whether they are too few for the dimension."""
        return {
            **super().protocol(n_generated, n_reference, num_features),
            "rank_deficient": min(n_generated, n_reference) < 2 * num_features,
        }
