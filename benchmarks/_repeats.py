"""Bits/dim of one trained network by several estimators, again and again: the error each claims, and the one it makes.

Draws are scored here by a short loop of their own and put together from the mathematics of the package, beside the
stages; that both give the same number for the draws of the pipeline is checked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ddpm_bench as db
from ddpm_bench.diffusion.estimators import Draws, Estimator, mean_and_contrast
from ddpm_bench.diffusion.estimators.full import Full
from ddpm_bench.diffusion.estimators.importance import Importance
from ddpm_bench.diffusion.likelihood import bits_per_dim, decoder_nll, mean_cost, prior_kl, variance_cost
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.reverse import THRESHOLDINGS
from ddpm_bench.randomness import Stream
from ddpm_bench.records import ResultCell
from ddpm_bench.spec import rebuild_reverse
from ddpm_bench.stages._model import Model, scale_to_network
from ddpm_bench.store import Artifact, Store

FULL, UNIFORM, PLAIN, CURVE, IMPORTANCE = (
    "full", "uniform t", "importance, p_t alone", "importance without its control variate", "importance",
)  # fmt: skip
BUDGETS = (26, 50, 100)
"""Network calls per image."""


@dataclass(frozen=True, kw_only=True)
class Uniform(Estimator):
    """The baseline: t uniform over 2…T, independent; t = 1, which would hardly ever be drawn, twice as in `full`."""

    calls_per_image: int

    def draw(self, process: Process, index: Tensor, stream: Stream, spectrum: Tensor | None) -> Draws:
        """Independent t, no control variate."""
        others = len(process) - 1
        t = 1 + (others * stream.uniform(0, index, self.calls_per_image - 2)).long()
        return Draws(t, 2, torch.full((len(process),), 1 / others, dtype=torch.float64))

    def total(self, values: Tensor, draws: Draws, eps_norm: Tensor | None, num_dims: int) -> tuple[Tensor, Tensor]:
        """The mean of value/p_t, for whatever p_t."""
        assert draws.probability is not None
        return mean_and_contrast(values.double() / draws.probability[draws.t])


@dataclass(frozen=True)
class Scores:
    """Scored draws of n images. first: x̂_0 at t = 1, clipped, [n, R, C, H, W]; squared: |x_0 − x̂_0|² [n, M];
    eps_norm: |ε|² [n, M]; seconds: CPU time of one core that they took, NaN where the pipeline made them."""

    draws: Draws
    first: Tensor
    squared: Tensor
    eps_norm: Tensor
    seconds: float = math.nan


@dataclass(frozen=True)
class Estimated:
    """One estimator's bits/dim of n images. value, contrast (of the noise): σ² → float64 [n]; seconds: as in Scores."""

    estimator: str
    calls: int
    value: dict[str, np.ndarray]
    contrast: dict[str, np.ndarray]
    seconds: float


