"""Salimans & Ho 2022: predicting v."""

from __future__ import annotations

from typing import Any

from ddpm_bench.registry import register


@register
def salimans_ho_v() -> dict[str, Any]:
    """v-prediction with the plain error of v, which weighs |x_0 − x̂_0|² by SNR + 1; cosine schedule, σ² = β.

    The paper tries v with the weightings SNR, truncated SNR and SNR + 1 and finds little between them; SNR + 1 is the
    one that v has by nature, so the loss is L_simple without a weighting. σ² = β ("fixed_large") is the one of its
    code, used by its stochastic sampler. Left to the suite: T (the paper trains in continuous time and samples up to
    8192 steps), the network, the optimiser. The cosine of the paper, α = cos(πt/2) with a log SNR cut at ±20, has no
    offset; this one keeps the small offset of Nichol & Dhariwal.

    Source: Salimans & Ho 2022, § 4 (v, the weightings), Table 1 (their comparison); google-research/google-research,
    diffusion_distillation/diffusion_distillation/dpm.py ("v_mse") and config/cifar_base.py ("fixed_large").
    """
    return {
        "prediction": "v",
        "variance": "beta",
        "schedule": "cosine",
        "loss": "simple",
        "sampler": "ancestral",
    }
