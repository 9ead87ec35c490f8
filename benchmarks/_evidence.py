"""What was estimated about one trained network, and the statistics of its repeats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._repeats import BUDGETS, CURVE, FULL, IMPORTANCE, PLAIN, UNIFORM, Estimated
from ddpm_bench.paired import PairedDifference

SHOWN = "beta_tilde"
"""The σ² of the tables: of the three it weighs the network's errors the most."""
PAIRS = (("beta", "beta_tilde"), ("beta_tilde", "optimal"))
SAMPLED = [(label, calls) for label in (UNIFORM, PLAIN, CURVE, IMPORTANCE) for calls in BUDGETS]


def noise_error(contrast: np.ndarray) -> float:
    """Standard error over the noise of the mean over images held fixed."""
    return float(np.sqrt((contrast**2).sum())) / len(contrast)


def difference(estimated: Estimated, pair: tuple[str, str]) -> PairedDifference:
    """The difference of two σ², as `ddpm_bench.paired` has it for cells."""
    value, contrast = (found[pair[0]] - found[pair[1]] for found in (estimated.value, estimated.contrast))
    stderr = float(value.std(ddof=1)) / math.sqrt(len(value))
    return PairedDifference(*pair, "test", float(value.mean()), stderr, noise_error(contrast), len(value))


@dataclass(frozen=True)
class Honesty:
    """Repeats of one estimator on n images. claimed: root mean square of its noise errors; found: the same from the
    variance over repeats of each image; of_means: the standard deviation of the repeats' means; bias: mean over the
    repeats minus `full`, in units of its error; ratio, ratio_error: claimed / found."""

    claimed: float
    found: float
    of_means: float
    bias: float
    ratio: float
    ratio_error: float


@dataclass(frozen=True)
class Evidence:
    """All estimates of one trained network. full: of the pipeline; once: the sampled ones on the same images; repeats:
    on fewer images, with other draws each; pairs: estimator → pair → difference; facts: numbers about the network."""

    title: str
    facts: dict[str, Any]
    full: Estimated
    once: dict[tuple[str, int], Estimated]
    repeats: dict[tuple[str, int], list[Estimated]]
    pairs: dict[tuple[str, int], dict[tuple[str, str], PairedDifference]]

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.full.value[SHOWN])

    @property
    def num_dims(self) -> int:
        """N·D."""
        return self.num_images * int(self.facts["num_dims"])

    def seconds(self, place: tuple[str, int]) -> float:
        """CPU time of one core for all N images."""
        repeats = self.repeats[place]
        return float(np.nanmean([item.seconds / len(item.value[SHOWN]) for item in repeats])) * self.num_images

    def error(self, place: tuple[str, int], variance: str = SHOWN) -> float:
        """Standard error over the noise on the N images, as the estimator claims it."""
        return noise_error((self.full if place == self.full_place else self.once[place]).contrast[variance])

    @property
    def full_place(self) -> tuple[str, int]:
        """Where `full` stands among the repeats."""
        return FULL, self.full.calls

    def image_error(self, variance: str) -> float:
        """Standard error over images as a sample of a population, without the noise of `full`."""
        value = self.full.value[variance]
        both = float(value.var(ddof=1)) / len(value)
        return math.sqrt(max(0.0, both - self.error(self.full_place, variance) ** 2))

    def honesty(self, place: tuple[str, int], variance: str = SHOWN) -> Honesty:
        """What the repeats say about the errors that the estimator claims."""
        repeats = self.repeats[place]
        values = np.stack([item.value[variance] for item in repeats])  # [R, n]
        squares = np.stack([item.contrast[variance] ** 2 for item in repeats])
        number, n = values.shape
        of_images, claims = values.var(axis=0, ddof=1), squares.mean(axis=0)
        found, claimed = (math.sqrt(x.sum()) / n for x in (of_images, claims))
        # Relative errors of two variances that are sums over independent images, halved for the standard deviations.
        spread = [float(x.std(ddof=1)) / math.sqrt(n) / float(x.mean()) / 2 for x in (of_images, claims)]
        means, reference = values.mean(axis=1), self.full.value[variance][:n]
        error = math.hypot(noise_error(self.full.contrast[variance][:n]), found / math.sqrt(number))
        return Honesty(
            claimed, found, float(means.std(ddof=1)), float(means.mean() - reference.mean()) / error,
            claimed / found, claimed / found * math.hypot(*spread),
        )  # fmt: skip
