"""Which classes are generated, and how surely they are told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddpm_bench.metrics import FeatureInputs, Measured, QualityMetric, Value
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class ClassHistogram(QualityMetric):
    """The distance between the class histograms of generated and reference images, classes as predicted.

    ½ Σ_c |p_g(c) − p_r(c)|, the total variation distance; p(c) is the share of images whose largest logit is c, so that
    mistakes which the classifier makes on both sides cancel. From 0 to 1; two samples of one distribution have a mean
    of about ½ Σ_c √(2 p(c)(1 − p(c))(1/n_g + 1/n_r)/π), which the floor beside it measures. The companion
    `_confidence` is the mean over generated images of the largest class probability; that of real images stands in the
    floor's row. Only where the classes are the data's.

    Source: Levin & Peres 2017, Markov Chains and Mixing Times, prop. 4.2 (total variation).
    """

    prefix = "ch"
    suffixes = ("", "_confidence")
    uses_classes = True
    needs_classes_of_data = True

    def measure(self, inputs: FeatureInputs) -> Measured:
        """*_logits: float32 [N, classes]. The table class_histogram has a row for each class."""
        reason = self.unable(inputs)
        if reason is not None:
            return super().measure(inputs)
        assert inputs.generated_logits is not None
        assert inputs.reference_logits is not None
        number = inputs.generated_logits.shape[1]
        generated, reference = (
            np.bincount(logits.argmax(axis=1), minlength=number) / len(logits)
            for logits in (inputs.generated_logits, inputs.reference_logits)
        )
        names = inputs.class_names or tuple(str(index) for index in range(number))
        table = [
            {"class": name, "generated": float(here), "reference": float(there)}
            for name, here, there in zip(names, generated, reference, strict=True)
        ]
        distance = float(np.abs(generated - reference).sum() / 2)
        values = {"": Value(distance), "_confidence": Value(confidence(inputs.generated_logits))}
        return Measured(values, {"class_histogram": table})

    def unable(self, inputs: FeatureInputs) -> str | None:
        """An extractor without classes; no images."""
        if inputs.generated_logits is None or inputs.reference_logits is None:
            return "the extractor gives no class logits"
        if min(len(inputs.generated_logits), len(inputs.reference_logits)) < 2:
            return "a class histogram needs at least 2 generated and 2 reference images"
        return None


def confidence(logits: np.ndarray) -> float:
    """The mean over images of the largest class probability, max_c softmax(logits)_c. logits: float32 [N, classes].

    Source: Guo et al. 2017, On calibration of modern neural networks, § 2 (confidence).
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return float(np.mean(1 / np.exp(shifted).sum(axis=1)))
