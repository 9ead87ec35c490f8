"""Intervals of the whole bound cover the exact expectation, and fifty calls are enough for it.

The oracle works in numpy on independent coordinates, x_0j ~ N(m_j, λ_j). The Bayes denoiser of a coordinate is
x̂_0 = m + k (x_t − √ᾱ m), k = √ᾱ λ/(ᾱ λ + 1 − ᾱ). The mean of the reverse step is c x̂_0 + e x_t with the gain
g = c k + e; a relative error δ of the gain adds δ g x_t to the mean, that is δ (g/c) x_t to x̂_0. So with
k' = k + δ g/c and the offset r = (1 − √ᾱ k) m

    x_0 − x̂_0 = (1 − √ᾱ k') x_0 − r − √(1−ᾱ) k' ε,
    E[|x_0 − x̂_0|² | x_0] = Σ_j ((1 − √ᾱ k') x_0 − r)² + (1−ᾱ) k'²,

and over x_0 as well, the square becomes ((1 − √ᾱ k') m − r)² + (1 − √ᾱ k')² λ. The density decoder is linear in
|x_0 − x̂_0|² like the mean costs, so these are the exact expectations of the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ddpm_bench.diffusion.estimators import Draws, Estimator, mean_and_contrast
from ddpm_bench.diffusion.estimators.full import Full
from ddpm_bench.diffusion.estimators.importance import Importance
from ddpm_bench.diffusion.process import Process
from ddpm_bench.randomness import Stream
from tests import oracles

NUM_DIMS = 64


@dataclass(frozen=True)
class Problem:
    """Gaussian data, the linear schedule with σ² = β and σ_1² = β̃_2, and a denoiser with an error δ in its gain."""

    mean: float
    eigenvalues: tuple[float, ...]
    delta: float
    num_timesteps: int = 1000

    @cached_property
    def betas(self) -> np.ndarray:
        return np.array(oracles.linear_betas(self.num_timesteps))

    @cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """[T, 1] each, but slope and offset, which are [T, D]."""
        found = oracles.chain(self.betas.tolist())
        columns = {name: np.array(getattr(found, name))[:, None] for name in found.__dataclass_fields__}
        signal, noise, c = columns["alpha_bar"] ** 0.5, columns["one_minus_alpha_bar"], columns["posterior_x_0"]
        spectrum = np.array(self.eigenvalues)
        k = signal * spectrum / (columns["alpha_bar"] * spectrum + noise)
        slope = k + self.delta * (c * k + columns["posterior_x_t"]) / c
        sigma2 = np.concatenate([columns["posterior_variance"][1:2], columns["beta"][1:]])
        return {
            "signal": signal, "noise": noise**0.5, "slope": slope, "offset": (1 - signal * k) * self.mean,
            "sigma2": sigma2[:, 0], "weight": (c**2)[:, 0] / (2 * sigma2[:, 0]), **columns,
        }  # fmt: skip

    def images(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return self.mean + rng.standard_normal((count, NUM_DIMS)) * np.array(self.eigenvalues) ** 0.5

    def errors(self, x_0: np.ndarray, t: np.ndarray, eps: np.ndarray) -> np.ndarray:
        """|x_0 − x̂_0|², [n, M]; x_0 [n, D], t the index [n, M], eps [n, M, D]."""
        table = self.tables
        x_t = table["signal"][t] * x_0[:, None] + table["noise"][t] * eps
        return ((x_0[:, None] - table["offset"][t] - table["slope"][t] * x_t) ** 2).sum(-1)

    def terms(self, t: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """Mean costs in nats, or the part of L_0 that depends on the network at t = 0."""
        found: np.ndarray = self.tables["weight"][t] * errors
        return found

    def rest(self, squared_norm: np.ndarray) -> np.ndarray:
        """L_T, all variance costs and the constant of the decoder, nats; squared_norm: |x_0|² or its expectation."""
        table = self.tables
        alpha_bar, ratio = table["alpha_bar"][-1, 0], table["posterior_variance"][1:, 0] / table["sigma2"][1:]
        prior = 0.5 * (alpha_bar * squared_norm - NUM_DIMS * (alpha_bar + np.log1p(-alpha_bar)))
        variance = NUM_DIMS * 0.5 * (ratio - 1 - np.log(ratio)).sum()
        found: np.ndarray = prior + variance + NUM_DIMS * 0.5 * np.log(2 * math.pi * table["sigma2"][0])
        return found

    def exact(self, x_0: np.ndarray | None = None) -> np.ndarray:
        """The expectation of the bound in bits/dim: of each image over the noise [n], or of the population []."""
        table = self.tables
        kept = 1 - table["signal"] * table["slope"]
        noise = ((table["noise"] * table["slope"]) ** 2).sum(1)
        if x_0 is None:
            spectrum = np.array(self.eigenvalues)
            errors = ((kept * self.mean - table["offset"]) ** 2 + kept**2 * spectrum).sum(1) + noise
            squared_norm = np.sum(self.mean**2 + spectrum)
        else:
            squares = x_0**2 @ (kept**2).T - 2 * x_0 @ (kept * table["offset"]).T
            errors, squared_norm = squares + (table["offset"] ** 2).sum(1) + noise, (x_0**2).sum(1)
        found: np.ndarray = (errors @ table["weight"] + self.rest(squared_norm)) / (NUM_DIMS * math.log(2))
        return found

    def estimate(
        self, estimator: Estimator, x_0: np.ndarray, seed: int, rng: np.random.Generator, control: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """(bound of each image in bits/dim, its noise contrast), [n] each."""
        process = Process.from_betas(torch.from_numpy(self.betas))
        spectrum = torch.tensor(self.eigenvalues, dtype=torch.float64)
        draws = estimator.draw(process, torch.arange(len(x_0)), Stream(seed, "t"), spectrum)
        t = draws.t.numpy()
        eps = rng.standard_normal((*t.shape, NUM_DIMS))
        norm = torch.from_numpy((eps**2).sum(-1) if control else np.full(t.shape, float(NUM_DIMS)))
        total, contrast = estimator.total(
            torch.from_numpy(self.terms(t, self.errors(x_0, t, eps))), draws, norm, NUM_DIMS
        )
        zeros = np.zeros((len(x_0), draws.num_first), dtype=np.int64)
        first = self.terms(zeros, self.errors(x_0, zeros, rng.standard_normal((*zeros.shape, NUM_DIMS))))
        decoder, decoder_contrast = mean_and_contrast(torch.from_numpy(first))
        value = (total + decoder).numpy() + self.rest((x_0**2).sum(1))
        scale = NUM_DIMS * math.log(2)
        return value / scale, (contrast + decoder_contrast).numpy() / scale


BY_DIMENSION = tuple(4 * 0.8**j for j in range(NUM_DIMS))
PROBLEMS = {
    "isotropic": Problem(0.5, (0.25,) * NUM_DIMS, delta=0.01),
    "correlated": Problem(-0.3, BY_DIMENSION, delta=0.01),
    "isotropic, no error": Problem(0.5, (0.25,) * NUM_DIMS, delta=0.0),
    "correlated, no error": Problem(-0.3, BY_DIMENSION, delta=0.0),
}
FIFTY = Importance(calls_per_image=50)
IMAGES = 64

# Of intervals that cover with probability 0.95, 200 cover 190 ± 3.1 times and 50 cover 47.5 ± 1.54 times: the bounds
# are 1.6 standard deviations below, the seed is 0.
LEAST = {200: 185, 50: 45}
SLOW = pytest.mark.slow
CASES = [
    ("isotropic", 200), ("correlated", 200),
    pytest.param("isotropic, no error", 200, marks=SLOW), pytest.param("correlated, no error", 200, marks=SLOW),
]  # fmt: skip


@pytest.mark.parametrize(("name", "repeats"), CASES)
def test_intervals_over_images_cover_the_expectation_over_the_population(name, repeats):
    """Fifty calls for each of new images: mean ± t · spread/√n."""
    problem, rng, quantile, hits = PROBLEMS[name], np.random.default_rng(0), stats.t.ppf(0.975, IMAGES - 1), 0
    exact = problem.exact()
    for repeat in range(repeats):
        values, _ = problem.estimate(FIFTY, problem.images(IMAGES, rng), repeat, rng)
        hits += abs(values.mean() - exact) <= quantile * values.std(ddof=1) / IMAGES**0.5
    assert hits >= LEAST[repeats]


def covered_by_noise(problem: Problem, estimator: Estimator, repeats: int) -> int:
    """How often mean ± 1.96 √(Σ contrast²)/n contains the expectation over the noise of one set of images."""
    rng = np.random.default_rng(0)
    x_0, hits = problem.images(IMAGES, rng), 0
    exact = problem.exact(x_0).mean()
    for repeat in range(repeats):
        values, contrasts = problem.estimate(estimator, x_0, repeat, rng)
        hits += abs(values.mean() - exact) <= 1.96 * np.sqrt((contrasts**2).sum()) / IMAGES
    return hits


@pytest.mark.parametrize(("name", "repeats"), CASES)
def test_noise_intervals_cover_the_expectation_of_the_same_images(name, repeats):
    """Fifty calls for each image of a fixed set."""
    assert covered_by_noise(PROBLEMS[name], FIFTY, repeats) >= LEAST[repeats]


@pytest.mark.parametrize("repeats", [50, pytest.param(200, marks=SLOW)])
@pytest.mark.parametrize("num_timesteps", [50, 51])
def test_noise_intervals_of_the_full_sum_cover_it_too(num_timesteps, repeats):
    problem = Problem(-0.3, BY_DIMENSION, 0.01, num_timesteps)
    assert covered_by_noise(problem, Full(), repeats) >= LEAST[repeats]


@pytest.mark.parametrize("repeats", [50, pytest.param(200, marks=SLOW)])
def test_noise_intervals_of_a_paired_difference_cover_it(repeats):
    """Two denoisers with the same draws: the contrast of the difference is the difference of the contrasts."""
    one, other = PROBLEMS["correlated"], PROBLEMS["correlated, no error"]
    x_0, hits = one.images(IMAGES, np.random.default_rng(0)), 0
    exact = (one.exact(x_0) - other.exact(x_0)).mean()
    for repeat in range(repeats):
        pairs = [problem.estimate(FIFTY, x_0, repeat, np.random.default_rng([0, repeat])) for problem in (one, other)]
        (values, contrasts), (values_2, contrasts_2) = pairs
        error = np.sqrt(((contrasts - contrasts_2) ** 2).sum()) / IMAGES
        hits += abs((values - values_2).mean() - exact) <= 1.96 * error
    assert hits >= LEAST[repeats]


@dataclass(frozen=True, kw_only=True)
class Uniform(Importance):
    """The same calls with t uniform and independent: no stratum, no regression."""

    def draw(self, process: Process, index: Tensor, stream: Stream, spectrum: Tensor | None) -> Draws:
        t = 1 + (stream.uniform(0, index, 48) * (len(process) - 1)).long()
        return Draws(t, 2)

    def total(self, values: Tensor, draws: Draws, eps_norm: Tensor | None, num_dims: int) -> tuple[Tensor, Tensor]:
        return mean_and_contrast(999 * values)


@pytest.mark.parametrize("name", ["isotropic, no error", "correlated, no error"])
def test_fifty_calls_are_precise_enough(name):
    """±0.005 bits/dim (95 %) from 150 000 dimensions: at most 0.005/1.96 · √(150 000/64) = 0.1235 for one image."""
    problem = PROBLEMS[name]
    rng = np.random.default_rng(0)

    def deviation(estimator: Estimator, num_images: int, control: bool = True) -> float:
        x_0 = problem.images(num_images, rng)
        values, contrasts = problem.estimate(estimator, x_0, 0, rng, control)
        found = float(np.sqrt(((values - problem.exact(x_0)) ** 2).mean()))
        # Relative standard deviations of two mean squares over 100 images or more, of tails heavier than normal.
        assert np.sqrt((contrasts**2).mean()) == pytest.approx(found, rel=0.3)
        return found

    fifty, uncontrolled = deviation(FIFTY, 600), deviation(FIFTY, 600, control=False)
    full, uniform = deviation(Full(), 100), deviation(Uniform(), 600)
    assert fifty < 0.1235
    assert fifty < 0.9 * uncontrolled
    assert fifty < 0.9 * full  # twenty times its calls
    assert 10 * fifty < uniform
