"""Bagge & Rørhauge 2024: predicting x_0."""

from __future__ import annotations

from typing import Any

from ddpm_bench.registry import register


@register
def bagge_x0() -> dict[str, Any]:
    """The model x0_small of Bagge & Rørhauge: x_0-prediction with the plain error |x_0 − x̂_0|², linear, σ² = β̃.

    Their eps_small is the same with ε; it is ho2020 but for σ². The plain error weighs all t alike where L_simple of ε
    weighs them by SNR, so the two differ in weighting as much as in what is predicted: beside this cell,
    `loss = {name = "simple", weighting = "snr"}` with x0 tells one from the other. Left to the suite: T (1000 in their
    figure 7), the network, the optimiser; thresholding, of which they say nothing.

    Source: Bagge & Rørhauge 2024, Introduction to Diffusion Models, § 2.1 (linear), § 4.2 (σ² = β̃), § 5.1 (sampling),
    § 6 (the loss), Table 1 (x0_small: FID 102.52).
    """
    return {
        "prediction": "x0",
        "variance": "beta_tilde",
        "schedule": "linear",
        "loss": "simple",
        "sampler": "ancestral",
    }
