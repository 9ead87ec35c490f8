"""The reverse process p_θ(x_{t−1} | x_t): network output → x̂_0 → mean and log-variance."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process


def _clip(pred_x_0: Tensor) -> Tensor:
    return pred_x_0.clamp(-1.0, 1.0)


def _keep(pred_x_0: Tensor) -> Tensor:
    return pred_x_0


DYNAMIC_QUANTILE = 0.995
"""Of |x̂_0| over the dimensions of an image. Source: Saharia et al. 2022, Imagen, § 2.3 and appendix (p = 99.5 %)."""


def _dynamic(pred_x_0: Tensor) -> Tensor:
    """clamp(x̂_0, −s, s)/s, s = max(1, the quantile of |x̂_0| in the image), linear between order statistics."""
    magnitude = pred_x_0.abs().flatten(1)
    place = DYNAMIC_QUANTILE * (magnitude.shape[1] - 1)
    largest = torch.topk(magnitude, magnitude.shape[1] - math.floor(place), dim=1).values
    low, high = largest[:, -1], largest[:, max(-2, -largest.shape[1])]
    s = torch.lerp(low, high, place - math.floor(place)).clamp(min=1.0).reshape(-1, *([1] * (pred_x_0.dim() - 1)))
    return torch.minimum(torch.maximum(pred_x_0, -s), s) / s


THRESHOLDINGS: dict[str, Callable[[Tensor], Tensor]] = {"clip": _clip, "none": _keep, "dynamic": _dynamic}
"""What is done to x̂_0 before it is used: clip to the data's range [−1, 1], nothing, or an image's own bound."""
BOUND_THRESHOLDINGS = ("clip", "none")
"""Those whose x̂_0 is scored: bits/dim belongs to a chain that treats every coordinate by itself."""


def split_head(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """The prediction and, where the network has one, the variance head: output [B, C or 2C, H, W]."""
    if output.shape[1] == channels:
        return output, None
    return output[:, :channels], output[:, channels:]


def p_x_0(
    output: Tensor, x_t: Tensor, t: Tensor, process: Process, prediction: Prediction, thresholding: str
) -> Tensor:
    """x̂_0 from the network's prediction, after thresholding, [B, C, H, W].

    One rule for all predictions: the mean of p_θ is formed from this x̂_0. t, process: those of the chain that the
    network was trained on (see `Prediction.to_x_0`); `p_mean` takes those of the chain that is walked.
    Source: Ho et al. 2020, eq. 15; their code, GaussianDiffusion2.p_mean_variance, clip_denoised.
    """
    return THRESHOLDINGS[thresholding](prediction.to_x_0(output, x_t, t, process))


def p_mean(pred_x_0: Tensor, x_t: Tensor, t: Tensor, process: Process) -> Tensor:
    """μ_θ(x_t, t) = μ̃_t(x_t, x̂_0), [B, C, H, W]. Source: Ho et al. 2020, eq. 7 and 11."""
    return process.q_posterior_mean(pred_x_0, x_t, t)
