"""Ho et al. 2020 as published with its best samples."""

from __future__ import annotations

from typing import Any

from ddpm_bench.registry import register


@register
def ho2020() -> dict[str, Any]:
    """DDPM with its best FID: ε-prediction, L_simple, linear schedule, σ² = β, ancestral sampling.

    The paper calls the results of σ² = β and σ² = β̃ similar (§ 3.2); its code takes β ("fixedlarge") for CIFAR-10.
    Clipping x̂_0 is the code's rule and the suite's default. Left to the suite: T (1000 in the paper), the network, the
    optimiser and its gradient clipping (norm 1 in the code).

    Source: Ho et al. 2020, § 3.2 and 3.4, eq. 14, Algorithms 1 and 2, § 4 (β_1 = 1e-4 to β_T = 0.02), Table 1
    (L_simple: FID 3.17); hojonathanho/diffusion, scripts/run_cifar.py.
    """
    return {
        "prediction": "epsilon",
        "variance": "beta",
        "schedule": "linear",
        "loss": "simple",
        "sampler": "ancestral",
    }
