"""Ho et al. 2020, the baseline that predicts the mean."""

from __future__ import annotations

from typing import Any

from ddpm_bench.registry import register


@register
def ho2020_mu() -> dict[str, Any]:
    """The baseline of DDPM that predicts μ̃, the mean of the posterior, and is trained with the true bound L.

    The output is the mean as it stands, as in the paper's code: thresholding is "none", since clipping would turn it
    into x̂_0, clip that and form another mean. Under L_simple the table leaves μ̃ blank: unstable to train, poor
    samples. Left to the suite: T (1000 in the paper), the network, the optimiser.

    Source: Ho et al. 2020, eq. 8, § 4.2, Table 2 (μ̃ prediction, "L, fixed isotropic Σ": FID 13.22);
    hojonathanho/diffusion, diffusion_tf/diffusion_utils_2.py (model_mean_type "xprev").
    """
    return {
        "prediction": "mu",
        "variance": "beta",
        "schedule": "linear",
        "loss": "vlb",
        "sampler": "ancestral",
        "thresholding": "none",
    }
