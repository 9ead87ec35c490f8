"""Training losses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.time_sampling import TIME_SAMPLERS, TimeSampler, TimeSampling
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.registry import Entry


@dataclass(frozen=True)
class Batch:
    """Noised images of one training or validation step.

    x_0, eps, x_t: [B, C, H, W]; t: the chain's index, int64 [B]; target: integer levels [B, C, H, W], or x_0 itself for
    data without levels; levels: their number K, or None.
    """

    x_0: Tensor
    eps: Tensor
    x_t: Tensor
    t: Tensor
    target: Tensor
    levels: int | None


class Loss(Entry, axis="losses"):
    """What training minimises: the mean of `per_image` over the batch, weighted where t is not drawn uniformly."""

    variance: Variance | None = None
    """The σ² that the loss uses, None where it uses none; a field in losses that do (see `spec.bind`)."""
    time_sampling: TimeSampling = "uniform"
    """How t is drawn; a field in losses whose terms differ much in size."""

    def per_image(self, output: Tensor, batch: Batch, process: Process, prediction: Prediction) -> Tensor:
        """The loss of each image, [B]. output: [B, C or 2C, H, W]."""
        raise NotImplementedError

    def time_sampler(self, num_timesteps: int, device: str = "cpu") -> TimeSampler:
        """What draws t in a training, without history."""
        return TIME_SAMPLERS[self.time_sampling](num_timesteps, device)

    def canonical(self, prediction: Prediction) -> Loss:
        """The loss that stands for all that are equal to this one under the prediction: it enters the key."""
        return self
