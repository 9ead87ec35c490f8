"""Divergences and decoders against quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ddpm_bench.diffusion.gaussians import (
    kl_mean_part,
    kl_normal,
    kl_variance_part,
    log_density,
    log_prob_discretised,
)
from tests import oracles

BETA_TILDE_2 = 5.4531925566e-5
"""σ_1² of the linear schedule with T = 1000."""


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def kl(mean_q: float, var_q: float, mean_p: float, var_p: float) -> float:
    return float(kl_normal(tensor(mean_q), tensor(var_q).log(), tensor(mean_p), tensor(var_p).log()))


def bits(level: int, mean: float, sigma2: float, levels: int = 256) -> float:
    value = log_prob_discretised(torch.tensor([level]), tensor(mean), tensor(sigma2).log(), levels)
    return -float(value) / math.log(2)


@pytest.mark.parametrize(
    "case",
    [
        (0.0, 1.0, 0.0, 1.0),
        (0.3, 0.5, -0.2, 2.0),
        (0.3, 2.0, -0.2, 0.5),
        (0.0, 1e-4, 1e-2, 2e-4),
        (5.0, 1.0, -5.0, 1.0),
        (0.0, 9.0, 0.0, 1.0),
    ],
)
def test_kl_is_the_integral_of_its_definition(case):
    assert kl(*case) == pytest.approx(oracles.kl_by_quadrature(*case), rel=1e-9, abs=1e-12)


def test_kl_goes_from_q_to_p():
    """With q half as wide as p the two directions differ by a factor of 3.7; the integral says which is which."""
    forward, backward = kl(0.1, 0.25, 0.0, 4.0), kl(0.0, 4.0, 0.1, 0.25)
    assert forward == pytest.approx(oracles.kl_by_quadrature(0.1, 0.25, 0.0, 4.0), rel=1e-9)
    assert backward > 5 * forward


def test_kl_of_isotropic_normals_in_three_dimensions():
    """n = 3, standard deviations ½ and 2, equal means: 3 [ln 4 + 1/32 − ½] = 2.7526."""
    value = 3 * float(kl_variance_part(tensor(0.25).log(), tensor(4.0).log()))
    assert value == pytest.approx(3 * (math.log(4) + 1 / 32 - 0.5), rel=1e-14)
    assert round(value, 4) == 2.7526


@settings(deadline=None, derandomize=True)
@given(log_var_q=st.floats(-20, 3), log_var_p=st.floats(-20, 3), mean_q=st.floats(-3, 3), mean_p=st.floats(-3, 3))
def test_kl_is_never_negative_and_is_the_sum_of_its_parts(log_var_q, log_var_p, mean_q, mean_p):
    q, p = tensor(log_var_q), tensor(log_var_p)
    variance, mean = float(kl_variance_part(q, p)), float(kl_mean_part(tensor((mean_q - mean_p) ** 2), p))
    assert variance >= 0
    assert mean >= 0
    assert float(kl_normal(tensor(mean_q), q, tensor(mean_p), p)) == pytest.approx(variance + mean, rel=1e-12)


def test_kl_vanishes_only_at_equality():
    assert kl(0.3, 0.7, 0.3, 0.7) == 0.0
    # Leading terms of the expansion: δ²/4 for ln(var_q/var_p) = δ, δ²/(2 var) for means δ apart; the next is δ³/12.
    assert kl(0.0, math.exp(1e-5), 0.0, 1.0) == pytest.approx(0.25e-10, rel=1e-4)
    assert kl(1e-5, 2.0, 0.0, 2.0) == pytest.approx(0.25e-10, rel=1e-9)
    gaps = tensor(*(10.0**-k for k in range(1, 17)))
    assert torch.all(kl_variance_part(gaps, torch.zeros(())) >= 0)
    assert torch.all(kl_variance_part(-gaps, torch.zeros(())) >= 0)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("sigma2", [1e-6, BETA_TILDE_2, 7.5e-4, 0.02, 1.0])
def test_decoder_is_the_integral_over_the_bin(levels, sigma2):
    generator = torch.Generator().manual_seed(0)
    for level in sorted({0, 1, levels // 2, levels - 2, levels - 1}):
        for mean in (torch.rand(5, generator=generator) * 2.4 - 1.2).tolist():
            expected = oracles.log_bin_probability(level, mean, sigma2, levels)
            # The gap of the two tails cancels |d| h/σ² against (|d|/σ)²/2: 1e-16 · 1e6 absolute at worst.
            assert -bits(level, mean, sigma2, levels) * math.log(2) == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("sigma2", [5.00768e-6, BETA_TILDE_2, 7.5e-4, 0.02])
def test_decoder_is_finite_even_and_growing_at_every_distance(dtype, levels, sigma2):
    """From level v of an unbounded middle bin to means k levels above and below, k = 0 … 255."""
    middle = (levels - 1) // 2
    distance = torch.arange(256, dtype=dtype) * (2 / (levels - 1))
    centre = 2 * middle / (levels - 1) - 1
    found = {}
    for sign in (1, -1):
        mean = (centre + sign * distance).detach().requires_grad_()
        level = torch.full((256,), middle)
        nats = -log_prob_discretised(level, mean, torch.tensor(sigma2, dtype=torch.float64).log(), levels)
        nats.sum().backward()
        assert mean.grad is not None
        assert torch.isfinite(nats).all()
        assert torch.isfinite(mean.grad).all()
        found[sign] = nats.detach(), mean.grad * sign
    # The mean is rounded to ulp: L moves by |dL/dmean| · ulp, relative to L about 2 ulp/distance ≤ 2 ulp/(2h), and
    # the gradient, a difference of two tails, by about |d|/(2h) ≤ 255 roundings.
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found[1][0], found[-1][0], rtol=1000 * eps, atol=1000 * eps)
    torch.testing.assert_close(found[1][1], found[-1][1], rtol=1e5 * eps, atol=1e5 * eps / sigma2**0.5)
    assert torch.all(found[1][0].diff() > 0)
    assert torch.all(found[1][1][1:] > 0)


@pytest.mark.parametrize(("distance", "expected"), [(36, 1032.05), (-36, 1032.05), (8, 50.11), (-8, 50.11)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decoder_far_from_the_mean(distance, expected, dtype):
    """The upper tail gives inf at +36 levels when Φ is subtracted, and a floor of 1e-12 gives 39.86 bits at 8."""
    mean = torch.tensor([2 * (128 + distance) / 255 - 1], dtype=dtype, requires_grad=True)
    log_sigma2 = torch.tensor(BETA_TILDE_2, dtype=torch.float64).log()
    value = -log_prob_discretised(torch.tensor([128]), mean, log_sigma2, 256) / math.log(2)
    (gradient,) = torch.autograd.grad(value.sum(), mean)
    # Half of the last digit written; float32 adds 7371 bits per unit of x times the rounding 6e-8 of the mean.
    assert value.item() == pytest.approx(expected, abs=0.005 + (0.001 if dtype == torch.float32 else 0))
    assert math.copysign(1, gradient.item()) == math.copysign(1, distance)
    naive = stats.norm.cdf((-distance + 0.5) * 2 / 255 / BETA_TILDE_2**0.5) - stats.norm.cdf(
        (-distance - 0.5) * 2 / 255 / BETA_TILDE_2**0.5
    )
    assert naive <= 1e-12
    assert round(-math.log2(max(naive, 1e-12)), 2) == 39.86


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("mean", [-1.3, -1.0, -0.1, 0.0, 0.77, 1.0])
@pytest.mark.parametrize("sigma2", [BETA_TILDE_2, 1e-2, 3.0])
def test_bins_sum_to_one(levels, mean, sigma2):
    level = torch.arange(levels)
    log_prob = log_prob_discretised(level, torch.full((levels,), mean).double(), tensor(sigma2).log(), levels)
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_outer_bins_reach_to_infinity_by_their_level():
    """A mean far outside the range costs nothing at the outer level, whichever side; x_0 = ±1 by rounding decides
    nothing, the integer does."""
    assert bits(0, -3.0, 1e-4) == pytest.approx(0.0, abs=1e-12)
    assert bits(255, 3.0, 1e-4) == pytest.approx(0.0, abs=1e-12)
    assert bits(0, 3.0, 1e-4) == pytest.approx(bits(255, -3.0, 1e-4), rel=1e-12)
    assert bits(1, -3.0, 1e-4) > 1e4


@settings(deadline=None, derandomize=True)
@given(level=st.integers(0, 16), mean=st.floats(-2, 2), log_sigma2=st.floats(-14, 4))
def test_decoder_is_symmetric_under_inversion_of_the_image(level, mean, log_sigma2):
    one = log_prob_discretised(torch.tensor([level]), tensor(mean), tensor(log_sigma2), 17)
    other = log_prob_discretised(torch.tensor([16 - level]), tensor(-mean), tensor(log_sigma2), 17)
    assert float(one) <= 0.0
    # 2v/16 is exact: only the sign of d differs, up to the rounding of 1 ± mean, worth |d| ulp/σ² ≤ 4·1e-16·1e6.
    assert float(one) == pytest.approx(float(other), rel=1e-9, abs=1e-9)


def test_decoder_takes_one_variance_per_image_or_per_coordinate():
    level, mean = torch.tensor([[3, 5], [7, 9]]), torch.zeros(2, 2, dtype=torch.float64)
    per_image = log_prob_discretised(level, mean, tensor(0.1, 0.2).log().reshape(2, 1), 17)
    per_pixel = log_prob_discretised(level, mean, tensor(0.1, 0.1, 0.2, 0.2).log().reshape(2, 2), 17)
    assert torch.equal(per_image, per_pixel)


def test_density_is_that_of_a_normal():
    x, mean, sigma2 = tensor(-1.0, 0.2, 3.0), tensor(0.5, 0.1, -0.2), tensor(0.3, 1e-4, 2.0)
    expected = stats.norm.logpdf(x.numpy(), mean.numpy(), sigma2.sqrt().numpy())
    assert log_density(x, mean, sigma2.log()).tolist() == pytest.approx(expected.tolist(), rel=1e-12)
