"""A few steps, chosen by how noisy they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddpm_bench.diffusion.estimators import Draws, Estimator, mean_and_contrast
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.wiener import ErrorMoments, error_moments
from ddpm_bench.errors import require
from ddpm_bench.randomness import Stream
from ddpm_bench.registry import register

UNIFORM_SHARE = 0.1
"""Part of p_t that is uniform: where the network is worse than predicted, 1/p_t stays bounded."""
MISSED_MEAN = 0.1
"""Part of a term's mean that the fitted curve may miss, counted as noise: without it p_t follows the residual of the
control variate alone, which for equal eigenvalues almost vanishes at steps whose mean is large."""
MAX_KNOTS = 5
DRAWS_PER_KNOT = 50
"""Two coefficients from 50 draws add about 4 % of the variance that is left."""


@register
@dataclass(frozen=True, kw_only=True)
class Importance(Estimator):
    """t drawn in proportion to the noise of its term, as a Wiener denoiser of the training images predicts it.

    Σ_{t≥2} L_{t−1} = E L_{t−1}/p_t with t ~ p. p_t depends on the schedule and the training images alone: one p_t, and
    with a common seed the same draws, for all networks and all σ².

    Source: Owen 2013, Monte Carlo theory, methods and examples, § 9.1 (importance sampling), § 8.9 (control variates);
    Särndal, Swensson & Wretman 1992, Model Assisted Survey Sampling, § 6.3 (a sampled sum with a predicted part).
    """

    needs_spectrum: ClassVar[bool] = True

    calls_per_image: int = 50
    """Network calls per image, those at the first step included; even, at least 6."""

    def __post_init__(self) -> None:
        text = f"must be an even number of at least 6, got {self.calls_per_image}"
        require(self.calls_per_image >= 6 and self.calls_per_image % 2 == 0, "calls_per_image", text)

    def calls(self, num_steps: int) -> int:
        """calls_per_image, whatever the chain."""
        return self.calls_per_image

    def draw(self, process: Process, index: Tensor, stream: Stream, spectrum: Tensor | None) -> Draws:
        """The first step as often as its share of the noise says, and two systematic samples of p_t.

        A replicate (the first and the second half of the columns) has the t at u_k = (k + offset)/m of the
        distribution function of p, k = 0…m−1, with an offset of its own, uniform in (0, 1).

        Source: Särndal, Swensson & Wretman 1992, § 3.6.2 (systematic sampling in proportion to size).
        """
        assert spectrum is not None, "needs_spectrum"
        if len(process) == 1:
            return Draws(torch.empty(len(index), 0, dtype=torch.int64), self.calls_per_image)
        error, weight = error_moments(process, spectrum), _weight(process)
        first, noise = _predicted_noise(weight, error)
        num_first = self._num_first(first, float(noise.sum()))
        num_draws = (self.calls_per_image - num_first) // 2
        p = _probability(noise)
        u = (torch.arange(num_draws) + stream.uniform(0, index, 2)[..., None]) / num_draws
        t = torch.searchsorted(p.cumsum(0), u.flatten(1), right=True).clamp(max=len(process) - 1)
        return Draws(t, num_first, p, weight * error.covariance / (2 * len(spectrum)))

    def _num_first(self, first: float, rest: float) -> int:
        """Draws at the first step: its share of the noise, even, at least 2, at most half of the calls."""
        share = first / (first + rest) if first + rest > 0 else 0.0
        return min(max(2, 2 * round(self.calls_per_image * share / 2)), self.calls_per_image // 4 * 2)

    def total(self, values: Tensor, draws: Draws, eps_norm: Tensor | None, num_dims: int) -> tuple[Tensor, Tensor]:
        """Σ_t p_t g(t) + mean of y − g(t) − h(t) z over the draws, y = value/p_t, z = control_t (|ε|² − D)/p_t.

        g (the mean of y at t) and h (the slope of y on z) are piecewise linear in the distribution function of p. They
        are fitted by least squares on the other replicate, over all images: whatever they are, the expectation is the
        sum, since z has expectation 0. Returned with half the difference of the replicates, float64 [n] each.
        """
        if draws.t.shape[1] == 0:
            return torch.zeros(len(values), dtype=torch.float64), torch.zeros(len(values), dtype=torch.float64)
        p, control = draws.probability, draws.control
        assert p is not None
        assert control is not None
        assert eps_norm is not None
        y = values.double() / p[draws.t]
        z = (control / p)[draws.t] * (eps_norm.double() - num_dims)
        basis = _hat_functions(p, num_knots=min(MAX_KNOTS, y.numel() // 2 // DRAWS_PER_KNOT))
        replicates = list(zip(*(part.chunk(2, dim=1) for part in (y, z, draws.t)), strict=True))
        corrected = []
        for (y, z, t), (other_y, other_z, other_t) in zip(replicates, reversed(replicates), strict=True):
            g, h = _fit(other_y, other_z, basis[other_t], basis)
            corrected.append((p * g).sum() + y - g[t] - h[t] * z)
        return mean_and_contrast(torch.cat(corrected, dim=1))


def _weight(process: Process) -> Tensor:
    """c_t²/(2β̃_t), the factor of |x_0 − x̂_0|² in L_{t−1} with σ² = β̃; at the first step 1/(2β̃_2). float64 [S ≥ 2].

    Source: Ho et al. 2020, eq. 8 with eq. 7.
    """
    variance = torch.cat([process.beta_tilde[1:2], process.beta_tilde[1:]])
    return process.posterior_x_0**2 / (2 * variance)


def _predicted_noise(weight: Tensor, error: ErrorMoments) -> tuple[float, Tensor]:
    """Standard deviation over ε, in nats, of the first step's term and of the later ones, float64 [S], 0 at the first.

    The first with σ² = β̃ and no control variate; of the others √(Var after |ε|² − D + (MISSED_MEAN · mean)²).
    """
    noise = weight * (error.residual + (MISSED_MEAN * error.mean).square()).sqrt()
    noise[0] = 0.0
    return float(weight[0] * error.variance[0].sqrt()), noise


def _probability(noise: Tensor) -> Tensor:
    """p_t = (1 − UNIFORM_SHARE) noise_t / Σ noise + UNIFORM_SHARE / (S − 1), float64 [S], 0 at the first step.

    noise: float64 [S ≥ 2], 0 at the first step; data without any variance have none, and a uniform p_t.
    Source: Owen 2013, § 9.11 (the uniform part: a defensive mixture).
    """
    uniform = torch.full_like(noise, 1 / (len(noise) - 1))
    uniform[0] = 0.0
    return uniform if noise.sum() == 0 else (1 - UNIFORM_SHARE) * noise / noise.sum() + UNIFORM_SHARE * uniform


def _hat_functions(p: Tensor, num_knots: int) -> Tensor:
    """Piecewise linear functions of u_t = Σ_{s<t} p_s + p_t/2, one for each of equidistant knots, [S, num_knots]."""
    if num_knots < 2:
        return torch.ones(len(p), num_knots, dtype=torch.float64)
    u = (p.cumsum(0) - p / 2) * (num_knots - 1)
    return (1 - (u[:, None] - torch.arange(num_knots)).abs()).clamp(min=0.0)


def _fit(y: Tensor, z: Tensor, at_t: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """(g, h), float64 [S] each, of the least squares y ≈ g(t) + h(t) z over all draws, g and h in the basis.

    y, z: [n, m]; basis: [S, K]; at_t: its values at the draws, [n, m, K].
    """
    num_knots = basis.shape[1]
    design = torch.cat([at_t, at_t * z[..., None]], dim=-1).flatten(0, 1)
    length = design.norm(dim=0)
    length[length == 0] = 1.0
    design = design / length
    # Knots without a draw, or a control of 0, leave coefficients undetermined: the pseudo-inverse sets those to 0.
    inverse = torch.linalg.pinv(design.T @ design, rtol=1e-10, hermitian=True)
    found = inverse @ (design.T @ y.flatten()) / length
    return basis @ found[:num_knots], basis @ found[num_knots:]
