"""The records of metrics: what enters, what one measurement gives, and the value with its error and its protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


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

    generated, reference: float32 [N, d]; *_logits: class logits float32 [N, classes] or None; class_names: of the
    classes where they are the data's, else empty.
    """

    generated: np.ndarray
    reference: np.ndarray
    generated_logits: np.ndarray | None
    reference_logits: np.ndarray | None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """One number of a measurement.

    value: None with a `reason`; stderr: of the number, in its unit; protocol: what is to be said of this number beside
    the metric's own protocol.
    """

    value: float | None
    stderr: float | None = None
    reason: str | None = None
    protocol: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What a metric finds in one set of generated images. values: by key; tables: name → rows, for reports."""

    values: dict[str, Value]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def mean_over_generations(values: Sequence[Value]) -> Value:
    """The mean of R ≥ 1 independent values with its standard error s/√R; a single one as it is.

    Source: Owen 2013, Monte Carlo theory, methods and examples, chapter 2.
    """
    number = len(values)
    missing = next((value for value in values if value.value is None), None)
    if number == 1 or missing is not None:
        return missing or values[0]
    every = [value.value for value in values if value.value is not None]
    mean = math.fsum(every) / number
    variance = math.fsum((value - mean) ** 2 for value in every) / (number - 1)
    protocol = {**values[0].protocol, "generations": number, "standard_error": "over generations"}
    return Value(mean, stderr=math.sqrt(variance / number), protocol=protocol)
