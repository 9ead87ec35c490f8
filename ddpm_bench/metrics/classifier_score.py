"""The classifier score: sharp and varied class predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ddpm_bench.metrics import FeatureInputs, QualityMetric
from ddpm_bench.registry import register

SPLITS = 10
SEED = 0


@register
@dataclass(frozen=True, kw_only=True)
class ClassifierScore(QualityMetric):
    """How much a classifier's prediction for one generated image differs from its mean prediction.

    exp(mean over images of KL(p(y|x) ‖ p(y))), p(y) the mean of p(y|x); mean over 10 splits of the images in shuffled
    order. From 1 to the number of classes. It knows no reference images and means nothing where the classes are not
    the data's (its protocol says so as `classes_of_data`): it then supports no claim. The companion `_std` is the
    standard deviation over the splits.

    Source: Salimans et al. 2016, Improved techniques for training GANs, § 4; torch-fidelity computes it.
    """

    prefix = "cs"
    higher_is_better = True
    uses_reference = False
    uses_classes = True
    suffixes = ("", "_std")

    def values(self, inputs: FeatureInputs) -> dict[str, float]:
        """generated_logits: float32 [N, classes]."""
        import torch

        from ddpm_bench.vision import import_torch_fidelity

        import_torch_fidelity()
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

        found = isc_features_to_metric(
            torch.from_numpy(inputs.generated_logits), splits=SPLITS, shuffle=True, rng_seed=SEED
        )
        return {"": found[KEY_METRIC_ISC_MEAN], "_std": found[KEY_METRIC_ISC_STD]}

    def unable(self, inputs: FeatureInputs) -> str | None:
        """An extractor without classes; fewer images than splits."""
        if inputs.generated_logits is None:
            return "the extractor gives no class logits"
        if len(inputs.generated_logits) < SPLITS:
            return f"a classifier score over {SPLITS} splits needs at least {SPLITS} generated images"
        return None

    def protocol(self, n_generated: int, n_reference: int, num_features: int) -> dict[str, Any]:
        """Number of images, splits, the seed of the order."""
        return {**super().protocol(n_generated, n_reference, num_features), "splits": SPLITS, "seed": SEED}
