"""Estimators of Σ_{t≥2} L_{t−1}: right on average, reproducible, and with an honest noise contrast."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_bench.diffusion.estimators import Draws, Estimator, mean_and_contrast
from ddpm_bench.diffusion.estimators.full import Full
from ddpm_bench.diffusion.estimators.importance import MISSED_MEAN, UNIFORM_SHARE, Importance
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import kept_timesteps, respace
from ddpm_bench.errors import FieldError
from ddpm_bench.randomness import Stream
from tests import oracles

SPECTRUM = 4 * 0.8 ** torch.arange(64, dtype=torch.float64)
CHAINS = ["1000", "100", "10", "3", "2", "10 of 1000"]
ALL = [Full(), Importance(), Importance(calls_per_image=6)]


def chain(name: str) -> Process:
    """The cosine schedule with so many steps, or a part of a longer one."""
    kept, _, total = name.rpartition(" of ")
    process = Process.from_betas(torch.tensor(oracles.cosine_betas(int(total)), dtype=torch.float64))
    return respace(process, kept_timesteps("linspace", int(total), int(kept))) if kept else process


def draw(estimator: Estimator, process: Process, num_images: int, seed: int = 0) -> Draws:
    return estimator.draw(process, torch.arange(num_images), Stream(seed, "t"), SPECTRUM)


def scored(draws: Draws, expected: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(values with these expectations [n, S] at the draws, |ε|² in 64 dimensions).

    The noise of a value is skewed, and partly a function of |ε|²: with z = (|ε|² − 64)/√128, E z = 0 and E z² = 1.
    """
    norm = torch.randn(*draws.t.shape, 64, dtype=torch.float64, generator=generator).square().sum(-1)
    other = torch.randn(draws.t.shape, dtype=torch.float64, generator=generator)
    z = (norm - 64) / 128**0.5
    mean = expected.expand(len(draws.t), -1).gather(1, draws.t)
    return mean * (1 + 0.2 * (z + 0.5 * (z**2 - 1) + 0.5 * other)), norm


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_the_calls_are_those_announced_and_the_first_step_is_apart(estimator, name):
    process = chain(name)
    draws = draw(estimator, process, 5)
    assert draws.num_first >= 2
    assert draws.num_first % 2 == 0
    assert draws.t.dtype == torch.int64
    assert draws.t.shape == (5, estimator.calls(len(process)) - draws.num_first)
    assert 1 <= int(draws.t.min()) <= int(draws.t.max()) < len(process)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_a_chain_of_one_step_has_nothing_to_sum(estimator):
    draws = draw(estimator, chain("1"), 4)
    assert draws.t.shape == (4, 0)
    assert draws.num_first == estimator.calls(1)
    total, contrast = estimator.total(torch.empty(4, 0), draws, torch.empty(4, 0), 64)
    assert total.tolist() == contrast.tolist() == [0.0] * 4
    assert total.dtype == contrast.dtype == torch.float64


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_the_total_is_unbiased(estimator, name):
    """Terms as unlike the predicted ones as can be: random in t, of two kinds of images."""
    process, generator = chain(name), torch.Generator().manual_seed(0)
    num_pairs = 100 if estimator.calls(len(process)) > 100 else 1000
    expected = torch.rand(2, len(process), dtype=torch.float64, generator=generator).repeat(num_pairs, 1)
    draws = draw(estimator, process, len(expected))
    values, norm = scored(draws, expected, generator)
    total, contrast = estimator.total(values, draws, norm, 64)
    assert total.dtype == contrast.dtype == torch.float64
    error = total - expected[:, 1:].sum(1)
    # 18 means of independent images stay within 3.5 standard errors, and so do those of the contrasts.
    assert abs(float(error.mean())) < 3.5 * float(error.std()) / len(error) ** 0.5
    if not contrast.isnan().any():
        assert abs(float(contrast.mean())) < 3.5 * float(contrast.std()) / len(error) ** 0.5


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_totals_are_linear_in_the_terms(estimator):
    """So a paired difference of two variants has the difference of their contrasts."""
    process, generator = chain("100"), torch.Generator().manual_seed(0)
    draws = draw(estimator, process, 40)
    expected = torch.linspace(2, 1, 100, dtype=torch.float64)
    (one, norm), (other, _) = (scored(draws, expected, generator) for _ in range(2))
    difference = estimator.total(one - 3 * other, draws, norm, 64)
    parts = [estimator.total(values, draws, norm, 64) for values in (one, other)]
    for found, first, second in zip(difference, *parts, strict=True):
        # Sums of up to 99 terms of size 1/p_t ≤ 1000.
        torch.testing.assert_close(found, first - 3 * second, rtol=0, atol=1e-9)