class Trained:
    """The network of a finished suite, and the first num_images images that it was evaluated on."""

    def __init__(self, runs: Path, suite: str, num_images: int | None = None):
        self.cells: dict[str, ResultCell] = {c.axes["variance"]: c for c in db.results(suite, runs=runs).cells}
        self.store = Store(runs / "store")
        self.model: Model = next(iter(self.cells.values())).model()
        self.process = self.model.process
        self.likelihoods = {
            name: Artifact(runs / cell.artifacts["likelihood"]["test"]) for name, cell in self.cells.items()
        }
        likelihood = next(iter(self.likelihoods.values()))
        self.scores = self._inputs(likelihood, "score")
        self.indices = np.load(likelihood.path / "indices.npy")[:num_images]
        data = self._inputs(likelihood, "data")[0]
        self.target = torch.from_numpy(np.load(data.path / "test.npy", mmap_mode="r")[self.indices])
        self.x_0 = scale_to_network(self.target, self.model.levels)

    def _inputs(self, artifact: Artifact, name: str) -> list[Artifact]:
        places = artifact.manifest["inputs"][name]
        return [self.store.get(*place) for place in (places if isinstance(places[0], list) else [places])]

    def spectrum(self) -> Tensor:
        """Eigenvalues of the covariance of the training images."""
        return torch.from_numpy(np.load(self._inputs(self.scores[0], "spectrum")[0].path / "eigenvalues.npy"))

    def log_sigma2(self, name: str) -> Tensor:
        """ln σ²_t of a cell, float64 [T]."""
        reverse = rebuild_reverse(self.likelihoods[name].spec["reverse"])
        fit = None
        if reverse.variance.needs_fit:
            found = self._inputs(self.likelihoods[name], "fit")[0]
            fit = torch.from_numpy(np.load(found.path / "log_sigma2.npy"))
        steps = torch.arange(len(self.process))
        return reverse.variance.log_sigma2(self.process, steps, fit=fit, first_step=reverse.first_step)

    def stored(self) -> Scores:
        """The sampled draws of the pipeline."""

        def load(name: str) -> Tensor:
            return torch.cat([torch.from_numpy(np.load(score.path / f"{name}.npy")) for score in self.scores])

        first = THRESHOLDINGS["clip"](load("x_0_first"))
        tables = [torch.from_numpy(np.load(self.scores[0].path / f"{name}.npy")) for name in ("probability", "control")]
        draws = Draws(load("t").long(), first.shape[1], *tables)
        return Scores(draws, first, load("squared_error_clip"), load("eps_norm"))

    def score(self, estimator: Estimator, repeat: int) -> Scores:
        """New draws: their t and ε belong to (estimator, repeat) alone."""
        started = time.process_time()
        index, clip = torch.from_numpy(self.indices), THRESHOLDINGS["clip"]
        noise, choice = (Stream(repeat, f"benchmark {what} {estimator}") for what in ("eps", "t"))
        draws = estimator.draw(self.process, index, choice, self.spectrum() if estimator.needs_spectrum else None)
        first, squared, eps_norm = [], [], []
        for draw in range(draws.num_first + draws.t.shape[1]):
            t = draws.t[:, draw - draws.num_first] if draw >= draws.num_first else torch.zeros_like(index)
            eps = noise.normal(draw, index, self.model.shape)
            x_t = self.process.q_sample(self.x_0, t, eps)
            pred_x_0 = clip(self.model.training.prediction.to_x_0(self.model(x_t, t), x_t, t, self.process))
            if draw < draws.num_first:
                first.append(pred_x_0)
            else:
                squared.append((self.x_0 - pred_x_0).square().flatten(1).sum(1))
                eps_norm.append(eps.square().flatten(1).sum(1))
        x_0_first, errors, norms = (torch.stack(columns, dim=1) for columns in (first, squared, eps_norm))
        return Scores(draws, x_0_first, errors, norms, time.process_time() - started)

    def estimate(self, label: str, estimator: Estimator, scores: Scores) -> Estimated:
        """Bits/dim for each σ² from scored draws."""
        num_dims, calls = self.x_0[0].numel(), scores.first.shape[1] + scores.squared.shape[1]
        value: dict[str, np.ndarray] = {}
        contrast: dict[str, np.ndarray] = {}
        for name in self.cells:
            log_sigma2 = self.log_sigma2(name)
            weight = mean_cost(self.process, log_sigma2, torch.ones_like(log_sigma2))[scores.draws.t]
            cost, cost_contrast = estimator.total(weight * scores.squared, scores.draws, scores.eps_norm, num_dims)
            first = [
                decoder_nll(self.target, mean.double(), log_sigma2[0], self.model.levels)
                for mean in scores.first.unbind(dim=1)
            ]
            l_0, l_0_contrast = mean_and_contrast(torch.stack(first, dim=1))
            rest = prior_kl(self.x_0, self.process) + num_dims * variance_cost(self.process, log_sigma2).sum()
            value[name] = bits_per_dim(l_0 + cost + rest, num_dims).numpy()
            contrast[name] = bits_per_dim(l_0_contrast + cost_contrast, num_dims).numpy()
        return Estimated(label, calls, value, contrast, scores.seconds)

    def full(self) -> Estimated:
        """What the pipeline found with `full`."""
        arrays = [
            {name: np.load(artifact.path / f"{file}.npy") for name, artifact in self.likelihoods.items()}
            for file in ("per_image", "noise")
        ]
        value = {name: terms.sum(1) for name, terms in arrays[0].items()}
        return Estimated(FULL, Full().calls(len(self.process)), value, arrays[1], math.nan)

    def importance(self, scores: Scores) -> Iterator[Estimated]:
        """Importance sampling, and what the same draws give with less of its arithmetic."""
        estimator = Importance()  # the number of calls is in the draws
        yield self.estimate(IMPORTANCE, estimator, scores)
        control = scores.draws.control
        assert control is not None
        without = replace(scores, draws=replace(scores.draws, control=torch.zeros_like(control)))
        yield self.estimate(CURVE, estimator, without)
        yield self.estimate(PLAIN, Uniform(calls_per_image=0), scores)

    def uniform(self, scores: Scores) -> Iterator[Estimated]:
        """The baseline with several numbers of calls: the larger ones go on from the smaller ones."""
        total = scores.first.shape[1] + scores.squared.shape[1]
        for calls in BUDGETS:
            kept = slice(calls - scores.first.shape[1])
            part = Scores(
                replace(scores.draws, t=scores.draws.t[:, kept]), scores.first, scores.squared[:, kept],
                scores.eps_norm[:, kept], scores.seconds * calls / total,
            )  # fmt: skip
            yield self.estimate(UNIFORM, Uniform(calls_per_image=calls), part)


@dataclass(frozen=True, order=True)
class Work:
    """What one process estimates. suite: with `full`; num_images: the first ones, None for all; repeat: the number of
    the draws, None for those of the pipeline; calls: of `importance`, 0 for the baseline at all its numbers of calls,
    None for `full`."""

    suite: str
    calls: int | None
    repeat: int | None
    num_images: int | None

    def run(self, runs: Path) -> list[Estimated]:
        """In this process, on one core."""
        torch.set_num_threads(1)
        suite = importance_suite(self.suite, self.calls or BUDGETS[0])
        trained = Trained(runs, self.suite if self.calls is None else suite, self.num_images)
        if self.repeat is None:
            found = list(trained.importance(trained.stored()))
            check_against_pipeline(trained, found[0])
            return found
        if self.calls is None:
            return [trained.estimate(FULL, Full(), trained.score(Full(), self.repeat))]
        if self.calls == 0:
            return list(trained.uniform(trained.score(Uniform(calls_per_image=max(BUDGETS)), self.repeat)))
        return list(trained.importance(trained.score(Importance(calls_per_image=self.calls), self.repeat)))


def importance_suite(suite: str, calls: int) -> str:
    """The name of a suite with `importance` at some calls per image."""
    return f"{suite}_importance_{calls}"


def check_against_pipeline(trained: Trained, estimated: Estimated) -> None:
    """Raises where bits/dim of the pipeline's own draws, put together here, is not what the pipeline says."""
    for name, likelihood in trained.likelihoods.items():
        for file, here in {"per_image": estimated.value[name], "noise": estimated.contrast[name]}.items():
            there = np.load(likelihood.path / f"{file}.npy")
            # Both in float64, of about 4 bits/dim in sums of up to 100 terms of size 1/p_t.
            there = there.sum(1) if there.ndim == 2 else there
            np.testing.assert_allclose(here, there, rtol=0, atol=1e-9, err_msg=f"{file} of {name}")
