"""Nichol & Dhariwal 2021 with the bound itself."""

from __future__ import annotations

from typing import Any

from ddpm_bench.registry import register


@register
def improved_ddpm_vlb() -> dict[str, Any]:
    """Improved DDPM for likelihood: trained with the bound, t drawn in proportion to the size of its terms.

    It differs from improved_ddpm in the loss: the bound trains mean and σ² together, and t is drawn with
    p_t ∝ √E[L_t²] ("loss_second_moment"), which takes noise out of the gradient. Left to the suite: T (4000 in the
    paper), the network, the optimiser.

    Source: Nichol & Dhariwal 2021, § 3.3, eq. 18, Table 2 (CIFAR-10); openai/improved-diffusion, README.md ("L_vlb
    objective and cosine noise schedule").
    """
    return {
        "prediction": "epsilon",
        "variance": "learned_range",
        "schedule": "cosine",
        "loss": {"name": "vlb", "time_sampling": "loss_second_moment"},
        "sampler": "ancestral",
    }
