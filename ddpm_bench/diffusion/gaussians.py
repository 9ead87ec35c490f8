"""Divergences between normal distributions, and the decoders of the last step."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def kl_variance_part(log_var_q: Tensor, log_var_p: Tensor) -> Tensor:
    """KL(N(·, var_q) ‖ N(·, var_p)) of equal means, per dimension in nats: ½ [r − 1 − ln r], r = var_q / var_p.

    log_var_q, log_var_p: the log-variances, any broadcastable shapes. Zero where they are equal, never negative.
    Source: Ho et al. 2020, eq. 5 with two normals; Tang 2024, FAQ about DDPM, lemma 2.1 (eq. 46, univariate case).
    """
    log_ratio = log_var_q - log_var_p
    return 0.5 * (torch.expm1(log_ratio) - log_ratio)


def kl_mean_part(squared_distance: Tensor, log_var_p: Tensor) -> Tensor:
    """The part of KL(q ‖ p) that the means cause, in nats: |μ_q − μ_p|² / (2 var_p).

    squared_distance: |μ_q − μ_p|², summed over the dimensions that share log_var_p.
    Source: Ho et al. 2020, eq. 8 (which has this factor; several lecture notes print 1/σ²).
    """
    return 0.5 * squared_distance * torch.exp(-log_var_p)


def kl_normal(mean_q: Tensor, log_var_q: Tensor, mean_p: Tensor, log_var_p: Tensor) -> Tensor:
    """KL(N(mean_q, var_q) ‖ N(mean_p, var_p)) elementwise, in nats. In this order: q first.

    Source: Ho et al. 2020, eq. 5 with two normals; Tang 2024, FAQ about DDPM, lemma 2.1 (eq. 46, univariate case).
    """
    return kl_variance_part(log_var_q, log_var_p) + kl_mean_part((mean_q - mean_p) ** 2, log_var_p)


def log_ndtr(z: Tensor) -> Tensor:
    """ln Φ(z) elementwise, with a gradient that is right in float32 too.

    Below zero ln Φ(z) = −z²/2 + ln(erfcx(−z/√2)/2). torch.special.log_ndtr has this value, but its gradient is the
    exponential of a cancelled difference: in float32 2 % off at z = −890, 177-fold at −2·10⁴, infinite beyond. The
    bound of an untrained network reaches such z, and an infinite gradient poisons through `where` even if unselected.

    Source: NIST Digital Library of Mathematical Functions, eq. 7.20.1 (Φ and erfc).
    """
    tail = z.clamp(max=0.0)
    below = torch.log(0.5 * torch.special.erfcx(tail * -math.sqrt(0.5))) - 0.5 * tail * tail
    return torch.where(z < 0, below, torch.special.log_ndtr(z.clamp(min=0.0)))


def log_prob_discretised(level: Tensor, mean: Tensor, log_sigma2: Tensor, levels: int) -> Tensor:
    """ln p(level | mean, σ²) of the discretised normal decoder, elementwise, in nats.

    Level v stands for x = 2v/(K−1) − 1 and for the bin x ± h, h = 1/(K−1); the outer bins reach to ±∞, decided by the
    integer level. With d = x − mean the bin has the probability Φ((d+h)/σ) − Φ((d−h)/σ), evaluated in the lower tail,
    where log Φ has full relative precision: d is replaced by −|d|, and an outer bin is one tail by itself. Finite,
    with a finite gradient, for any distance (in float32 up to 10¹⁹ σ).

    level: integers 0…K−1 of the shape of mean; log_sigma2 broadcastable. Result in the dtype of mean.
    Source: Ho et al. 2020, eq. 13.
    """
    half_bin = 1.0 / (levels - 1)
    inverse_sigma = torch.exp(-0.5 * log_sigma2).to(mean.dtype)
    distance = level.to(mean.dtype) * (2.0 * half_bin) - 1.0 - mean
    lowest, highest = level == 0, level == levels - 1
    # The lowest bin is Φ((d + h)/σ); the highest is 1 − Φ((d − h)/σ) = Φ((h − d)/σ).
    edge = log_ndtr((torch.where(highest, -distance, distance) + half_bin) * inverse_sigma)
    centred = -distance.abs()
    upper = log_ndtr((centred + half_bin) * inverse_sigma)
    lower = log_ndtr((centred - half_bin) * inverse_sigma)
    # lower < upper always; the bound keeps the logarithm finite where a bin is far narrower than the rounding of
    # its ends (float32 and a huge sigma), which no schedule reaches.
    gap = torch.clamp(lower - upper, max=-torch.finfo(mean.dtype).tiny)
    return torch.where(lowest | highest, edge, upper + torch.log(-torch.expm1(gap)))


TANH_FLOOR = 1e-12
"""The smallest probability of a bin in the decoder of published code: no pixel costs more than 39.86 bits there."""


def ndtr_tanh(z: Tensor) -> Tensor:
    """½ [1 + tanh(√(2/π) (z + 0.044715 z³))] elementwise: Φ(z) with an error below 2e-4.

    Source: Nichol & Dhariwal 2021, their code, losses.approx_standard_normal_cdf; the form of the approximation: Page
    1977, Approximations to the cumulative normal function, Applied Statistics 26(1).
    """
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))


def log_prob_discretised_tanh(level: Tensor, mean: Tensor, log_sigma2: Tensor, levels: int) -> Tensor:
    """ln p(level | mean, σ²) as published code computes it, elementwise, in nats: to compare with its numbers only.

    ln max(Φ̂((d+h)/σ) − Φ̂((d−h)/σ), 1e-12) with the approximation Φ̂ of Φ by tanh; the outer bins ln max(Φ̂((d+h)/σ),
    1e-12) and ln max(1 − Φ̂((d−h)/σ), 1e-12). Far from the mean it is constant, without gradient, and in float32 it is
    a step function before. That code has K = 256 and finds the outer bins by x < −0.999 and x > 0.999; here K is any
    number, h = 1/(K−1), and the integer level decides, which is the same for K = 256.

    level: integers 0…K−1 of the shape of mean; log_sigma2 broadcastable. Result in the dtype of mean.
    Source: Nichol & Dhariwal 2021, their code, losses.discretized_gaussian_log_likelihood.
    """
    half_bin = 1.0 / (levels - 1)
    inverse_sigma = torch.exp(-0.5 * log_sigma2).to(mean.dtype)
    distance = level.to(mean.dtype) * (2.0 * half_bin) - 1.0 - mean
    upper = ndtr_tanh((distance + half_bin) * inverse_sigma)
    lower = ndtr_tanh((distance - half_bin) * inverse_sigma)
    probability = torch.where(level == 0, upper, torch.where(level == levels - 1, 1.0 - lower, upper - lower))
    return torch.log(probability.clamp(min=TANH_FLOOR))


def log_density(x: Tensor, mean: Tensor, log_sigma2: Tensor) -> Tensor:
    """ln N(x; mean, σ²) elementwise, in nats: the decoder for data without levels.

    Source: Bishop 2006, Pattern Recognition and Machine Learning, eq. 1.46.
    """
    return -0.5 * (math.log(2.0 * math.pi) + log_sigma2 + (x - mean) ** 2 * torch.exp(-log_sigma2))