def test_mean_and_contrast_by_hand():
    values = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 4.0, 4.0]])
    mean, contrast = mean_and_contrast(values)
    assert mean.tolist() == [3.0, 2.0]
    assert contrast.tolist() == [-1.5, -2.0]
    assert mean.dtype == contrast.dtype == torch.float64


# full


def test_full_is_the_plain_sum():
    process = chain("10")
    draws = Full().draw(process, torch.tensor([7, 3]), Stream(0, "t"), None)
    assert draws.t.tolist() == [list(range(1, 10))] * 2
    assert draws.num_first == 2
    assert draws.probability is None
    assert draws.control is None
    values = torch.arange(18.0).reshape(2, 9)
    assert Full().total(values, draws, None, 64)[0].tolist() == [36.0, 117.0]


def contrasts(values: Tensor) -> Tensor:
    draws = Draws(torch.arange(1, values.shape[1] + 1).expand(len(values), -1), 2)
    return Full().total(values, draws, None, 64)[1]


@pytest.mark.parametrize(("num_images", "num_terms"), [(1, 1), (1, 9), (50, 1)])
def test_full_knows_when_it_cannot_tell_the_noise(num_images, num_terms):
    assert contrasts(torch.rand(num_images, num_terms)).isnan().all()


@pytest.mark.parametrize("num_images", [2, 50])
@pytest.mark.parametrize("num_terms", [2, 3, 4, 99, 999])
def test_full_finds_the_standard_error_of_equal_noise(num_images, num_terms):
    """Independent noise of variance 1 around zero: E Σ contrast² = n · M, whatever their numbers."""
    generator = torch.Generator().manual_seed(0)
    repeats = 40000 // (num_images * 5)
    squares = [
        float(contrasts(torch.randn(num_images, num_terms, generator=generator)).square().sum())
        for _ in range(repeats)
    ]  # fmt: skip
    expected = num_images * num_terms
    # Each is expected · χ²/(n − 1): a relative standard deviation of √(2/(n−1)/repeats), at most 0.022 and 4 of it.
    assert np.mean(squares) == pytest.approx(expected, rel=4 * math.sqrt(2 / (num_images - 1) / repeats))


