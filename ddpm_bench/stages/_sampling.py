"""The reverse chain of a trained network: what a sampler asks for, with all tables on the device beforehand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.reverse import p_x_0, split_head
from ddpm_bench.diffusion.samplers import Denoise, Noise
from ddpm_bench.randomness import Stream
from ddpm_bench.spec import Reverse, chain, rebuild_reverse
from ddpm_bench.stages import Context
from ddpm_bench.stages._model import Model, load_model

Seen = Callable[[Tensor, Tensor, Tensor], None]
"""seen(t, x_t, x̂_0): told at every step, for who wants to look on; t: the chain's index [B]."""


class ReverseChain:
    """p_θ on the chain that is walked.

    The network's output belongs to the chain it was trained on, also where a respaced one is walked. A σ² that needs no
    head is a table, made once. Within a step nothing is copied from the host and nothing waits for the device.
    """

    def __init__(self, model: Model, reverse: Reverse, fit: Tensor | None = None):
        """fit: ln σ²_t of a fitted variance, float64 [S]."""
        self.model, self.reverse, self.fit = model, reverse, fit
        self.process: Process = chain(model.process, reverse.timesteps)
        self._trained, self._walked = model.process.to(model.device), self.process.to(model.device)
        self._table: Tensor | None = None
        if not reverse.variance.needs_head:
            every = torch.arange(len(self.process))
            self._table = reverse.variance.log_sigma2(self.process, every, fit=fit, first_step=reverse.first_step)
            self._table = self._table.to(model.device)

    def denoise(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(x̂_0 after thresholding, ln σ²_t), as samplers want it."""
        original = self._walked.original_index(t)
        output, head = split_head(self.model(x_t, original), self.model.shape[0])
        pred_x_0 = p_x_0(
            output, x_t, original, self._trained, self.model.training.prediction, self.reverse.thresholding
        )
        if self._table is not None:
            return pred_x_0, self._table[t]
        first_step = self.reverse.first_step
        return pred_x_0, self.reverse.variance.log_sigma2(self._walked, t, head, self.fit, first_step)

    def noise(self, index: Tensor) -> tuple[Tensor, Noise]:
        """(x_T, z of each of the chain's indices) of the images with these numbers, int64 [B] on the device.

        Functions of (seed, number, t of the original chain) alone, the same for every variant of a seed.
        """
        stream, timesteps = Stream(self.model.training.seed, "sample"), self.process.timesteps.tolist()
        shape = self.model.shape
        return stream.normal(0, index, shape), lambda i: stream.normal(timesteps[i], index, shape)

    def walk(self, x_T: Tensor, noise: Noise, seen: Seen | None = None) -> Tensor:
        """x_0 as the sampler returns it, [B, C, H, W]."""
        denoise: Denoise = self.denoise
        if seen is not None:
            tell = seen

            def denoise(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
                pred_x_0, log_sigma2 = self.denoise(x_t, t)
                tell(t, x_t, pred_x_0)
                return pred_x_0, log_sigma2

        with torch.inference_mode():
            return self.reverse.sampler.sample(denoise, x_T, self.process, self.process.timesteps, noise)


def load_chain(context: Context) -> ReverseChain:
    """The chain of a task with the inputs train and, for a fitted variance, fit; its spec holds the reverse process."""
    reverse = rebuild_reverse(context.spec["reverse"])
    model = load_model(context.input("train"), reverse.weights, context.device, precision=reverse.precision)
    fit = None
    if "fit" in context.task.inputs:
        fit = torch.from_numpy(np.load(context.input("fit").path / "log_sigma2.npy"))
    return ReverseChain(model, reverse, fit)
