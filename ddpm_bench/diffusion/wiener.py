"""The Wiener denoiser: the best linear x̂_0 for data of known covariance, and the noise of its squared error.

In the eigenbasis of the covariance, with eigenvalues λ_j, x_0 = mean + d with independent d_j of variance λ_j, and

    x_0 − x̂_0 = a_j d_j − b_j ε_j,   a_j = (1−ᾱ) / V_j,   b_j = λ_j √ᾱ √(1−ᾱ) / V_j,   V_j = ᾱ λ_j + 1 − ᾱ.

The moments of e = |x_0 − x̂_0|² = Σ_j (a_j d_j − b_j ε_j)² follow from the schedule and the eigenvalues alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process

_BLOCK = 256
"""Eigenvalues at a time: whole tables [S, D] would need 100 MB each for 4000 steps of 32×32 colour images."""


@dataclass(frozen=True)
class ErrorMoments:
    """Moments of e at every step of a chain, float64 [S] each.

    mean: E e over images and ε. variance: Var_ε(e) at a fixed image, averaged over images. covariance: Cov_ε(e, |ε|²),
    the same for every image. residual: what is left of the variance after the best multiple of |ε|² − D, whose
    variance is 2D.
    """

    mean: Tensor
    variance: Tensor
    covariance: Tensor
    residual: Tensor


def error_moments(process: Process, eigenvalues: Tensor) -> ErrorMoments:
    """E e = Σ λ_j a_j;  Var = Σ 4 a_j² b_j² λ_j + 2 b_j⁴;  Cov = Σ 2 b_j²;  residual = Var − Cov²/(2D).

    From (a d − b ε)² = a²d² − 2ab dε + b²ε² with E d² = λ, Var(ε) = 1, Var(ε²) = 2 and Cov(ε, ε²) = 0. Only ε needs to
    be normal. process: a chain of S steps; eigenvalues: λ ≥ 0, float64 [D].

    Source: Bishop 2006, Pattern Recognition and Machine Learning, eq. 2.116 and 2.117 (x̂_0 and E e, in the
    eigenbasis); Petersen & Pedersen 2012, The Matrix Cookbook, § 8.2.2 and 8.2.4 (moments of squares of normals);
    Owen 2013, Monte Carlo theory, methods and examples, § 8.9 (the residual of a control variate).
    """
    signal, noise = process.alpha_bar[:, None], process.one_minus_alpha_bar[:, None]
    mean, variance, sum_b2 = (torch.zeros_like(process.beta) for _ in range(3))
    for lam in eigenvalues[eigenvalues > 0].split(_BLOCK):  # a dimension that is constant has no error
        a = noise / (signal * lam + noise)
        b2 = (lam * a).square() * (signal / noise)
        mean += a @ lam
        variance += (2 * b2 * (2 * a.square() * lam + b2)).sum(1)
        sum_b2 += b2.sum(1)
    residual = (variance - 2 * sum_b2.square() / len(eigenvalues)).clamp(min=0.0)
    return ErrorMoments(mean, variance, 2 * sum_b2, residual)
