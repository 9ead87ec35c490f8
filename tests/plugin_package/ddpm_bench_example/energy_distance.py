"""The energy distance of feature distributions."""

from dataclasses import dataclass

from scipy.spatial.distance import cdist, pdist

from ddpm_bench.metrics import FeatureInputs, QualityMetric
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class EnergyDistance(QualityMetric):
    """2 E|X − Y| − E|X − X'| − E|Y − Y'| of generated features X and reference features Y, unbiased.

    Means run over all pairs of different images, so that it may fall slightly below zero for equal distributions.

    Source: Rizzo & Székely 2016, Energy distance, WIREs Computational Statistics 8, the definition of D².
    """

    prefix = "ed"

    def values(self, inputs: FeatureInputs) -> dict[str, float]:
        """generated, reference: float32 [N, d]."""
        across = cdist(inputs.generated, inputs.reference).mean()
        return {"": float(2 * across - pdist(inputs.generated).mean() - pdist(inputs.reference).mean())}

    def unable(self, inputs: FeatureInputs) -> str | None:
        """A pair needs two images."""
        if min(len(inputs.generated), len(inputs.reference)) < 2:
            return "an energy distance needs at least 2 generated and 2 reference images"
        return None
