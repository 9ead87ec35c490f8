"""DPM-Solver++ of second order, multistep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.samplers import Denoise, Noise, Sampler, affine, steps
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class DpmSolver(Sampler):
    """DPM-Solver++(2M): x_s = (√(1−ᾱ_s)/√(1−ᾱ_t)) x_t + √ᾱ_s (1 − e^{−h}) D from a kept step t to the one before it, s.

    h = λ_s − λ_t with λ = ½ ln SNR; D = (1 + 1/(2r)) x̂_0(t) − 1/(2r) x̂_0(the step after t), r = (the last h)/h. The
    first step has D = x̂_0, and so has the last one, which goes to ᾱ = 1 (h infinite) and returns x̂_0. Deterministic.

    Source: Lu et al. 2022, DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Models, algorithm 2.
    """

    symbol: ClassVar[str | None] = "DPM-Solver++(2M)"
    uses_variance: ClassVar[bool] = False

    def sample(self, denoise: Denoise, x_T: Tensor, process: Process, timesteps: Tensor, noise: Noise) -> Tensor:
        """x_0, [B, C, H, W]; one call of denoise for each step of the chain."""
        half_log_snr = (0.5 * process.snr.log()).tolist()
        signal, spread = process.alpha_bar.sqrt().tolist(), process.one_minus_alpha_bar.sqrt().tolist()
        x, previous = x_T, None
        for i, t in steps(process, x_T):
            pred_x_0, _ = denoise(x, t)
            if i == 0:
                return pred_x_0
            h = half_log_snr[i - 1] - half_log_snr[i]
            direction = pred_x_0
            if previous is not None:
                half = 0.5 * h / (half_log_snr[i] - half_log_snr[i + 1])  # 1/(2r)
                direction = affine(pred_x_0, 1.0 + half, previous, -half)
            x = affine(x, spread[i - 1] / spread[i], direction, -signal[i - 1] * math.expm1(-h))
            previous = pred_x_0
        raise AssertionError("a chain has at least one step")