@pytest.mark.parametrize("num_terms", [99, 100, 999])
def test_full_finds_the_standard_error_beside_a_trend(num_terms):
    """Means and noise that fall with t like those of a bound, of another size for every image."""
    generator = torch.Generator().manual_seed(0)
    num_images, repeats = 50, 200
    t = torch.arange(2, num_terms + 2, dtype=torch.float64)
    size = 0.5 + torch.rand(num_images, 1, dtype=torch.float64, generator=generator)
    trend, noise = size / (t + 3), 0.15 * size / (t + 1)
    draws = torch.randn(repeats, num_images, num_terms, dtype=torch.float64, generator=generator)
    plain = torch.stack([contrasts(noise * one) for one in draws]).square().sum(1)
    with_trend = torch.stack([contrasts(trend + noise * one) for one in draws]).square().sum(1)
    mirrored = torch.stack([contrasts(trend - noise * one) for one in draws]).square().sum(1)
    exact = float(noise.square().sum())
    # Images of sizes 0.5 to 1.5: the mean of the repeats has the relative standard error √(2/50/200) · 1.4 = 0.02.
    assert float(plain.mean()) == pytest.approx(exact, rel=0.06)
    # The cross term of trend and noise is gone from the mean of a draw and its mirror image: the trend only adds,
    # (Σ contrast of the trend)², here less than 2 % of the variance.
    both = (with_trend + mirrored) / 2
    assert torch.all(both >= plain)
    assert float((both - plain).mean()) < 0.02 * exact
    # A mean over images of the trend is taken away before: the plain neighbours of one image would add ten times more.
    raw = (trend[:, 0::2][:, : num_terms // 2] - trend[:, 1::2]).sum(1).square().sum()
    assert float(raw) > 10 * float((both - plain).mean())


# importance


@pytest.mark.parametrize("calls", [4, 0, -2, 51, 7])
def test_importance_wants_an_even_number_of_calls(calls):
    with pytest.raises(FieldError, match=f"even number of at least 6, got {calls}") as caught:
        Importance(calls_per_image=calls)
    assert caught.value.field == "calls_per_image"


@pytest.mark.parametrize("name", CHAINS)
def test_the_probability_is_one_with_a_floor(name):
    p = draw(Importance(), chain(name), 1).probability
    assert p is not None
    assert p.dtype == torch.float64
    assert float(p[0]) == 0.0
    assert float(p.sum()) == pytest.approx(1, abs=1e-13)
    assert float(p[1:].min()) >= UNIFORM_SHARE / (len(p) - 1)


def noise_of_equal_dimensions(num_timesteps: int, eigenvalue: float) -> tuple[float, np.ndarray]:
    """(standard deviation of the first term, of the later ones) as p_t counts it, 64 dimensions of one eigenvalue.

    x_0 − x̂_0 = a d − b ε in each of them: the variance 4a²b²λ + 2b⁴ at the first step, later 4a²b²λ (|ε|² explains
    2b⁴) and a part of the mean λ a.
    """
    found = oracles.chain(oracles.cosine_betas(num_timesteps))
    alpha_bar, noise = np.array(found.alpha_bar), np.array(found.one_minus_alpha_bar)
    a, b = noise, eigenvalue * np.sqrt(alpha_bar * noise)
    a, b = a / (alpha_bar * eigenvalue + noise), b / (alpha_bar * eigenvalue + noise)
    cross, mean = 64 * 4 * a**2 * b**2 * eigenvalue, 64 * eigenvalue * a
    c, variance = np.array(found.posterior_x_0), np.array(found.posterior_variance)
    later = c[1:] ** 2 / (2 * variance[1:]) * np.sqrt(cross[1:] + (MISSED_MEAN * mean[1:]) ** 2)
    return 1 / (2 * variance[1]) * math.sqrt(cross[0] + 2 * 64 * b[0] ** 4), later


@pytest.mark.parametrize("eigenvalue", [1e-3, 1.0, 4.0])
def test_the_probability_follows_the_predicted_noise(eigenvalue):
    spectrum = torch.full((64,), eigenvalue, dtype=torch.float64)
    p = Importance().draw(chain("1000"), torch.arange(1), Stream(0, "t"), spectrum).probability
    assert p is not None
    _, noise = noise_of_equal_dimensions(1000, eigenvalue)
    # |ε|² takes away all but 1e-4 of the variance at small t: rounding is worth 1e-16 · 1e4 of it.
    np.testing.assert_allclose(p[1:], 0.9 * noise / noise.sum() + 0.1 / 999, rtol=1e-9)


def test_data_that_never_vary_are_drawn_uniformly():
    process, spectrum = chain("100"), torch.zeros(64, dtype=torch.float64)
    draws = Importance().draw(process, torch.arange(9), Stream(0, "t"), spectrum)
    assert draws.num_first == 2
    assert draws.probability is not None
    torch.testing.assert_close(
        draws.probability[1:], torch.full((99,), 1 / 99, dtype=torch.float64), rtol=1e-12, atol=0
    )
    total, contrast = Importance().total(torch.ones(9, 48), draws, torch.rand(9, 48), 64)
    torch.testing.assert_close(total, torch.full((9,), 99.0).double(), rtol=1e-12, atol=0)
    assert float(contrast.abs().max()) < 1e-11


@pytest.mark.parametrize("calls", [6, 8, 10, 50, 200])
def test_the_first_step_has_its_share_of_the_calls(calls):
    for eigenvalue in (1e-6, 1e-3, 1.0):
        spectrum = torch.full((64,), eigenvalue, dtype=torch.float64)
        draws = Importance(calls_per_image=calls).draw(chain("1000"), torch.arange(1), Stream(0, "t"), spectrum)
        first, noise = noise_of_equal_dimensions(1000, eigenvalue)
        wanted = calls * first / (first + noise.sum())
        assert draws.num_first % 2 == 0
        assert 2 <= draws.num_first <= calls / 2
        assert abs(draws.num_first - min(max(wanted, 2), calls / 2)) <= 1 + 1e-9


def test_a_replicate_is_a_systematic_sample():
    """The draws up to any t are m F(t) of its m within one, and each replicate has an offset of its own."""
    draws = draw(Importance(), chain("1000"), 500)
    assert draws.probability is not None
    distribution = draws.probability.cumsum(0)
    for half in draws.t.chunk(2, dim=1):
        counts = (half[:, :, None] <= torch.arange(1000)).sum(1)
        assert float((counts - half.shape[1] * distribution).abs().max()) < 1 + 1e-9
    first, second = (half.double().mean(1) for half in draws.t.chunk(2, dim=1))
    correlation = float(torch.corrcoef(torch.stack([first, second]))[0, 1])
    assert abs(correlation) < 4 / 500**0.5  # its standard error, four times


def test_draws_belong_to_the_image_and_the_stream():
    process, estimator = chain("1000"), Importance()
    index = torch.tensor([5, 900, 17, 2])
    together = estimator.draw(process, index, Stream(0, "t"), SPECTRUM)
    again = estimator.draw(process, index, Stream(0, "t"), SPECTRUM)
    apart = [estimator.draw(process, index[i : i + 1], Stream(0, "t"), SPECTRUM) for i in range(4)]
    assert torch.equal(together.t, again.t)
    assert torch.equal(together.t, torch.cat([one.t for one in apart]))
    for one in apart:
        assert one.num_first == together.num_first
        assert torch.equal(one.probability, together.probability)
        assert torch.equal(one.control, together.control)
    for stream in (Stream(1, "t"), Stream(0, "other")):
        other = estimator.draw(process, index, stream, SPECTRUM)
        assert not torch.equal(other.t, together.t)
        assert torch.equal(other.probability, together.probability)


def test_terms_in_proportion_to_the_probability_have_no_error():
    draws = draw(Importance(), chain("1000"), 20)
    assert draws.probability is not None
    total, contrast = Importance().total(7 * draws.probability[draws.t], draws, torch.rand(draws.t.shape) * 128, 64)
    torch.testing.assert_close(total, torch.full((20,), 7.0).double(), rtol=1e-12, atol=0)
    assert float(contrast.abs().max()) < 1e-11


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_value_shows_in_the_total(bad):
    draws = draw(Importance(), chain("100"), 30)
    values, norm = scored(draws, torch.ones(100, dtype=torch.float64), torch.Generator().manual_seed(0))
    values[4, 0] = bad
    assert not torch.isfinite(Importance().total(values, draws, norm, 64)[0][4])


def test_what_is_predicted_of_the_noise_is_taken_away():
    """A smooth mean, and noise that is control_t (|ε|² − D) times a slope that changes slowly: what is left is the
    error of fitting smooth curves by piecewise linear ones."""
    draws = draw(Importance(), chain("1000"), 200)
    p, control = draws.probability, draws.control
    assert p is not None
    assert control is not None
    generator = torch.Generator().manual_seed(0)
    _, norm = scored(draws, torch.ones(1000, dtype=torch.float64), generator)
    u = p.cumsum(0) - p / 2
    mean, slope = 50 * (1 + 0.5 * u**2), 1 - 0.3 * u**2
    values = (p * mean)[draws.t] + (slope * control)[draws.t] * (norm - 64)
    exact = float((p * mean).sum())
    left = Importance().total(values, draws, norm, 64)[0] - exact
    without = (values / p[draws.t]).mean(1) - exact
    # u² differs from its interpolation at knots 1/4 apart by at most 1/128: 0.2 of the mean, 0.0024 of the slope, less
    # on average over u. Both are far below what they replace.
    assert float(left.std()) < 0.05 * float(without.std())
    assert float(left.abs().max()) < 0.2


@pytest.mark.parametrize("num_images", [1, 3, 7])
def test_few_images_are_unbiased_and_would_not_be_with_slopes_of_their_own_draws(num_images):
    """The coefficients of a replicate come from the other one; here the noise is skewed and the draws are few.

    Two equal replicates show what the same draws would do: then "the other one" is the replicate itself.
    """
    process, estimator, generator = chain("100"), Importance(), torch.Generator().manual_seed(0)
    expected = draw(estimator, process, 1).probability  # then value/p_t has one mean, and its noise is all there is
    assert expected is not None
    errors: dict[str, list[float]] = {"crossed": [], "own": []}
    for repeat in range(600):
        draws = draw(estimator, process, num_images, seed=repeat)
        values, norm = scored(draws, expected, generator)
        first, first_norm, first_t = (part.chunk(2, dim=1)[0].repeat(1, 2) for part in (values, norm, draws.t))
        twice = Draws(first_t, draws.num_first, draws.probability, draws.control)
        for name, arguments in {"crossed": (values, draws, norm), "own": (first, twice, first_norm)}.items():
            total, _ = estimator.total(*arguments, 64)
            errors[name].append(float(total.mean()) - 1.0)
    crossed, own = (np.array(errors[name]) for name in ("crossed", "own"))
    assert abs(crossed.mean()) < 3.5 * crossed.std() / 600**0.5
    if num_images > 1:  # a single image has too few draws for a slope
        assert abs(own.mean()) > 3.5 * own.std() / 600**0.5


def test_a_replicate_does_not_move_its_own_coefficients():
    """Adding δ to a value moves its replicate's mean by exactly δ/(p_t m), and the other one through its fit."""
    draws = draw(Importance(), chain("100"), 30)
    assert draws.probability is not None
    values, norm = scored(draws, torch.ones(100, dtype=torch.float64), torch.Generator().manual_seed(0))
    changed = values.clone()
    changed[4, 0] += 1.0
    (total, contrast), (total_2, contrast_2) = (
        Importance().total(one, draws, norm, 64) for one in (values, changed)
    )  # fmt: skip
    first, second = (total_2 + contrast_2) - (total + contrast), (total_2 - contrast_2) - (total - contrast)
    moved = torch.zeros(30, dtype=torch.float64)
    moved[4] = 1 / float(draws.probability[draws.t[4, 0]]) / (draws.t.shape[1] / 2)
    torch.testing.assert_close(first, moved, rtol=0, atol=1e-9)  # sums of 1/p_t ≤ 1000, rounded
    assert torch.all(second != 0)
