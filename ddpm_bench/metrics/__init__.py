"""Metrics: what is measured, and the records that carry a value with its error and its protocol."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from ddpm_bench.registry import Entry


@dataclass(frozen=True)
class Estimate:
    """A measured value.

    value: None when it was not computed, then `reason` says why; stderr: standard error in the same unit, None where
    there is none; num_samples: images that entered; protocol: all that must agree before two values are compared.
    """

    value: float | None
    stderr: float | None
    num_samples: int
    unit: str
    higher_is_better: bool
    protocol: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None

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
    prefix: ClassVar[str | None] = None
    """Quality metrics: results are named `<prefix>_<extractor>`; None: the metric's own name (fid, kid, …)."""
    extractor: ClassVar[str | None] = None
    """Quality metrics: the one extractor that the name is reserved for (fid: inception), None: the suite's."""
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    uses_reference: ClassVar[bool] = True
    """Quality metrics: whether reference images enter (a classifier score looks at generated images alone)."""

    def compute(self, inputs: Any) -> dict[str, Estimate]:
        """The estimates by suffix: "" is the metric itself, "_std" and the like are companions. Protocol is added by
        the stage."""
        raise NotImplementedError

    def protocol(self, n_generated: int, n_reference: int) -> dict[str, Any]:
        """The metric's own part of the protocol (subset sizes, splits, …)."""
        return {}
