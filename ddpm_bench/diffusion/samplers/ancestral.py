"""Ancestral sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.reverse import p_mean
from ddpm_bench.diffusion.samplers import Denoise, Noise, Sampler
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Ancestral(Sampler):
    """x_{t−1} = μ_θ(x_t, t) + σ_t z, z ~ N(0, I); the last step returns the mean, without noise.

    Source: Ho et al. 2020, algorithm 2.
    """

    def sample(self, denoise: Denoise, x_T: Tensor, process: Process, timesteps: Tensor, noise: Noise) -> Tensor:
        """x_0, [B, C, H, W]; one call of denoise for each step of the chain."""
        x = x_T
        for i in reversed(range(len(process))):
            t = torch.full((len(x),), i, dtype=torch.int64, device=x.device)
            pred_x_0, log_sigma2 = denoise(x, t)
            x = p_mean(pred_x_0, x, t, process)
            if i > 0:
                sigma = torch.exp(0.5 * log_sigma2).to(x.dtype)
                x = x + sigma.reshape(len(x), *sigma.shape[1:], *([1] * (x.dim() - sigma.dim()))) * noise(i)
        return x
