"""The bound on the negative log-likelihood, term by term, in nats per image.

−ln p(x_0) ≤ L_T + Σ_{t≥2} L_{t−1} + L_0, and each L_{t−1} = variance cost + mean cost. With an isotropic σ² that does
not depend on the image the network enters L_{t−1} through |x_0 − x̂_0|² alone: one scored error serves every such σ².

Source: Ho et al. 2020, eq. 5 and 8.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddpm_bench.diffusion.gaussians import (
    kl_mean_part,
    kl_variance_part,
    log_density,
    log_prob_discretised,
    log_prob_discretised_tanh,
)
from ddpm_bench.diffusion.process import Process


def kl_to_noise(squared_norm: Tensor, num_dims: int, alpha_bar: Tensor) -> Tensor:
    """KL(q(x_t | x_0) ‖ N(0, I)) = ½ [ᾱ_t |x_0|² − D ᾱ_t − D ln(1−ᾱ_t)], nats, float64.

    squared_norm: |x_0|² in the scale of the network, summed over the D = num_dims dimensions; alpha_bar: ᾱ_t; both
    float64 and broadcastable. Affine in |x_0|²: of a mean of it over images this is the mean.
    Source: Ho et al. 2020, eq. 4 with the KL of two normals (at t = T: L_T of eq. 5).
    """
    # log1p of ᾱ_T, which is tiny: rounding 1 − ᾱ_T first leaves six digits of L_T for cosine with T = 4000.
    return 0.5 * (alpha_bar * squared_norm - num_dims * (alpha_bar + torch.log1p(-alpha_bar)))


def prior_kl(x_0: Tensor, process: Process) -> Tensor:
    """L_T = KL(q(x_T | x_0) ‖ N(0, I)) = ½ [ᾱ_T |x_0|² − D ᾱ_T − D ln(1−ᾱ_T)], nats, float64 [B].

    x_0: [B, C, H, W] in the scale of the network. Source: Ho et al. 2020, eq. 5 (L_T) with eq. 4.
    """
    flat = x_0.to(torch.float64).flatten(1)
    return kl_to_noise(flat.square().sum(1), flat.shape[1], process.alpha_bar[-1])


def variance_cost(process: Process, log_sigma2: Tensor) -> Tensor:
    """½ [β̃_t/σ²_t − 1 + ln(σ²_t/β̃_t)], nats per dimension, float64 [S]; 0 at the first step, which is L_0.

    log_sigma2: ln σ²_t, float64 [S]. The part of L_{t−1} that no network can avoid.
    Source: Ho et al. 2020, eq. 5 with eq. 7, for equal means.
    """
    cost = torch.zeros_like(process.beta)
    cost[1:] = kl_variance_part(torch.log(process.beta_tilde[1:]), log_sigma2[1:])
    return cost


def mean_cost(process: Process, log_sigma2: Tensor, squared_error: Tensor) -> Tensor:
    """c_t² |x_0 − x̂_0|² / (2 σ²_t), nats, float64 [..., S]; 0 at the first step, which is L_0.

    log_sigma2: float64 [S]; squared_error: |x_0 − x̂_0|² summed over dimensions, [..., S].
    Source: Ho et al. 2020, eq. 8 with eq. 7.
    """
    distance = process.posterior_x_0**2 * squared_error.to(torch.float64)
    cost = kl_mean_part(distance, log_sigma2)
    cost[..., 0] = 0.0
    return cost


def decoder_nll(target: Tensor, mean: Tensor, log_sigma2: Tensor, levels: int | None, decoder: str = "exact") -> Tensor:
    """L_0 = −ln p_θ(x_0 | x_1), summed over dimensions, nats, [B].

    target: integer levels 0…K−1, or real values where levels is None (then the density decoder); mean: μ_θ(x_1, 1),
    [B, C, H, W]; log_sigma2: ln σ²_1, broadcastable; decoder: "exact", or "tanh" for the approximation of published
    code (data with levels only). Source: Ho et al. 2020, eq. 13.
    """
    if levels is None:
        return -log_density(target.to(mean.dtype), mean, log_sigma2).flatten(1).sum(1)
    log_prob = log_prob_discretised_tanh if decoder == "tanh" else log_prob_discretised
    return -log_prob(target, mean, log_sigma2, levels).flatten(1).sum(1)


def bits_per_dim(nats: Tensor, num_dims: int) -> Tensor:
    """nats / (D ln 2): nats per image → bits per dimension. Source: Ho et al. 2020, § 4.3 (lossless codelengths)."""
    return nats / (num_dims * math.log(2.0))


def rate(terms: Tensor, prior: Tensor) -> Tensor:
    """L_T + Σ_{s>t} L_{s−1} at t = 1…S, float64 [S]: what is paid before t is known; with L_0 it is the whole bound.

    terms: L_{t−1} of each step, [S] (the first one, L_0, is not used); prior: L_T; all in one unit, that of the rate.
    Source: Ho et al. 2020, § 4.3, algorithms 3 and 4.
    """
    after = torch.cat([terms[1:], torch.zeros_like(terms[:1])])
    return prior + after.flip(0).cumsum(0).flip(0)


def distortion(mse: Tensor) -> Tensor:
    """127.5 · √(E|x_0 − x̂_0(x_t, t)|²/D), the error of x̂_0 in levels of 0…255, of the shape of mse.

    mse: mean over images and dimensions of the squared error of the clipped x̂_0, x in [−1, 1]: one root after the mean.
    Source: Ho et al. 2020, § 4.3, figure 5.
    """
    return 127.5 * mse.sqrt()
