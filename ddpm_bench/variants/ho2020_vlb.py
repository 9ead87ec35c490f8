"""Ho et al. 2020, trained with the bound itself."""

from __future__ import annotations

from typing import Any

from ddpm_bench.registry import register


@register
def ho2020_vlb() -> dict[str, Any]:
    """DDPM trained with the true bound L instead of L_simple: better bits/dim, worse samples.

    It differs from ho2020 in the loss alone. The bound uses the σ² of the reverse process, fixed and isotropic; the
    paper does not say which, β is the default of its code. Left to the suite: T (1000 in the paper), the network, the
    optimiser.

    Source: Ho et al. 2020, eq. 5 and 12, Tables 1 and 2 (ε prediction, "L, fixed isotropic Σ": FID 13.51,
    3.70 bits/dim); hojonathanho/diffusion, scripts/run_cifar.py (model_var_type).
    """
    return {
        "prediction": "epsilon",
        "variance": "beta",
        "schedule": "linear",
        "loss": "vlb",
        "sampler": "ancestral",
    }
