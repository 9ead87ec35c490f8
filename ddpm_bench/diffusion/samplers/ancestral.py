"""Ancestral sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.samplers import Denoise, Noise, Sampler, affine, steps
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Ancestral(Sampler):
    """x_{t−1} = μ_θ(x_t, t) + σ_t z, z ~ N(0, I), μ_θ = c_t x̂_0 + d_t x_t; the last step returns the mean, no noise.

    Source: Ho et al. 2020, algorithm 2.
    """

    has_bound: ClassVar[bool] = True

    def sample(self, denoise: Denoise, x_T: Tensor, process: Process, timesteps: Tensor, noise: Noise) -> Tensor:
        """x_0, [B, C, H, W]; one call of denoise for each step of the chain."""
        of_x_0, of_x_t = process.posterior_x_0.tolist(), process.posterior_x_t.tolist()
        x = x_T
        for i, t in steps(process, x_T):
            pred_x_0, log_sigma2 = denoise(x, t)
            x = affine(pred_x_0, of_x_0[i], x, of_x_t[i])
            if i > 0:
                sigma = torch.exp(0.5 * log_sigma2).to(x.dtype)
                x = x.addcmul_(sigma.reshape(len(x), *sigma.shape[1:], *([1] * (x.dim() - sigma.dim()))), noise(i))
        return x
