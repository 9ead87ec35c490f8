"""The betas of the schedules, and where they do not exist."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from ddpm_bench.diffusion.likelihood import bits_per_dim, prior_kl
from ddpm_bench.diffusion.schedules import betas_from_alpha_bar
from ddpm_bench.errors import FieldError
from ddpm_bench.fields import Invalid, entry
from ddpm_bench.registry import get
from tests import oracles


def scaled_linear_betas(num_timesteps: int, scale: bool = True) -> list[float]:
    """Squares of evenly spaced standard deviations, in 50 digits."""
    with localcontext() as context:
        context.prec = oracles.DIGITS
        first, last = Decimal("1e-4").sqrt(), Decimal("0.02").sqrt()
        n = max(num_timesteps - 1, 1)
        roots = [((n - i) * first + i * last) / n for i in range(num_timesteps)]
        return [float(root * root * (Decimal(1000) / num_timesteps if scale else 1)) for root in roots]


def sigmoid_alpha_bar(num_timesteps: int, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> list[Decimal]:
    """[S(end/τ) − S(x/τ)]/[S(end/τ) − S(start/τ)] at x = start + (end − start) u for u = 0, 1/T, …, 1, in 50 digits."""
    with localcontext() as context:
        context.prec = oracles.DIGITS

        def logistic(x: Decimal) -> Decimal:
            return 1 / (1 + (-x / Decimal(tau)).exp())

        low, high = Decimal(start), Decimal(end)
        span = logistic(high) - logistic(low)
        points = (low + (high - low) * i / num_timesteps for i in range(num_timesteps + 1))
        return [(logistic(high) - logistic(x)) / span for x in points]


def betas_of(alpha_bar: list[Decimal], cap: float = 0.999) -> list[float]:
    """One minus the ratios, capped."""
    with localcontext() as context:
        context.prec = oracles.DIGITS
        return [min(float(1 - now / before), cap) for before, now in pairwise(alpha_bar)]


@pytest.mark.parametrize("num_timesteps", [21, 100, 1000, 4000])
def test_linear_betas(num_timesteps):
    betas = get("schedules", "linear")().betas(num_timesteps)
    assert betas.tolist() == pytest.approx(oracles.linear_betas(num_timesteps), rel=1e-13, abs=0)


@pytest.mark.parametrize("num_timesteps", [1, 2, 20, 500])
def test_linear_betas_without_scaling_keep_their_ends(num_timesteps):
    betas = get("schedules", "linear")(scale=False).betas(num_timesteps)
    assert betas.tolist() == pytest.approx(oracles.linear_betas(num_timesteps, scale=False), rel=1e-13, abs=0)
    assert float(betas[0]) == 1e-4
    assert num_timesteps == 1 or float(betas[-1]) == 0.02


@pytest.mark.parametrize("num_timesteps", [1, 2, 3, 10, 100, 1000, 4000])
def test_cosine_betas(num_timesteps):
    betas = get("schedules", "cosine")().betas(num_timesteps)
    # 1 − ratio loses 1e-16/β: 1e-11 at β_1 of T = 4000; the last cosine, of an angle near π/2, loses 1e-13 there.
    assert betas.tolist() == pytest.approx(oracles.cosine_betas(num_timesteps), rel=1e-10, abs=0)
    capped = (betas == 0.999).nonzero().flatten().tolist()
    assert capped == [num_timesteps - 1]


@pytest.mark.parametrize(("num_timesteps", "scale"), [(21, True), (1000, True), (4000, True), (1, False), (500, False)])
def test_scaled_linear_betas_are_linear_in_the_standard_deviation(num_timesteps, scale):
    betas = get("schedules", "scaled_linear")(scale=scale).betas(num_timesteps)
    # A few roundings: of the roots, their interpolation, the square and the factor.
    assert betas.tolist() == pytest.approx(scaled_linear_betas(num_timesteps, scale), rel=1e-14, abs=0)
    linear = get("schedules", "linear")(scale=scale).betas(num_timesteps)
    assert torch.all(betas[1:-1] < linear[1:-1])


@pytest.mark.parametrize("num_timesteps", [1, 2, 3, 20, 100, 1000, 4000])
@pytest.mark.parametrize("parameters", [{}, {"tau": 0.3}, {"start": 0.0, "end": 3.0, "tau": 0.7}])
def test_sigmoid_betas(num_timesteps, parameters):
    betas = get("schedules", "sigmoid")(**parameters).betas(num_timesteps)
    expected = betas_of(sigmoid_alpha_bar(num_timesteps, **parameters))
    # x_t up to 10 is rounded (1e-15, all of which S(x) keeps at small t), and the step is known to 1e-16 relative.
    assert betas.tolist() == pytest.approx(expected, rel=2e-14, abs=0)
    capped = (betas == 0.999).nonzero().flatten().tolist()
    assert capped == [num_timesteps - 1]


def test_sigmoid_betas_do_not_cancel_at_small_t():
    """One minus the ratio of two ᾱ near 1 loses its digits there; the product does not."""
    num_timesteps = 4000
    alpha_bar = sigmoid_alpha_bar(num_timesteps)
    expected = betas_of(alpha_bar)[0]
    ratio = float(betas_from_alpha_bar(torch.tensor([float(a) for a in alpha_bar], dtype=torch.float64), 0.999)[0])
    assert abs(ratio / expected - 1) > 1e-13
    assert float(get("schedules", "sigmoid")().betas(num_timesteps)[0]) == pytest.approx(expected, rel=5e-15)


def test_sigmoid_follows_its_alpha_bar_and_leaves_little_at_its_end():
    process = get("schedules", "sigmoid")().process(1000)
    closed = [float(a) for a in sigmoid_alpha_bar(1000)[1:]]
    # A sum of 1000 logarithms, each right to 1e-14 of at most 0.7.
    assert process.alpha_bar[:-1].tolist() == pytest.approx(closed[:-1], rel=1e-12, abs=0)
    assert float(process.alpha_bar[-1]) == pytest.approx(0.001 * closed[-2], rel=1e-12)
    middle = float(process.alpha_bar[499])
    assert middle == pytest.approx(0.5, abs=1e-12)  # S is odd about its middle


def test_a_large_temperature_makes_alpha_bar_a_straight_line():
    """S(x/τ) is linear up to (3/τ)²/12 of itself: ᾱ_t = 1 − t/T, β_t = 1/(T − t + 1)."""
    betas = get("schedules", "sigmoid")(tau=1e4).betas(50)
    assert betas[:-1].tolist() == pytest.approx([1 / (50 - i) for i in range(49)], rel=1e-7)


@pytest.mark.parametrize(("beta", "num_timesteps"), [(0.01, 1000), (0.3, 1), (0.3, 2), (0.5, 90)])
def test_constant_betas(beta, num_timesteps):
    process = get("schedules", "constant")(beta=beta).process(num_timesteps)
    assert process.beta.tolist() == [beta] * num_timesteps
    expected = [(1 - beta) ** t for t in range(1, num_timesteps + 1)]
    assert process.alpha_bar.tolist() == pytest.approx(expected, rel=1e-12, abs=0)


def test_constant_has_no_default_and_asks_for_its_beta():
    problems: list[str] = []
    made = entry("schedules", "constant", "matrix.schedule[0]", lambda path, text: problems.append(f"{path}: {text}"))
    assert made is Invalid
    assert problems == ['matrix.schedule[0]: "beta" is missing']


def test_a_constant_beta_that_is_too_large_for_the_chain_is_refused():
    with pytest.raises(ValueError, match=r"alpha_bar_T falls below 1e-30: fewer timesteps or smaller betas are needed"):
        get("schedules", "constant")(beta=0.5).process(100)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
@pytest.mark.parametrize("num_timesteps", [1, 2, 19, 20])
def test_scaled_betas_reach_1_at_20_steps_and_are_refused(name, num_timesteps):
    cell = SimpleNamespace(diffusion=SimpleNamespace(timesteps=num_timesteps))
    schedule = get("schedules", name)()
    with pytest.raises(ValueError, match="needs more than 20 timesteps"):
        schedule.process(num_timesteps)
    assert schedule.refuse(cell) == (
        f"the {'scaled linear' if name == 'linear' else name} schedule needs more than 20 timesteps, got "
        f"{num_timesteps}: its last beta, 0.02 · 1000/T, reaches 1; use more timesteps, "
        f'{{ name = "{name}", scale = false }} or cosine'
    )
    assert len(schedule.process(21)) == 21
    assert len(get("schedules", name)(scale=False).process(num_timesteps)) == num_timesteps


def test_a_sigmoid_that_is_flat_is_refused():
    """S(−1000) is 0 to the last digit: nothing would happen for most of the chain."""
    with pytest.raises(ValueError, match=r"beta must lie between 0 and 1, but beta_1 = 0"):
        get("schedules", "sigmoid")(start=-1000.0).process(100)


@pytest.mark.parametrize(
    ("schedule", "parameters", "field"),
    [
        ("linear", {"first": 0.0}, "first"),
        ("linear", {"last": 1.0}, "last"),
        ("cosine", {"s": 0.0}, "s"),
        ("cosine", {"max_beta": 1.0}, "max_beta"),
        ("scaled_linear", {"first": -0.1}, "first"),
        ("scaled_linear", {"last": 1.5}, "last"),
        ("sigmoid", {"start": 3.0}, "start"),
        ("sigmoid", {"tau": 0.0}, "tau"),
        ("sigmoid", {"max_beta": 0.0}, "max_beta"),
        ("constant", {"beta": 0.0}, "beta"),
        ("constant", {"beta": 1.0}, "beta"),
    ],
)
def test_parameters_out_of_range_are_refused(schedule, parameters, field):
    with pytest.raises(FieldError, match=f"^{field}: must ") as refused:
        get("schedules", schedule)(**parameters)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("schedule", "parameters", "most"),
    [
        ("linear", {}, 5e-5),
        ("cosine", {}, 5e-9),
        ("scaled_linear", {}, 8e-4),  # Σβ = 1000 (a + b + √(ab))/3 = 7.2, e^-7.2
        ("sigmoid", {}, 5e-7),
        ("constant", {"beta": 0.01}, 5e-5),
    ],
)
def test_schedules_forget_the_data(schedule, parameters, most):
    """ᾱ falls from nearly 1 to nearly 0 (Bagge & Rørhauge 2024, § 2.1, print the two ends exchanged)."""
    process = get("schedules", schedule)(**parameters).process(1000)
    assert process.alpha_bar[0] >= 0.99
    assert process.alpha_bar[-1] < most
    assert torch.all(process.alpha_bar.diff() < 0)
    # What is left of x_0 costs less than 1e-3 bits/dim.
    assert float(bits_per_dim(prior_kl(torch.ones(1, 1, 1, 1), process), 1)) < 1e-3


@pytest.mark.parametrize(
    ("schedule", "parameters"),
    [("scaled_linear", {}), ("sigmoid", {}), ("constant", {"beta": 0.02}), ("scaled_linear", {"scale": False})],
)
@pytest.mark.parametrize("num_timesteps", [1, 2, 100, 1000])
def test_every_table_against_the_product_rule(schedule, parameters, num_timesteps):
    made = get("schedules", schedule)(**parameters)
    if made.refuse(SimpleNamespace(diffusion=SimpleNamespace(timesteps=num_timesteps))):
        assert num_timesteps <= 20
        return
    process = made.process(num_timesteps)
    chain = oracles.chain(process.beta.tolist())
    for name, expected in [
        ("alpha_bar", chain.alpha_bar),
        ("one_minus_alpha_bar", chain.one_minus_alpha_bar),
        ("snr", chain.snr),
        ("beta_tilde", chain.posterior_variance),
        ("posterior_x_0", chain.posterior_x_0),
        ("posterior_x_t", chain.posterior_x_t),
    ]:
        # Sums of T logarithms: T · 2⁻⁵³ · |ln ᾱ_T| < 1000 · 1.1e-16 · 25 at the very worst.
        assert getattr(process, name).tolist() == pytest.approx(expected, rel=3e-12, abs=0), name


def test_scaling_keeps_the_end_of_the_chain():
    """With scale = false the noise at the end depends on T; with it ᾱ_T changes by Σβ²/2 and the ends' share only."""
    ends = [float(get("schedules", "scaled_linear")().process(T).alpha_bar[-1].log()) for T in (100, 1000, 4000)]
    unscaled = [
        float(get("schedules", "scaled_linear")(scale=False).process(T).alpha_bar[-1].log()) for T in (100, 4000)
    ]
    assert all(end == pytest.approx(-1000 * (0.0201 + math.sqrt(2e-6)) / 3, rel=0.1) for end in ends)
    assert unscaled[1] / unscaled[0] > 35
