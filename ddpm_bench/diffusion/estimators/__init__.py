"""Estimators: which (t, ε) of an image are scored, and Σ_{t≥2} L_{t−1} from the scored terms.

The error of an estimate has two parts: the images are a sample of a population, and (t, ε) are a sample for each
image. The second is measured by a noise contrast: a number for each image, linear in its terms, that has expectation
(nearly) 0 over the noise and the variance over the noise of the image's estimate. Hence

    standard error over the noise of a mean over n fixed images = √(Σ_i contrast_i²) / n,

and the contrast of the difference of two variants that share their draws is the difference of their contrasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.randomness import Stream
from ddpm_bench.registry import Entry


@dataclass(frozen=True)
class Draws:
    """Which (t, ε) of each image are scored; every entry of t has an ε of its own.

    t: the chain's index (≥ 1: later than the first step), int64 [n, M]. num_first: draws of ε at the chain's first
    step, even. probability: p_t over the chain's index, float64 [S] (0 at the first step), or None where every t ≥ 1
    is scored once. control: the predicted regression coefficient of a term on |ε|² − D, float64 [S], or None.
    """

    t: Tensor
    num_first: int
    probability: Tensor | None = None
    control: Tensor | None = None


class Estimator(Entry, axis="estimators"):
    """A choice of (t, ε), and the sum over t ≥ 2 that follows from the terms there."""

    needs_spectrum: ClassVar[bool] = False
    """Whether the draws depend on the eigenvalues of the covariance of the training images."""

    def calls(self, num_steps: int) -> int:
        """Network calls per image for a chain of num_steps steps, those at the first step included."""
        raise NotImplementedError

    def draw(self, process: Process, index: Tensor, stream: Stream, spectrum: Tensor | None) -> Draws:
        """What is scored. It depends on these arguments alone, never on the network or on σ².

        process: the (possibly respaced) chain; index: the images, int64 [n]; stream: the random numbers of the choice
        of t; spectrum: eigenvalues of the covariance of the training images, float64 [D], where `needs_spectrum`.
        """
        raise NotImplementedError

    def total(self, values: Tensor, draws: Draws, eps_norm: Tensor | None, num_dims: int) -> tuple[Tensor, Tensor]:
        """(Σ_{t≥2} value_t of each image, its noise contrast), float64 [n] each; both are linear in the values.

        values: the terms at the draws (mean cost, variance cost, …), [n, M]; draws: of all the images together;
        eps_norm: |ε|² of the draws, [n, M], not used without draws.control; num_dims: D. The contrast is NaN where
        the draws do not show their noise.
        """
        raise NotImplementedError


def mean_and_contrast(values: Tensor) -> tuple[Tensor, Tensor]:
    """(mean over the draws, half the difference of the means of their two halves), float64 [n] each.

    values: [n, R], R even, the halves independent of each other. The means A and B of the halves have independent
    noise, so (A − B)/2 has the variance of (A + B)/2, and expectation 0.
    Source: Wolter 2007, Introduction to Variance Estimation, § 2.2 (independent random groups, here two).
    """
    first, second = (half.double().mean(1) for half in values.chunk(2, dim=1))
    return (first + second) / 2, (first - second) / 2
