"""The variances: fixed, learned and fitted, and the first step of each."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, optimize, stats

from ddpm_bench.diffusion.gaussians import log_prob_discretised
from ddpm_bench.diffusion.likelihood import mean_cost, variance_cost
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import kept_timesteps, respace
from ddpm_bench.registry import get
from tests import oracles

FULL = get("schedules", "cosine")().process(1000)
SPACINGS = [None, "linspace", "leading", "trailing", "quadratic"]


def chain_of(spacing: str | None, num_steps: int) -> tuple[Process, oracles.Chain]:
    """A chain of the cosine schedule, and its coefficients computed another way."""
    kept = None if spacing is None else kept_timesteps(spacing, 1000, num_steps).tolist()
    process = FULL if kept is None else respace(FULL, torch.tensor(kept))
    return process, oracles.chain(FULL.beta.tolist(), kept)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [2, 10])
@pytest.mark.parametrize("first_step", ["beta_tilde_2", "beta_1"])
def test_log_variances_of_full_and_respaced_chains(spacing, num_steps, first_step):
    process, chain = chain_of(spacing, num_steps)
    first = chain.posterior_variance[1] if first_step == "beta_tilde_2" else chain.beta[0]
    t = torch.arange(len(process)).flip(0)
    for name, table in [("beta", chain.beta), ("beta_tilde", chain.posterior_variance)]:
        log_sigma2 = get("variances", name)().log_sigma2(process, t, first_step=first_step)
        assert log_sigma2.dtype == torch.float64
        assert log_sigma2.exp().flip(0).tolist() == pytest.approx([first, *table[1:]], rel=1e-11)


@pytest.mark.parametrize("name", ["beta", "beta_tilde"])
@pytest.mark.parametrize("first_step", ["beta_tilde_2", "beta_1"])
def test_a_chain_of_one_step_has_beta_1(name, first_step):
    for process in (respace(FULL, torch.tensor([1000])), get("schedules", "cosine")().process(1)):
        log_sigma2 = get("variances", name)().log_sigma2(process, torch.tensor([0]), first_step=first_step)
        assert float(log_sigma2) == float(process.beta[0].log())


def test_beta_tilde_is_the_smaller_and_the_rule_touches_the_first_step_only():
    t = torch.arange(1000)
    large, small = (get("variances", name)().log_sigma2(FULL, t) for name in ("beta", "beta_tilde"))
    assert float(large[0]) == float(small[0]) == float(FULL.beta_tilde[1].log())
    assert torch.all(small[1:] < large[1:])
    other = get("variances", "beta")().log_sigma2(FULL, t, first_step="beta_1")
    assert torch.equal(other[1:], large[1:])
    assert float(other[0]) > float(large[0])


# The learned variance.


def learned(process: Process, t: torch.Tensor, v: torch.Tensor, first_step: str = "beta_tilde_2") -> torch.Tensor:
    return get("variances", "learned_range")().log_sigma2(process, t, head=v, first_step=first_step)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [2, 10])
@pytest.mark.parametrize("v", [-1.0, -0.3, 0.0, 0.5, 1.0, 2.5, -4.0])
def test_the_head_interpolates_the_logarithms(spacing, num_steps, v):
    """σ² = β^f β̃^(1−f), f = (v + 1)/2; beyond ±1 it leaves the range. At t = 1 β̃_2 stands for β̃_1 = 0."""
    process, chain = chain_of(spacing, num_steps)
    low = [chain.posterior_variance[1], *chain.posterior_variance[1:]]
    share = (v + 1) / 2
    expected = [upper**share * lower ** (1 - share) for upper, lower in zip(chain.beta, low, strict=True)]
    t = torch.arange(len(process)).flip(0)
    head = torch.full((len(t), 1, 2, 3), v, dtype=torch.float64)
    log_sigma2 = learned(process, t, head)
    assert log_sigma2.dtype == torch.float64
    assert log_sigma2.shape == head.shape
    # The tables are right to 1e-11 (see test_process), raised to powers up to 2.5.
    for column in log_sigma2.flip(0).flatten(1).T:
        assert column.exp().tolist() == pytest.approx(expected, rel=5e-11)


def test_the_ends_of_the_range_are_the_fixed_variances():
    t = torch.arange(1000)
    head = torch.ones(1000, 1, 1, 1)
    small, large = (get("variances", name)().log_sigma2(FULL, t) for name in ("beta_tilde", "beta"))
    assert torch.equal(learned(FULL, t, -head).flatten(), small)
    upper = learned(FULL, t, head).flatten()
    torch.testing.assert_close(upper[1:], large[1:], rtol=0, atol=1e-14)
    assert float(upper[0]) == pytest.approx(float(FULL.beta[0].log()), abs=1e-14)
    # β̃_2 < β_1 for any chain: (β_1 + β_2 − β_1 β_2) > β_2.
    assert float(small[0]) < float(upper[0])


def test_each_coordinate_has_its_own_variance_and_image_its_own_t():
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(3, 2, 4, 5, generator=generator)
    t = torch.tensor([999, 0, 500])
    together = learned(FULL, t, head)
    assert together.dtype == torch.float64  # of a float32 head
    for b in range(3):
        for place in [(0, 0, 0), (1, 3, 4), (0, 2, 1)]:
            alone = learned(FULL, t[b : b + 1], head[b][place].reshape(1, 1, 1, 1))
            assert float(together[b][place]) == float(alone)


def test_the_gradient_of_the_head_is_half_the_width_of_the_range():
    head = torch.zeros(1000, 1, 1, 1, requires_grad=True)
    learned(FULL, torch.arange(1000), head).sum().backward()
    chain = oracles.chain(FULL.beta.tolist())
    low = [chain.posterior_variance[1], *chain.posterior_variance[1:]]
    widths = [0.5 * math.log(upper / lower) for upper, lower in zip(chain.beta, low, strict=True)]
    assert head.grad is not None
    # float32 of the head's gradient; near T the range is 1e-7 wide and both ends are known to 1e-11.
    assert head.grad.flatten().tolist() == pytest.approx(widths, rel=1e-3, abs=1e-10)
    assert head.grad.flatten()[:500].tolist() == pytest.approx(widths[:500], rel=1e-6)


def test_the_first_step_rule_does_not_touch_a_learned_variance():
    """Its ends at t = 1 are β̃_2 and β_1. A β̃_1 clamped to 1e-20 (seen in public code) would give 1e-12 at v = 0."""
    assert not get("variances", "learned_range").uses_first_step
    t, head = torch.arange(1000), torch.zeros(1000, 1, 1, 1)
    assert torch.equal(learned(FULL, t, head), learned(FULL, t, head, first_step="beta_1"))
    first = float(learned(FULL, t, head)[0].exp())
    assert first == pytest.approx(math.sqrt(float(FULL.beta[0]) * float(FULL.beta_tilde[1])), rel=1e-12)
    assert math.sqrt(float(FULL.beta[0]) * 1e-20) < 1e-7 * first


@pytest.mark.parametrize("v", [-1.0, 0.0, 3.0])
def test_a_learned_variance_of_one_step_is_beta_1_whatever_the_head_says(v):
    for process in (respace(FULL, torch.tensor([1000])), get("schedules", "cosine")().process(1)):
        log_sigma2 = learned(process, torch.zeros(2, dtype=torch.int64), torch.full((2, 1, 1, 1), v))
        assert log_sigma2.flatten().tolist() == [float(process.beta[0].log())] * 2


# The fitted variance.


def no_l_0(log_sigma2: float) -> float:
    """A mean L_0 with its minimum at σ²_1 = 1/16, where the first step does not matter."""
    return (log_sigma2 + math.log(16)) ** 2


def fitted(process: Process, mse: torch.Tensor, mean_l_0=no_l_0) -> torch.Tensor:
    optimal = get("variances", "optimal")()
    return optimal.log_sigma2(process, torch.arange(len(process)), fit=optimal.fit(process, mse, mean_l_0))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [2, 10])
def test_the_fit_minimises_the_mean_divergence_of_every_step(spacing, num_steps):
    """Against a search over ln σ² of the mean over images, each with an error of its own."""
    process, chain = chain_of(spacing, num_steps)
    generator = torch.Generator().manual_seed(0)
    errors = torch.rand(7, len(process), dtype=torch.float64, generator=generator) ** 2
    log_sigma2 = fitted(process, errors.mean(0))
    assert log_sigma2.dtype == torch.float64
    assert log_sigma2.shape == (len(process),)
    for i in range(1, len(process), max(1, len(process) // 20)):
        q, c2 = chain.posterior_variance[i], chain.posterior_x_0[i] ** 2

        def cost(x: float, i: int = i, q: float = q, c2: float = c2) -> float:
            ratios = [(q + c2 * error) * math.exp(-x) for error in errors[:, i].tolist()]
            return math.fsum(0.5 * (r - 1 + x - math.log(q)) for r in ratios) / len(ratios)

        found = optimize.minimize_scalar(cost, bounds=(math.log(q), 3.0), method="bounded", options={"xatol": 1e-10}).x
        # The cost, up to 10 and known to 1e-15, is flat within δ²/4: 6e-8.
        assert float(log_sigma2[i]) == pytest.approx(found, abs=1e-6)
        # On the fit split the term is ½ ln(1 + c² m/β̃) per dimension, and no other σ² has less.
        m = float(errors[:, i].mean())
        assert cost(float(log_sigma2[i])) == pytest.approx(0.5 * math.log1p(c2 * m / q), rel=1e-9)


def test_no_fixed_variance_is_better_on_the_fit_split_and_the_fit_is_not_optimal_elsewhere():
    generator = torch.Generator().manual_seed(0)
    here, there = torch.rand(2, 1000, dtype=torch.float64, generator=generator) * 0.3
    fit = fitted(FULL, here)

    def cost(log_sigma2: torch.Tensor, mse: torch.Tensor) -> torch.Tensor:
        return (variance_cost(FULL, log_sigma2) + mean_cost(FULL, log_sigma2, mse))[1:]

    q, c2 = FULL.beta_tilde[1:], FULL.posterior_x_0[1:] ** 2
    torch.testing.assert_close(cost(fit, here), 0.5 * torch.log1p(c2 * here[1:] / q), rtol=1e-8, atol=1e-15)
    for other in ("beta", "beta_tilde"):
        log_sigma2 = get("variances", other)().log_sigma2(FULL, torch.arange(1000))
        assert torch.all(cost(log_sigma2, here) >= cost(fit, here) - 1e-15)
    for factor in (0.9, 1.1):
        assert torch.all(cost(fit + math.log(factor), here) > cost(fit, here))
    # On other data the formula of the fit split is too small, and the divergence itself is what counts.
    assert torch.all(cost(fit, there) >= 0.5 * torch.log1p(c2 * there[1:] / q) - 1e-15)
    assert float((cost(fit, there) - 0.5 * torch.log1p(c2 * there[1:] / q)).sum()) > 0.01


@pytest.mark.parametrize("spread", [0.25, 1.0, 2.0])
def test_bayes_optimal_networks_fit_between_beta_tilde_and_beta_over_alpha(spread):
    """N(m, s²): C_t = s²(1−ᾱ_t)/(ᾱ_t s² + 1 − ᾱ_t), and σ²* = β̃ + c² C is the variance of the true reverse step."""
    chain = oracles.chain(FULL.beta.tolist())
    remaining = [
        spread**2 * late / (now * spread**2 + late)
        for now, late in zip(chain.alpha_bar, chain.one_minus_alpha_bar, strict=True)
    ]
    found = fitted(FULL, torch.tensor(remaining, dtype=torch.float64)).exp().tolist()
    before = [1.0, *chain.alpha_bar[:-1]]
    for i in range(1, 1000):
        # x_{t−1} given x_t: precisions 1/V_{t−1} and α/β add up, V_t the variance of x_t.
        prior = before[i] * spread**2 + 1 - before[i]
        true = 1 / (1 / prior + (1 - chain.beta[i]) / chain.beta[i])
        assert found[i] == pytest.approx(true, rel=1e-9)
        assert chain.posterior_variance[i] * (1 - 1e-12) <= found[i] <= chain.beta[i] / (1 - chain.beta[i])
    if spread == 1.0:
        assert found[1:] == pytest.approx(chain.beta[1:], rel=1e-9)  # β iff N(0, I)


def test_a_point_has_beta_tilde_and_a_network_that_says_nothing_beta_over_alpha():
    chain = oracles.chain(FULL.beta.tolist())
    point = fitted(FULL, torch.zeros(1000, dtype=torch.float64)).exp().tolist()
    assert point[1:] == pytest.approx(chain.posterior_variance[1:], rel=1e-11)
    # ε̂ = 0: x̂_0 = x_t/√ᾱ_t, an error of ε² = 1 on the noise, of 1/SNR_t on x_0.
    nothing = fitted(FULL, torch.tensor([1 / snr for snr in chain.snr], dtype=torch.float64)).exp().tolist()
    assert nothing[1:] == pytest.approx([beta / (1 - beta) for beta in chain.beta[1:]], rel=1e-9)


def test_data_that_are_not_normal_want_neither_fixed_variance():
    """Two points ±a: x̂_0 = a tanh(a √ᾱ x/(1−ᾱ)), C_t = a² − E x̂_0² by quadrature."""
    chain = oracles.chain(FULL.beta.tolist())
    a = 0.8

    def remaining(i: int) -> float:
        signal, late = math.sqrt(chain.alpha_bar[i]), chain.one_minus_alpha_bar[i]

        def integrand(z: float) -> float:
            x = signal * a + math.sqrt(late) * z
            return stats.norm.pdf(z) * math.tanh(a * signal * x / late) ** 2

        return a * a * (1 - integrate.quad(integrand, -10, 10, epsabs=1e-12)[0])

    mse = torch.zeros(1000, dtype=torch.float64)
    picked = (99, 499, 799)
    for i in picked:
        mse[i] = remaining(i)
    found = fitted(FULL, mse).exp().tolist()
    share = [
        math.log(found[i] / chain.posterior_variance[i]) / math.log(chain.beta[i] / chain.posterior_variance[i])
        for i in picked
    ]
    assert share[0] < 1e-3  # little noise: x_t says which point it was
    assert 0.05 < share[1] < 0.95
    assert found[799] < chain.beta[799]


def test_the_fit_of_a_respaced_chain_is_its_own():
    short = respace(FULL, kept_timesteps("linspace", 1000, 10))
    mse = torch.linspace(0.001, 0.5, 1000, dtype=torch.float64)
    own = fitted(short, mse[short.timesteps - 1])
    # Its steps are longer, save the last one, whose capped β the full chain has.
    assert torch.all(own[1:-1] > fitted(FULL, mse)[short.timesteps - 1][1:-1])
    assert float(own[0]) == float(fitted(FULL, mse)[0])  # no_l_0 does not know the chain


@pytest.mark.parametrize("mse", [1e-9, 1e-3, 1.0, 3.99, 9.0, 250.0])
@pytest.mark.parametrize("num_timesteps", [1, 2, 100])
def test_without_levels_the_first_step_has_the_mean_squared_error(mse, num_timesteps):
    """Mean L_0 of the density decoder: ½ ln 2πσ² + m/(2σ²), smallest at σ² = m; also where the data are wide."""

    def mean_l_0(log_sigma2: float) -> float:
        return 0.5 * (math.log(2 * math.pi) + log_sigma2 + mse * math.exp(-log_sigma2))

    process = get("schedules", "cosine")().process(num_timesteps)
    found = fitted(process, torch.full((num_timesteps,), mse, dtype=torch.float64), mean_l_0)
    # L_0 is flat to its last digit within δ²/4 = 1e-16 · |L_0|.
    assert float(found[0]) == pytest.approx(math.log(mse), abs=1e-6)


def pixels(spread: float, outliers: int = 0) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Levels of 17, means with normal errors, some pixels far off; the mean squared error."""
    generator = torch.Generator().manual_seed(0)
    level = torch.randint(17, (60,), generator=generator)
    x = level.double() / 8 - 1
    mean = x + spread * torch.randn(60, dtype=torch.float64, generator=generator)
    mean[:outliers] -= 0.4
    return level, mean, float((x - mean).square().mean())


