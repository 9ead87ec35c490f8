"""The Fréchet distance of feature distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ddpm_bench.metrics import FeatureInputs, Measured, QualityMetric, Value
from ddpm_bench.metrics._frechet import SIZES, SUBSETS, moments, over_n, to_infinity
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class FrechetDistance(QualityMetric):
    """The squared Fréchet distance of two Gaussians with the moments of generated and reference features.

    |μ_g − μ_r|² + tr(Σ_g + Σ_r − 2 (Σ_g Σ_r)^{1/2}), Σ with n − 1, μ in float32 and Σ in float64 as torch-fidelity has
    them: the number that everybody has. It is biased upwards by about 1/n; below n = 2d a covariance of d features is
    (nearly) singular, the protocol says `rank_deficient`, and the value supports no claim.

    The companion `_infinity` extrapolates to infinitely many generated images: a line over 1/n through 5 sizes from n/2
    to n, seeded subsets, with the standard error of that line; null where n < 2d on either side. The reference images
    stay as they are. Its points are computed in float64 throughout, which changes the sixth digit. Just above 2d the
    line is bent and takes away more than the bias (tests/metrics/test_frechet_distance.py), so that it may be negative.

    Source: Dowson & Landau 1982, abstract; Heusel et al. 2017, eq. 6; torch-fidelity computes it; Chong & Forsyth 2020,
    § 4, for `_infinity`.
    """

    version: ClassVar[int] = 2
    prefix = "fd"
    suffixes = ("", "_infinity")

    def measure(self, inputs: FeatureInputs) -> Measured:
        """generated, reference: float32 [N, d]. The table frechet_over_n holds what the extrapolation saw."""
        reason = self.unable(inputs)
        if reason is not None:
            return super().measure(inputs)
        n_generated, n_reference, dimension = len(inputs.generated), len(inputs.reference), inputs.generated.shape[1]
        whole = by_torch_fidelity(inputs.generated, inputs.reference)
        needed = max(2 * dimension, 4)  # half of four images still have a covariance
        if min(n_generated, n_reference) < needed:
            few = f"an extrapolation needs 2d = {needed} generated and reference images"
            return Measured({"": Value(whole), "_infinity": Value(None, reason=few)})
        points = over_n(inputs.generated, moments(inputs.reference))
        value, stderr = to_infinity(points)
        how = {"extrapolation": f"line over 1/n, {SIZES} sizes from n/2 to n, {SUBSETS} subsets each",
               "standard_error": "of the line"}  # fmt: skip
        return Measured(
            {"": Value(whole), "_infinity": Value(value, stderr=stderr, protocol=how)},
            {"frechet_over_n": [{"n": n, "value": value} for n, value in points]},
        )

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


def by_torch_fidelity(generated: np.ndarray, reference: np.ndarray) -> float:
    """torch-fidelity's distance of two sets of features, float32 [N, d]; numpy's covariance takes float64 copies."""
    import torch

    from ddpm_bench.vision import import_torch_fidelity

    import_torch_fidelity()
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    first, second = (fid_features_to_statistics(torch.from_numpy(features)) for features in (generated, reference))
    return float(fid_statistics_to_metric(first, second, verbose=False)[KEY_METRIC_FID])
