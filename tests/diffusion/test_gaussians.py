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
    log_prob_discretised_tanh,
    ndtr_tanh,
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


LEVELS = (2, 17, 256, 65536)


def from_level(level: int, levels: int, sign: int, dtype: torch.dtype) -> torch.Tensor:
    """Means 0 … 255 levels away from a level, on one side."""
    distance = torch.arange(256, dtype=torch.float64) * (2 / (levels - 1))
    return (2 * level / (levels - 1) - 1 + sign * distance).to(dtype)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(levels=st.sampled_from(LEVELS), log_sigma2=st.floats(-27, 4), place=st.floats(0, 1))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decoder_and_its_gradient_are_finite_at_every_distance(dtype, levels, log_sigma2, place):
    level = round(place * (levels - 1))
    for sign in (1, -1):
        mean = from_level(level, levels, sign, dtype).requires_grad_()
        log_prob = log_prob_discretised(
            torch.full((256,), level), mean, torch.tensor(log_sigma2, dtype=torch.float64), levels
        )
        (gradient,) = torch.autograd.grad(log_prob.sum(), mean)
        assert log_prob.dtype == dtype
        assert torch.isfinite(log_prob).all()
        assert torch.isfinite(gradient).all()
        assert torch.all(log_prob <= 0)
        # A mean that moves away makes the level less probable; beyond an outer level it does not. The gradient is a
        # difference of two slopes of about 1/σ, known to ulps, over the gap of their tails, about 2h/σ.
        outward = (level == 0 and sign < 0) or (level == levels - 1 and sign > 0)
        assert torch.all(gradient[1:] * sign * (-1 if outward else 1) <= 4 * torch.finfo(dtype).eps * (levels - 1))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(levels=st.sampled_from(LEVELS), log_sigma2=st.floats(-27, 4), place=st.floats(0, 1))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decoder_is_even_at_every_distance(dtype, levels, log_sigma2, place):
    """A level and its mirror image, the means on opposite sides: the same value, the opposite gradient."""
    level = round(place * (levels - 1))
    found = []
    for at, sign in ((level, 1), (levels - 1 - level, -1)):
        mean = from_level(at, levels, sign, dtype).requires_grad_()
        nats = -log_prob_discretised(
            torch.full((256,), at), mean, torch.tensor(log_sigma2, dtype=torch.float64), levels
        )
        (gradient,) = torch.autograd.grad(nats.sum(), mean)
        found.append((nats.detach().double(), gradient.double() * sign))
    # d is known to ulps of the numbers it is formed from, up to 1 + |mean|: L moves by its slope times that, and by the
    # square of that over 2σ²; the two tails are known to ulps of L, and their difference, of the gap |dL/dd| 2h, less.
    eps, half_bin, variance = torch.finfo(dtype).eps, 1 / (levels - 1), math.exp(log_sigma2)
    rounding = 4 * eps * (1 + from_level(level, levels, 1, torch.float64).abs())
    slope = torch.maximum(found[0][1].abs(), found[1][1].abs())
    gap = (2 * half_bin * (slope + half_bin / variance)).clamp(max=1)
    allowed = slope * rounding + rounding**2 / variance + 40 * eps * (1 + found[0][0]) / gap
    assert torch.all((found[0][0] - found[1][0]).abs() <= allowed)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(levels=st.sampled_from(LEVELS), mean=st.floats(-2, 2), log_sigma2=st.floats(-27, 4))
def test_bins_sum_to_one_whatever_the_normal(levels, mean, log_sigma2):
    level = torch.arange(levels)
    log_prob = log_prob_discretised(level, tensor(mean).expand(levels), tensor(log_sigma2), levels)
    # A bin is the difference of two logarithms of tails near ln ½, known to 1e-16, divided by that difference, which is
    # 2h φ/σ/Φ > 3e-6 where σ² = e⁴ and K = 65536: 4e-11 of it.
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-10)


