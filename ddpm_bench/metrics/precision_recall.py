"""Precision and recall of generated images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ddpm_bench.metrics import FeatureInputs, QualityMetric
from ddpm_bench.registry import register

NEIGHBOURS = 3
BLOCK = 1000
"""Rows whose distances to all others are held at once: 200 MB for 50,000 images."""


@register
@dataclass(frozen=True, kw_only=True)
class PrecisionRecall(QualityMetric):
    """How much of what is generated looks real (precision), and how much of what is real is generated (recall).

    The manifold of a set of features is the union of balls about each of its points that reach its k-th nearest
    neighbour in the set, k = 3. Precision is the share of generated images on the reference manifold, recall the share
    of reference images on the generated manifold. A generator that repeats one good image has precision 1 and recall
    0. Recall grows with the number of generated images and falls with that of the reference: compare equal numbers.

    Source: Kynkäänniemi et al. 2019, Improved precision and recall metric for assessing generative models, eq. 1 and 2;
    torch-fidelity computes it.
    """

    parts = ("precision", "recall")
    higher_is_better = True

    def values(self, inputs: FeatureInputs) -> dict[str, float]:
        """generated, reference: float32 [N, d]."""
        import torch

        from ddpm_bench.vision import import_torch_fidelity

        import_torch_fidelity()
        from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

        found = prc_features_to_metric(
            torch.from_numpy(inputs.generated),
            torch.from_numpy(inputs.reference),
            prc_neighborhood=NEIGHBOURS,
            prc_batch_size=BLOCK,
            save_cpu_ram=True,
            verbose=False,
        )
        return {"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]}

    def unable(self, inputs: FeatureInputs) -> str | None:
        """A k-th neighbour beside the point itself."""
        if min(len(inputs.generated), len(inputs.reference)) <= NEIGHBOURS:
            return (
                f"precision and recall need at least {NEIGHBOURS + 1} generated and {NEIGHBOURS + 1} reference images"
            )
        return None

    def protocol(self, n_generated: int, n_reference: int, num_features: int) -> dict[str, Any]:
        """Numbers of images, and k."""
        return {**super().protocol(n_generated, n_reference, num_features), "neighbours": NEIGHBOURS}
