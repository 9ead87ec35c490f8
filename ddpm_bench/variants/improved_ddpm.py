"""Nichol & Dhariwal 2021 with the hybrid loss."""

from __future__ import annotations

from typing import Any

from ddpm_bench.registry import register


@register
def improved_ddpm() -> dict[str, Any]:
    """Improved DDPM: ε-prediction, σ² learned between β̃ and β, cosine schedule, L_hybrid.

    L_simple trains the mean, 0.001 of the bound trains σ². Left to the suite: T (4000 in the paper), the network, the
    optimiser, and the number of sampling steps, at which the learned σ² shows most (§ 4: 25 to 4000 of them).

    Source: Nichol & Dhariwal 2021, eq. 15 (σ²), 16 (L_hybrid) and 17 (cosine), Table 2 (CIFAR-10);
    openai/improved-diffusion, README.md ("L_hybrid objective and cosine noise schedule").
    """
    return {
        "prediction": "epsilon",
        "variance": "learned_range",
        "schedule": "cosine",
        "loss": "hybrid",
        "sampler": "ancestral",
    }
