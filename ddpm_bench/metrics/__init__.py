"""Metrics: what is measured, and the records that carry a value with its error and its protocol.

Likelihood metrics (`ScoreMetric`) switch on results of the likelihood stage; quality metrics (`QualityMetric`) compare
generated with real images in an extractor's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ddpm_bench.extractors import metric_word
from ddpm_bench.metrics._records import Estimate, FeatureInputs, Measured, Value, mean_over_generations
from ddpm_bench.registry import Entry

if TYPE_CHECKING:
    from ddpm_bench.extractors import Extractor

__all__ = ["Estimate", "FeatureInputs", "Measured", "Metric", "QualityMetric", "ScoreMetric", "Value",
           "foreign_classes", "mean_over_generations"]  # fmt: skip


class Metric(Entry, axis="metrics"):
    """A metric. `needs` says what it reads: a score (likelihood metrics) or features (quality metrics)."""

    needs: ClassVar[Literal["score", "features"]]
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    uses_reference: ClassVar[bool] = False
    """Whether reference images enter; a classifier score looks at generated images alone."""
    parts: ClassVar[tuple[str, ...]] = ("",)
    """Its results, each with a name of its own; a metric of one result calls it ""."""
    suffixes: ClassVar[tuple[str, ...]] = ("",)
    """What each part adds to results, by the ending of the name: "" is the part itself, "_std" and the like companions.
    Part and suffix together are the key of a number."""

    def result_names(self, extractor: Extractor | None) -> dict[str, str]:
        """Part → the name of its result. extractor: of a quality metric, else None."""
        return {"": metric_word(self.name.rpartition("/")[2])}


class ScoreMetric(Metric):
    """A metric that the likelihood stage computes: naming it in a suite asks for its numbers."""

    needs = "score"


class QualityMetric(Metric):
    """A metric of generated images. `values` (or `measure`, for more than bare numbers) computes it."""

    needs = "features"
    prefix: ClassVar[str]
    """Results are named `<prefix>_<extractor>`; those of a metric of several parts `<part>_<extractor>`."""
    extractor: ClassVar[str | None] = None
    """The one extractor that the metric is defined for (fid: inception); None: the suite's."""
    uses_classes: ClassVar[bool] = False
    """Whether it reads class logits: its protocol then says whether the classes are those of the data."""
    needs_classes_of_data: ClassVar[bool] = False
    """Whether it has no value where the classes are not those of the data."""
    uses_reference = True

    def result_names(self, extractor: Extractor | None) -> dict[str, str]:
        """`<prefix>_<label>`; the metric's own name where it is defined for this extractor, published weights
        included."""
        assert extractor is not None
        if extractor.label == self.extractor:
            return {"": self.name}
        return {part: f"{part or self.prefix}_{extractor.label}" for part in self.parts}

    @property
    def keys(self) -> list[str]:
        """The keys of its numbers, in order."""
        return [part + suffix for part in self.parts for suffix in self.suffixes]

    def measure(self, inputs: FeatureInputs) -> Measured:
        """The numbers of one set of generated images; what cannot be computed has the value None and a reason."""
        reason = self.unable(inputs)
        if reason is not None:
            return Measured({key: Value(None, reason=reason) for key in self.keys})
        return Measured({key: Value(value) for key, value in self.values(inputs).items()})

    def values(self, inputs: FeatureInputs) -> dict[str, float]:
        """The numbers by key, of inputs that `unable` has no objection to."""
        raise NotImplementedError

    def unable(self, inputs: FeatureInputs) -> str | None:
        """Why these inputs have no value, or None."""
        return None

    def protocol(self, n_generated: int, n_reference: int, num_features: int) -> dict[str, Any]:
        """The metric's own part of the protocol: numbers of images, subset sizes, splits, seeds."""
        images = {"n_generated": n_generated}
        return {**images, "n_reference": n_reference} if self.uses_reference else images

    def compute(self, inputs: FeatureInputs) -> dict[str, Estimate]:
        """The estimates of one set of generated images by key."""
        sizes = len(inputs.generated), len(inputs.reference), inputs.generated.shape[1]
        return self.estimates([self.measure(inputs)], *sizes)

    def estimates(
        self, measured: Sequence[Measured], n_generated: int, n_reference: int, num_features: int
    ) -> dict[str, Estimate]:
        """The estimates by key, with the metric's own protocol; who calls adds the extractor's and the sampler's.

        measured: one entry for each independent generation of n_generated images. With several a number is their mean
        and its standard error s/√R, whatever error each has by itself.
        """
        protocol = self.protocol(n_generated, n_reference, num_features)
        found = {}
        for key in self.keys:
            merged = mean_over_generations([item.values[key] for item in measured])
            found[key] = Estimate(
                value=merged.value,
                stderr=merged.stderr,
                num_samples=n_generated * len(measured),
                unit=self.unit,
                # A companion (the spread over subsets) is no measure of quality: larger is not better.
                higher_is_better=self.higher_is_better and key in self.parts,
                protocol={**protocol, **merged.protocol},
                reason=merged.reason,
            )
        return found


def foreign_classes(extractor: Extractor, dataset: str) -> str | None:
    """Why the classes of an extractor are not those of a data set, or None.

    A score over other classes can be computed and means nothing: uniform noise has many of ImageNet's.
    """
    if extractor.classes_of == dataset:
        return None
    known = "" if extractor.classes_of is None else f"; they are those of {extractor.classes_of}"
    return f"the classes of {extractor.label} are not those of the data ({dataset}){known}"
