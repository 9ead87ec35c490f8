"""Stage score: the denoising errors of a chunk of images, one network call per (x_t, t).

Every fixed σ², every thresholding and every shorter chain that keeps t = 1 is arithmetic on what is stored here. A
variance head decides σ² per pixel, so its terms of the bound are stored beside the errors; they belong to one chain.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.diffusion.estimators import Draws, Estimator
from ddpm_bench.diffusion.gaussians import kl_mean_part, kl_variance_part
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.reverse import BOUND_THRESHOLDINGS, THRESHOLDINGS, split_head
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.randomness import Stream
from ddpm_bench.spec import chain, rebuild
from ddpm_bench.stages import Context
from ddpm_bench.stages._images import chunk_of, split_values, subset
from ddpm_bench.stages._model import load_model, scale_to_network

VERSION = 2


def noise_step(num_timesteps: int, t: int | Tensor, draw: int) -> int | Tensor:
    """The key of the noise of a draw at t (1-based, of the original chain): the first draw of each t has its own t."""
    return draw * (num_timesteps + 1) + t


class Scorer:
    """Scores the images of one chunk."""

    def __init__(self, context: Context):
        spec = self.spec = context.spec
        self.context = context
        self.model = load_model(
            context.input("train"), spec["weights"], context.device, precision=spec.get("precision")
        )
        training = self.model.training
        self.process: Process = chain(self.model.process, spec["timesteps"] and tuple(spec["timesteps"]))
        self.head: Variance | None = training.loss.variance if training.learned_variance else None
        values = split_values(context.input("data"), spec["split"])
        self.indices = chunk_of(subset(len(values), spec["images"]), spec["chunk"])
        x_0 = scale_to_network(torch.from_numpy(np.array(values[self.indices])), self.model.levels)
        self.x_0, self.index = x_0.to(context.device), torch.from_numpy(self.indices).to(context.device)
        self.stream = Stream(training.seed, f"score {spec['split']}")
        self.arrays: dict[str, list[Tensor]] = {}
        self.calls = 0

    def draws(self) -> Draws:
        """Which (t, ε) are scored."""
        estimator: Estimator = rebuild(Estimator, self.spec["estimator"])
        spectrum = None
        if estimator.needs_spectrum:
            spectrum = torch.from_numpy(np.load(self.context.input("spectrum").path / "eigenvalues.npy"))
        choice = Stream(self.model.training.seed, f"score {self.spec['split']} t")
        return estimator.draw(self.process, torch.from_numpy(self.indices), choice, spectrum)

    def call(self, t: Tensor, draw: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(x_t, ε, x̂_0 before thresholding, head) at the chain's index t, int64 [n]."""
        original = self.process.original_index(t)
        step = noise_step(len(self.model.process), original + 1, draw)
        eps = self.stream.normal(step, self.index, self.model.shape)
        x_t = self.model.process.q_sample(self.x_0, original, eps)
        output, head = split_head(self.model(x_t, original), self.model.shape[0])
        self.calls += len(t)
        return x_t, eps, self.model.training.prediction.to_x_0(output, x_t, original, self.model.process), head

    def keep(self, name: str, value: Tensor) -> None:
        """Add a column to an array of the artifact."""
        self.arrays.setdefault(name, []).append(value.cpu())

    def first(self, draw: int) -> None:
        """x̂_0 and head at the chain's first step: L_0 is a function of every pixel."""
        _, _, pred_x_0, head = self.call(torch.zeros_like(self.index), draw)
        self.keep("x_0_first", pred_x_0)
        if head is not None:
            self.keep("head_first", head)

    def later(self, t: Tensor, draw: int, with_norm: bool) -> None:
        """The squared errors at a later step and, with a head, its terms of the bound in nats."""
        _, eps, pred_x_0, head = self.call(t, draw)
        if with_norm:
            self.keep("eps_norm", eps.square().flatten(1).sum(1))
        log_sigma2 = None
        if head is not None:
            assert self.head is not None, "a network with a head was trained with its variance"
            log_sigma2 = self.head.log_sigma2(self.process, t, head=head)
            log_beta_tilde = torch.log(self.process.beta_tilde).to(t.device)[t].reshape(-1, 1, 1, 1)
            self.keep("kl_variance", kl_variance_part(log_beta_tilde, log_sigma2).flatten(1).sum(1))
            self.keep("log_sigma2", log_sigma2.flatten(1).mean(1))
            self.keep("head", head.flatten(1).mean(1))
        scale = (self.process.posterior_x_0**2).to(t.device)[t].reshape(-1, 1, 1, 1)
        for name in BOUND_THRESHOLDINGS:
            error = (self.x_0 - THRESHOLDINGS[name](pred_x_0)).square()
            self.keep(f"squared_error_{name}", error.flatten(1).sum(1))
            if log_sigma2 is not None:
                self.keep(f"kl_mean_{name}", kl_mean_part(scale * error, log_sigma2).flatten(1).sum(1))

    def run(self) -> None:
        """Score every draw and write the arrays."""
        draws, log = self.draws(), self.context.log
        num_columns = draws.t.shape[1]
        total = (draws.num_first + num_columns) * len(self.index)
        for draw in range(draws.num_first):
            self.first(draw)
            log.progress(self.calls, total, "calls")
        for column in range(num_columns):
            sampled = draws.probability is not None
            draw = draws.num_first + column if sampled else 0
            self.later(draws.t[:, column].to(self.index.device), draw, with_norm=sampled)
            log.progress(self.calls, total, "calls")
        self.write(draws)

    def write(self, draws: Draws) -> None:
        """The artifact's files; of a chain of one step the arrays over later steps are empty."""
        out, empty = self.context.out, torch.empty(len(self.index), 0)
        errors = [f"{kind}_{name}" for name in BOUND_THRESHOLDINGS for kind in ("squared_error", "kl_mean")]
        for name in ("x_0_first", "head_first", "eps_norm", "kl_variance", "head", "log_sigma2", *errors):
            columns = self.arrays.get(name, [])
            if columns or (not draws.t.shape[1] and name != "head_first"):
                np.save(out / f"{name}.npy", (torch.stack(columns, dim=1) if columns else empty).float().numpy())
        if draws.probability is not None:
            np.save(out / "t.npy", draws.t.to(torch.int32).numpy())
            np.save(out / "probability.npy", draws.probability.numpy())
            if draws.control is not None:
                np.save(out / "control.npy", draws.control.numpy())
        np.save(out / "indices.npy", self.indices)
        self.context.manifest["info"] = {"network_calls": self.calls}


def run(context: Context) -> None:
    """Writes the draws of n images on a chain of S steps, float32 unless said otherwise:

    indices.npy int64 [n]; x_0_first.npy [n, R, C, H, W], x̂_0 at the first step, no thresholding, for R draws of ε;
    for M draws of later steps (each of them once with the estimator full: M = S − 1) squared_error_<thresholding>.npy
    [n, M], |x_0 − x̂_0|² summed over dimensions. Where t was sampled: t.npy int32 [n, M] (the chain's index),
    eps_norm.npy [n, M] (|ε|²), probability.npy and control.npy float64 [S]. With a variance head: head_first.npy
    [n, R, C, H, W], head.npy and log_sigma2.npy [n, M] (means over dimensions), kl_variance.npy and
    kl_mean_<thresholding>.npy [n, M] (nats).

    spec["timesteps"] is null for the full chain, or the t (1-based) of another one.

    The first draw at t has the noise of (seed, split, t, image), the same for every variant of that seed.
    """
    with torch.inference_mode():
        Scorer(context).run()