@pytest.mark.parametrize(("spread", "outliers"), [(0.05, 0), (0.05, 2), (0.2, 0), (0.01, 5)])
def test_with_levels_the_first_step_has_the_smallest_mean_l_0(spread, outliers):
    """Against a grid of the decoder's integral, whose smallest value is within its curvature of the minimum."""
    level, mean, mse = pixels(spread, outliers)
    process = get("schedules", "linear")().process(100)

    def mean_l_0(log_sigma2: float) -> float:
        values = log_prob_discretised(level, mean, torch.tensor(log_sigma2, dtype=torch.float64), 17)
        return -float(values.mean())

    def by_quadrature(log_sigma2: float) -> float:
        pairs = zip(level.tolist(), mean.tolist(), strict=True)
        return -math.fsum(oracles.log_bin_probability(v, m, math.exp(log_sigma2), 17) for v, m in pairs) / 60

    found = float(fitted(process, torch.full((100,), mse, dtype=torch.float64), mean_l_0)[0])
    grid = [found + offset for offset in (-3.0, -1.0, -0.3, -0.1, -0.01, 0.01, 0.1, 0.3, 1.0, 3.0)]
    best = by_quadrature(found)
    assert all(by_quadrature(x) > best for x in grid)


def test_a_fit_without_a_miss_does_not_bet_everything_on_it():
    """Where every pixel of the fit split is in its bin, L_0 falls to 0 with σ²_1: the fit stops where nothing is
    gained, and a pixel of another split that misses by a tenth of a level does not cost a million nats."""
    level, mean, mse = pixels(0.012)
    x = level.double() / 8 - 1
    assert float((x - mean).abs().max()) < 1 / 16
    process = get("schedules", "linear")().process(1000)

    def mean_l_0(log_sigma2: float) -> float:
        values = log_prob_discretised(level, mean, torch.tensor(log_sigma2, dtype=torch.float64), 17)
        return -float(values.mean())

    found = fitted(process, torch.full((1000,), mse, dtype=torch.float64), mean_l_0)[0]
    assert mean_l_0(math.log(1e-12)) == mean_l_0(math.log(1e-10)) == 0.0
    assert 0 < mean_l_0(float(found)) < 1e-4
    miss = torch.tensor([1 / 16 + 1 / 80], dtype=torch.float64)

    def cost(log_sigma2: torch.Tensor) -> float:
        return -float(log_prob_discretised(torch.tensor([8]), miss, log_sigma2, 17))

    assert cost(found) < 10
    assert cost(torch.tensor(1e-12, dtype=torch.float64).log()) > 1e6


def test_fitted_variances_are_read_by_t():
    fit = torch.linspace(-5, -1, 1000, dtype=torch.float64)
    t = torch.tensor([999, 0, 3])
    optimal = get("variances", "optimal")()
    assert torch.equal(optimal.log_sigma2(FULL, t, fit=fit), fit[t])
    assert torch.equal(optimal.log_sigma2(FULL, t, fit=fit, first_step="beta_1"), fit[t])


@pytest.mark.parametrize(
    ("name", "needs_head", "needs_fit", "uses_first_step", "symbol"),
    [
        ("beta", False, False, True, "σ²=β"),
        ("beta_tilde", False, False, True, "σ²=β̃"),
        ("learned_range", True, False, False, "σ²=learned"),
        ("optimal", False, True, False, "σ²=optimal"),
    ],
)
def test_what_each_variance_needs(name, needs_head, needs_fit, uses_first_step, symbol):
    made = get("variances", name)()
    assert (made.needs_head, made.needs_fit, made.uses_first_step) == (needs_head, needs_fit, uses_first_step)
    assert made.symbol == symbol