def published(x: float, mean: float, sigma2: float) -> float:
    """The decoder of OpenAI's improved-diffusion for 8-bit images, from its description: x in [−1, 1], natural log."""

    def cdf(z: float) -> float:
        return (math.tanh((2 / math.pi) ** 0.5 * (z + 0.044715 * z * z * z)) + 1) / 2

    sigma = math.exp(math.log(sigma2) / 2)
    above, below = cdf((x - mean + 1 / 255) / sigma), cdf((x - mean - 1 / 255) / sigma)
    if x < -0.999:
        return math.log(max(above, 1e-12))
    if x > 0.999:
        return math.log(max(1 - below, 1e-12))
    return math.log(max(above - below, 1e-12))


def tanh_bits(level: int, mean: float, sigma2: float, levels: int = 256, dtype: torch.dtype = torch.float64) -> float:
    value = log_prob_discretised_tanh(
        torch.tensor([level]), torch.tensor([mean], dtype=dtype), tensor(sigma2).log(), levels
    )
    assert value.dtype == dtype
    return -float(value) / math.log(2)


@pytest.mark.parametrize("sigma2", [5.00768e-6, BETA_TILDE_2, 7.5e-4, 0.02, 1.0])
def test_tanh_decoder_is_the_published_one(sigma2):
    generator = torch.Generator().manual_seed(0)
    level = torch.cat([torch.arange(256), torch.tensor([0, 1, 254, 255]).repeat(20)])
    x = level.double() * 2 / 255 - 1
    mean = x + 2 * math.sqrt(sigma2) * torch.randn(len(x), dtype=torch.float64, generator=generator)
    found = log_prob_discretised_tanh(level, mean, tensor(sigma2).log(), 256)
    pairs = zip(x.tolist(), mean.tolist(), strict=True)
    expected = [published(one, other, sigma2) for one, other in pairs]
    # Of a difference of numbers near 1 a probability keeps a few 1e-16, which are much of one near 1e-12; x, the mean
    # and h are rounded to 2e-16, which divided by σ moves both ends of the bin.
    probability = torch.tensor(expected, dtype=torch.float64).exp()
    allowed = 1e-15 * (1 + sigma2**-0.5) / probability
    assert torch.all((found - torch.tensor(expected, dtype=torch.float64)).abs() <= allowed)


def test_the_approximation_of_the_normal_distribution():
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    error = (ndtr_tanh(z) - torch.from_numpy(stats.norm.cdf(z.numpy()))).abs()
    assert 1.7e-4 < float(error.max()) < 2e-4
    assert float(ndtr_tanh(tensor(0.0))) == 0.5
    # Odd about ½ and growing, as a distribution function has to be.
    torch.testing.assert_close(ndtr_tanh(z) + ndtr_tanh(-z), torch.ones_like(z), rtol=0, atol=1e-15)
    assert torch.all(ndtr_tanh(z).diff() >= 0)


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.3])
def test_tanh_decoder_agrees_with_the_exact_one_near_the_mean(levels, ratio):
    """ratio: half a bin over σ. Φ̂ − ½ = φ(0)[z + (a − 2/(3π)) z³ + …], a = 0.044715, and Φ − ½ = φ(0)[z − z³/6 + …]
    differ by 8.25e-4 z³ and then by less than z⁵/20: so do, divided by z, logarithms of the bin z about the mean."""
    half = 1 / (levels - 1)
    sigma2, level = (half / ratio) ** 2, levels // 2
    mean = 2 * level / (levels - 1) - 1
    gap = (tanh_bits(level, mean, sigma2, levels) - bits(level, mean, sigma2, levels)) * math.log(2)
    expected = -(0.044715 - 2 / (3 * math.pi) + 1 / 6) * ratio**2
    assert expected == pytest.approx(8.25e-4 * ratio**2, rel=1e-3)
    assert gap == pytest.approx(expected, abs=ratio**4 / 20 + 1e-12)
    # Further out the probabilities of bins differ by the two errors of Φ̂, below 2e-4 each.
    for away in range(1, 4):
        one, other = (
            2 ** -decoder(level, mean + away * 2 * half, sigma2, levels) for decoder in (tanh_bits, bits)
        )  # fmt: skip
        assert abs(one - other) < 4e-4


