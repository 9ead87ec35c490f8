"""Metrics: what is measured, and the records that carry a value with its error and its protocol.

Likelihood metrics (`ScoreMetric`) switch on results of the likelihood stage; quality metrics (`QualityMetric`) compare
generated with real images in an extractor's features.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ddpm_bench.extractors import metric_word
from ddpm_bench.registry import Entry

if TYPE_CHECKING:
    from ddpm_bench.extractors import Extractor


@dataclass(frozen=True)
class Estimate:
    """A measured value.

    value: None when it was not computed, then `reason` says why; stderr: standard error in the same unit, None where
    there is none, of the images as a sample of a population; stderr_noise: that of the noise drawn in the evaluation,
    the images held fixed; num_samples: images that entered; protocol: all that must agree before two values are
    compared.
    """

    value: float | None
    stderr: float | None
    num_samples: int
    unit: str
    higher_is_better: bool
    protocol: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    stderr_noise: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in results.json."""
        return asdict(self)


@dataclass(frozen=True)
class FeatureInputs:
    """Two sets of images in one extractor's features.

    generated, reference: float32 [N, d]; *_logits: class logits float32 [N, classes] or None.
    """

    generated: np.ndarray
    reference: np.ndarray
    generated_logits: np.ndarray | None
    reference_logits: np.ndarray | None


class Metric(Entry, axis="metrics"):
    """A metric. `needs` says what it reads: a score (likelihood metrics) or features (quality metrics)."""

    needs: ClassVar[Literal["score", "features"]]
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    uses_reference: ClassVar[bool] = False
    """Whether reference images enter; a classifier score looks at generated images alone."""
    suffixes: ClassVar[tuple[str, ...]] = ("",)
    """What it adds to results, by the ending of the name: "" is the metric itself, "_std" and the like companions."""

    def result_name(self, extractor: Extractor | None) -> str:
        """The name of its result. extractor: of a quality metric, else None."""
        return metric_word(self.name.rpartition("/")[2])


class ScoreMetric(Metric):
    """A metric that the likelihood stage computes: naming it in a suite asks for its numbers."""

    needs = "score"


class QualityMetric(Metric):
    """A metric of generated images. `values` computes it, `compute` makes records of that."""

    needs = "features"
    prefix: ClassVar[str]
    """Results are named `<prefix>_<extractor>`."""
    extractor: ClassVar[str | None] = None
    """The one extractor that the metric is defined for (fid: inception); None: the suite's."""
    uses_reference = True

    def result_name(self, extractor: Extractor | None) -> str:
        """`<prefix>_<label>`; the metric's own name where it is defined for this extractor, published weights
        included."""
        assert extractor is not None
        return self.name if extractor.label == self.extractor else f"{self.prefix}_{extractor.label}"

    def compute(self, inputs: FeatureInputs) -> dict[str, Estimate]:
        """The estimates by suffix, with the metric's own protocol; who calls adds the extractor's and the sampler's.

        What cannot be computed has the value None and a reason.
        """
        n_generated, n_reference = len(inputs.generated), len(inputs.reference)
        reason = self.unable(inputs)
        found: dict[str, Any] = self.values(inputs) if reason is None else dict.fromkeys(self.suffixes)
        return {
            suffix: Estimate(
                value=found[suffix],
                stderr=None,
                num_samples=n_generated,
                unit=self.unit,
                # A companion (the spread over subsets) is no measure of quality: larger is not better.
                higher_is_better=self.higher_is_better and not suffix,
                protocol=self.protocol(n_generated, n_reference, inputs.generated.shape[1]),
                reason=reason,
            )
            for suffix in self.suffixes
        }

    def values(self, inputs: FeatureInputs) -> dict[str, float]:
        """The numbers by suffix."""
        raise NotImplementedError

    def unable(self, inputs: FeatureInputs) -> str | None:
        """Why these inputs have no value, or None."""
        return None

    def protocol(self, n_generated: int, n_reference: int, num_features: int) -> dict[str, Any]:
        """The metric's own part of the protocol: numbers of images, subset sizes, splits, seeds."""
        images = {"n_generated": n_generated}
        return {**images, "n_reference": n_reference} if self.uses_reference else images
