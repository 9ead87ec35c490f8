"""DDIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.samplers import Denoise, Noise, Sampler, affine, steps
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Ddim(Sampler):
    """x_{t−1} = √ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1} − s_t²) ε̂ + s_t z with s_t² = η² β̃_t, over the kept steps.

    ε̂ = (x_t − √ᾱ_t x̂_0)/√(1−ᾱ_t) is derived again from the thresholded x̂_0. η = 0 is deterministic; η = 1 over all
    steps has the law of ancestral sampling with σ² = β̃. The last step returns x̂_0, without noise.

    Source: Song, Meng & Ermon 2021, Denoising Diffusion Implicit Models, eq. 12 and 16.
    """

    symbol: ClassVar[str | None] = "DDIM"
    uses_variance: ClassVar[bool] = False

    eta: float = 0.0
    """η: the share of the noise of ancestral sampling, from 0 to 1."""

    def __post_init__(self) -> None:
        require(0 <= self.eta <= 1, "eta", f"must lie between 0 and 1, got {self.eta}")

    def sample(self, denoise: Denoise, x_T: Tensor, process: Process, timesteps: Tensor, noise: Noise) -> Tensor:
        """x_0, [B, C, H, W]; one call of denoise for each step of the chain."""
        before = process.one_minus_alpha_bar_prev
        variance = self.eta**2 * process.beta_tilde
        of_eps = ((before - variance).clamp(min=0.0) / process.one_minus_alpha_bar).sqrt()
        # x_{t−1} = (√ᾱ_{t−1} − r √ᾱ_t) x̂_0 + r x_t + s z, r the factor of √(1−ᾱ_t) ε̂.
        of_x_0 = (process.alpha_bar_prev.sqrt() - of_eps * process.alpha_bar.sqrt()).tolist()
        of_x_t, spread = of_eps.tolist(), variance.sqrt().tolist()
        x = x_T
        for i, t in steps(process, x_T):
            pred_x_0, _ = denoise(x, t)
            x = affine(pred_x_0, of_x_0[i], x, of_x_t[i])
            if i > 0 and spread[i] > 0:
                x = x.add_(noise(i), alpha=spread[i])
        return x
