"""The kernel distance of feature distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ddpm_bench.metrics import FeatureInputs, QualityMetric
from ddpm_bench.registry import register

SUBSETS = 100
MAX_SUBSET_SIZE = 1000
SEED = 0


@register
@dataclass(frozen=True, kw_only=True)
class KernelDistance(QualityMetric):
    """The squared maximum mean discrepancy of features under a cubic kernel, unbiased, mean over random subsets.

    k(x, y) = (x·y/d + 1)³; per subset of m images a side Σ_{i≠j} [k(x_i, x_j) + k(y_i, y_j)]/(m(m−1)) − 2 Σ_{ij}
    k(x_i, y_j)/m², x generated, y reference, m = min(1000, n_generated, n_reference), 100 subsets drawn without
    replacement. Values slightly below zero are normal for equal distributions.

    The standard deviation over subsets is a companion and no standard error: subsets of the same images overlap (with
    m = n they are the same images, and it is zero), so it says little about other images.

    Source: Bińkowski et al. 2018, Demystifying MMD GANs, § 4; torch-fidelity computes it.
    """

    prefix = "kd"
    suffixes = ("", "_subset_std")

    def values(self, inputs: FeatureInputs) -> dict[str, float]:
        """generated, reference: float32 [N, d]."""
        import torch

        from ddpm_bench.vision import import_torch_fidelity

        import_torch_fidelity()
        from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

        found = kid_features_to_metric(
            torch.from_numpy(inputs.generated),
            torch.from_numpy(inputs.reference),
            kid_subsets=SUBSETS,
            kid_subset_size=_subset_size(len(inputs.generated), len(inputs.reference)),
            kid_kernel="poly",
            kid_kernel_poly_degree=3,
            kid_kernel_poly_gamma=None,
            kid_kernel_poly_coef0=1,
            rng_seed=SEED,
            verbose=False,
        )
        return {"": found[KEY_METRIC_KID_MEAN], "_subset_std": found[KEY_METRIC_KID_STD]}

    def unable(self, inputs: FeatureInputs) -> str | None:
        """Pairs need two images."""
        if _subset_size(len(inputs.generated), len(inputs.reference)) < 2:
            return "a kernel distance needs at least 2 generated and 2 reference images"
        return None

    def protocol(self, n_generated: int, n_reference: int, num_features: int) -> dict[str, Any]:
        """Numbers of images, subsets and their size, the seed they are drawn with."""
        return {
            **super().protocol(n_generated, n_reference, num_features),
            "subsets": SUBSETS,
            "subset_size": _subset_size(n_generated, n_reference),
            "seed": SEED,
        }


def _subset_size(n_generated: int, n_reference: int) -> int:
    return min(MAX_SUBSET_SIZE, n_generated, n_reference)