@pytest.mark.parametrize("distance", [8, -8, 36, -36])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tanh_decoder_ends_at_its_floor(distance, dtype):
    """50.11 bits at 8 levels and 1032.05 at 36 cost 39.86 there, without a gradient."""
    mean = torch.tensor([2 * (128 + distance) / 255 - 1], dtype=dtype, requires_grad=True)
    log_sigma2 = tensor(BETA_TILDE_2).log()
    value = -log_prob_discretised_tanh(torch.tensor([128]), mean, log_sigma2, 256) / math.log(2)
    (gradient,) = torch.autograd.grad(value.sum(), mean)
    assert value.item() == pytest.approx(-math.log2(1e-12), rel=1e-6)
    assert round(value.item(), 2) == 39.86
    assert gradient.item() == 0.0
    exact = bits(128, 2 * (128 + distance) / 255 - 1, BETA_TILDE_2)
    assert exact == pytest.approx({8: 50.11, 36: 1032.05}[abs(distance)], abs=0.005)


def test_tanh_decoder_is_uneven_in_float32_where_the_exact_one_is_even():
    """Five levels above and below the mean: probabilities near 1e-7 are what float32 leaves of a difference from 1."""
    above, below = (
        tanh_bits(128, 2 * (128 + away) / 255 - 1, BETA_TILDE_2, dtype=torch.float32) for away in (5, -5)
    )  # fmt: skip
    exact = [
        -float(
            log_prob_discretised(
                torch.tensor([128]), torch.tensor([2 * (128 + away) / 255 - 1]), tensor(BETA_TILDE_2).log(), 256
            )
        )
        for away in (5, -5)
    ]
    assert abs(above - below) > 0.1
    assert exact[0] == pytest.approx(exact[1], rel=1e-4)


def test_tanh_decoder_flattens_before_its_floor():
    """In float64 it runs off the exact one from 4σ on, and costs less than a bin that narrow does."""
    away = 5
    mean = 2 * (128 + away) / 255 - 1
    assert bits(128, mean, BETA_TILDE_2) - tanh_bits(128, mean, BETA_TILDE_2) < -1


@pytest.mark.parametrize("levels", [2, 17, 256, 4096])
@pytest.mark.parametrize("mean", [-1.3, -1.0, 0.1, 0.77, 1.0])
@pytest.mark.parametrize("sigma2", [BETA_TILDE_2, 1e-2, 3.0])
def test_tanh_bins_sum_to_one_and_the_floors(levels, mean, sigma2):
    """The integer level decides which bins are the outer ones: x < −0.999 would take in three of 4096."""
    level = torch.arange(levels)
    log_prob = log_prob_discretised_tanh(level, torch.full((levels,), mean).double(), tensor(sigma2).log(), levels)
    total = float(log_prob.exp().sum())
    # Sums of differences of neighbours: what is lost are roundings of 1e-16; each floor adds 1e-12 at most.
    assert 1 - 1e-15 * levels <= total <= 1 + 2e-12 * levels


def test_tanh_outer_bins_reach_to_infinity_by_their_level():
    assert tanh_bits(0, -3.0, 1e-4) == pytest.approx(0.0, abs=1e-12)
    assert tanh_bits(255, 3.0, 1e-4) == pytest.approx(0.0, abs=1e-12)
    assert tanh_bits(16, 3.0, 1e-4, levels=17) == pytest.approx(0.0, abs=1e-12)
    assert tanh_bits(0, 3.0, 1e-4) == tanh_bits(255, -3.0, 1e-4) == pytest.approx(-math.log2(1e-12))


def test_density_is_that_of_a_normal():
    x, mean, sigma2 = tensor(-1.0, 0.2, 3.0), tensor(0.5, 0.1, -0.2), tensor(0.3, 1e-4, 2.0)
    expected = stats.norm.logpdf(x.numpy(), mean.numpy(), sigma2.sqrt().numpy())
    assert log_density(x, mean, sigma2.log()).tolist() == pytest.approx(expected.tolist(), rel=1e-12)
