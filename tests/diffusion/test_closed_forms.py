"""Data whose best network is known, with expectations that are integrals on the line, not samples.

Everything here is at the level of tensors: only there can an expectation be exact. Through the stages, where it can
only be drawn, the same networks are compared in tests/stages/test_closed_forms.py.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_bench.diffusion.gaussians import kl_mean_part, kl_variance_part
from ddpm_bench.diffusion.likelihood import decoder_nll, mean_cost, prior_kl, variance_cost
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import kept_timesteps, respace
from ddpm_bench.registry import get
from tests import oracles
from tests.laws import FINITE, MIXTURE, TWO_POINTS, Law, kl_of_the_end, normal, remaining

PREDICTIONS = ["epsilon", "x0", "v", "mu"]
CHAINS = [("cosine", 1), ("cosine", 2), ("cosine", 100), ("cosine", 1000), ("linear", 100), ("linear", 1000)]
"""The scaled linear schedule needs more than 20 steps."""


GAUSSIANS = [normal(0.7, 0.25), normal(-3.0, 1.0), normal(0.7, 2.0), normal(-3.0, 0.25)]


def process_of(schedule: str, num_timesteps: int) -> Process:
    return get("schedules", schedule)().process(num_timesteps)


def noised(process: Process, law: Law, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(x_0, x_t, ε, t, weights) on the product of the nodes of x_0 and of ε; [S, N, 1, 1], weights [N]."""
    x, x_weights = law.nodes(count)
    e, e_weights = normal(0.0, 1.0).nodes(count)
    grid_x, grid_e = (part.reshape(1, -1, 1, 1) for part in torch.meshgrid(x, e, indexing="ij"))
    t = torch.arange(len(process))
    x_0, eps = grid_x.expand(len(t), -1, 1, 1), grid_e.expand(len(t), -1, 1, 1)
    return x_0, process.q_sample(x_0, t, eps), eps, t, torch.outer(x_weights, e_weights).flatten()


def expected_error(process: Process, law: Law, prediction: str = "x0", count: int = 121) -> Tensor:
    """E|x_0 − x̂_0|² of the best network with that prediction, at each step, [S]."""
    x_0, x_t, _, t, weights = noised(process, law, count)
    found, entry = [], get("predictions", prediction)()
    for part in torch.arange(len(process)).split(50):
        best, _ = law.denoise(x_t[part], process.alpha_bar[part].reshape(-1, 1, 1, 1))
        eps = process.eps_from_x_0(best, x_t[part], t[part])
        output = entry.target(best, eps, t[part], process)
        error = x_0[part] - entry.to_x_0(output, x_t[part], t[part], process)
        found.append((error.square().flatten(1) * weights).sum(1))
    return torch.cat(found)


@cache
def chain_of(schedule: str, num_timesteps: int, kept: tuple[int, ...] | None = None) -> oracles.Chain:
    betas = (oracles.linear_betas if schedule == "linear" else oracles.cosine_betas)(num_timesteps)
    return oracles.chain(betas, None if kept is None else list(kept))


def expected_prior(process: Process, law: Law) -> float:
    x, weights = law.nodes()
    return float((weights * prior_kl(x.reshape(-1, 1, 1, 1), process)).sum())


def density_l_0(error: float, log_sigma2: float) -> float:
    """E L_0 of the density decoder, which is linear in the squared distance: its value at the root mean square."""
    root = torch.full((1, 1, 1, 1), math.sqrt(error), dtype=torch.float64)
    return float(decoder_nll(root, torch.zeros_like(root), torch.tensor(log_sigma2, dtype=torch.float64), None))


def optimal_log_sigma2(process: Process, error: Tensor) -> Tensor:
    """What the entry `optimal` fits to exact expectations."""
    fit = get("variances", "optimal")().fit(process, error, lambda log_sigma2: density_l_0(float(error[0]), log_sigma2))
    return get("variances", "optimal")().log_sigma2(process, torch.arange(len(process)), fit=fit)


def bound(process: Process, law: Law, error: Tensor, log_sigma2: Tensor) -> float:
    """The expected bound in nats, density decoder."""
    steps = variance_cost(process, log_sigma2) + mean_cost(process, log_sigma2, error)
    return expected_prior(process, law) + float(steps.sum()) + density_l_0(float(error[0]), float(log_sigma2[0]))


# Normal data


@pytest.mark.parametrize("law", GAUSSIANS)
@pytest.mark.parametrize(("schedule", "num_timesteps"), CHAINS)
def test_with_the_optimal_variance_the_bound_is_the_entropy(schedule: str, num_timesteps: int, law: Law) -> None:
    """bound − entropy = KL(q(x_T) ‖ N(0, 1)), the first step included."""
    process = process_of(schedule, num_timesteps)
    error = expected_error(process, law, count=41)  # a quadratic function of two normals
    log_sigma2 = optimal_log_sigma2(process, error)
    assert log_sigma2.dtype == torch.float64
    # The search for σ²_1 ends within 1e-7 of a minimum of second derivative ½.
    assert float(log_sigma2[0]) == pytest.approx(math.log(float(error[0])), abs=1e-6)
    gap = bound(process, law, error, log_sigma2) - law.entropy()
    assert gap == pytest.approx(kl_of_the_end(law, chain_of(schedule, num_timesteps).alpha_bar[-1]), abs=1e-9)


@pytest.mark.parametrize("law", GAUSSIANS)
@pytest.mark.parametrize(("spacing", "num_steps"), [("linspace", 10), ("trailing", 7), ("leading", 4), ("linspace", 1)])
def test_the_same_holds_on_shorter_chains(spacing: str, num_steps: int, law: Law) -> None:
    kept = kept_timesteps(spacing, 1000, num_steps)
    process = respace(process_of("cosine", 1000), kept)
    error = expected_error(process, law, count=41)
    gap = bound(process, law, error, optimal_log_sigma2(process, error)) - law.entropy()
    alpha_bar = chain_of("cosine", 1000, tuple(kept.tolist())).alpha_bar[-1]
    assert gap == pytest.approx(kl_of_the_end(law, alpha_bar), abs=1e-9)


@pytest.mark.parametrize("law", GAUSSIANS)
@pytest.mark.parametrize(("schedule", "num_timesteps"), CHAINS)
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("first_step", ["beta_tilde_2", "beta_1"])
def test_fixed_variances_cost_what_the_formulas_say(
    schedule: str, num_timesteps: int, law: Law, variance: str, first_step: str
) -> None:
    """E L_{t−1} = ½[(β̃ + c²C)/σ² − 1 + ln(σ²/β̃)], E L_0 = ½ ln(2πσ²_1) + C_1/(2σ²_1)."""
    process, chain = process_of(schedule, num_timesteps), chain_of(schedule, num_timesteps)
    error, steps = expected_error(process, law, count=41), torch.arange(num_timesteps)
    log_sigma2 = get("variances", variance)().log_sigma2(process, steps, first_step=first_step)
    table = list(chain.beta if variance == "beta" else chain.posterior_variance)
    table[0] = chain.posterior_variance[1] if first_step == "beta_tilde_2" and num_timesteps > 1 else chain.beta[0]
    (deviation,) = law.deviations
    left = [
        deviation**2 * b / (a * deviation**2 + b)
        for a, b in zip(chain.alpha_bar, chain.one_minus_alpha_bar, strict=True)
    ]
    want = [0.5 * math.log(2 * math.pi * table[0]) + left[0] / (2 * table[0])]
    for i in range(1, num_timesteps):
        q, p, c = chain.posterior_variance[i], table[i], chain.posterior_x_0[i]
        want.append(0.5 * ((q + c**2 * left[i]) / p - 1 + math.log(p / q)))
    got = variance_cost(process, log_sigma2) + mean_cost(process, log_sigma2, error)
    got[0] = density_l_0(float(error[0]), float(log_sigma2[0]))
    # ½[r − 1 − ln r] of two variances 1e-4 apart loses half of sixteen digits in the transcription, not in the package.
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-7, atol=1e-14)
    np.testing.assert_allclose(error.numpy(), left, rtol=1e-10)


@pytest.mark.parametrize("law", GAUSSIANS)
@pytest.mark.parametrize(("schedule", "num_timesteps"), CHAINS)
def test_a_head_can_say_the_true_variance(schedule: str, num_timesteps: int, law: Law) -> None:
    """v = 2 (ln σ² − ln β̃)/(ln β − ln β̃) − 1 gives every term of the optimal variance; a chain of one step has β_1."""
    process, chain = process_of(schedule, num_timesteps), chain_of(schedule, num_timesteps)
    error = expected_error(process, law, count=41)
    (deviation,) = law.deviations
    v = []
    for i in range(num_timesteps):
        a, b = chain.alpha_bar[i], chain.one_minus_alpha_bar[i]
        true = chain.posterior_variance[i] + chain.posterior_x_0[i] ** 2 * deviation**2 * b / (a * deviation**2 + b)
        low, high = chain.posterior_variance[max(i, 1)] if num_timesteps > 1 else chain.beta[0], chain.beta[i]
        v.append(0.0 if high == low else 2 * math.log(true / low) / math.log(high / low) - 1)
    head = torch.tensor(v, dtype=torch.float64).reshape(-1, 1, 1, 1)
    steps = torch.arange(num_timesteps)
    log_sigma2 = get("variances", "learned_range")().log_sigma2(process, steps, head=head)
    assert log_sigma2.shape == (num_timesteps, 1, 1, 1)
    if num_timesteps == 1:
        assert float(log_sigma2) == pytest.approx(math.log(chain.beta[0]), rel=1e-12)
        return
    best = optimal_log_sigma2(process, error)
    # β̃ and β come within 1e-4 of each other: the interpolation between them keeps what their ratio has of digits.
    torch.testing.assert_close(log_sigma2.flatten()[1:], best[1:], rtol=0, atol=1e-8)
    assert float(log_sigma2[0]) == pytest.approx(float(best[0]), abs=1e-6)
    # As a score computes it: per coordinate, in log-variances.
    per_step = kl_variance_part(process.beta_tilde.log(), log_sigma2.flatten())
    per_step = per_step + kl_mean_part(process.posterior_x_0**2 * error, log_sigma2.flatten())
    total = float(per_step[1:].sum()) + density_l_0(float(error[0]), float(log_sigma2[0]))
    gap = total + expected_prior(process, law) - law.entropy()
    assert gap == pytest.approx(kl_of_the_end(law, chain.alpha_bar[-1]), abs=1e-9)


@pytest.mark.parametrize("v", [-1.0, 1.0, 0.0, 3.0])
@pytest.mark.parametrize(("schedule", "num_timesteps"), CHAINS)
def test_the_ends_of_the_range_are_the_fixed_variances(schedule: str, num_timesteps: int, v: float) -> None:
    """v = −1: β̃ (β̃_2 first), v = 1: β, with the same costs; v is not clamped."""
    process, steps = process_of(schedule, num_timesteps), torch.arange(num_timesteps)
    head = torch.full((num_timesteps, 2, 1, 1), v)
    got = get("variances", "learned_range")().log_sigma2(process, steps, head=head)
    small = get("variances", "beta_tilde")().log_sigma2(process, steps, first_step="beta_tilde_2")
    large = get("variances", "beta")().log_sigma2(process, steps, first_step="beta_1")
    want = small + (v + 1) / 2 * (large - small)
    torch.testing.assert_close(got[:, 0, 0, 0], want, rtol=0, atol=1e-12)
    assert torch.equal(got[:, 0], got[:, 1])
    if v == 3.0 and num_timesteps > 1:
        assert float(got[1, 0, 0, 0]) > float(large[1])


@pytest.mark.parametrize("law", [GAUSSIANS[0], GAUSSIANS[2], MIXTURE])
@pytest.mark.parametrize(("schedule", "num_timesteps"), [("cosine", 100), ("linear", 100), ("cosine", 2)])
def test_what_is_predicted_does_not_matter(schedule: str, num_timesteps: int, law: Law) -> None:
    """The same x̂_0 said as ε, v or μ: the same L_t to 1e-10."""
    process = process_of(schedule, num_timesteps)
    count = 41  # the same nodes for all: they need not be many
    terms = []
    for prediction in PREDICTIONS:
        error = expected_error(process, law, prediction, count)
        cost = mean_cost(process, process.beta.log(), error)
        cost[0] = density_l_0(float(error[0]), math.log(float(process.beta[0])))
        terms.append(cost)
    for other in terms[1:]:
        torch.testing.assert_close(other, terms[0], rtol=1e-10, atol=0)


def test_what_is_predicted_does_not_matter_on_a_long_chain() -> None:
    process = process_of("cosine", 1000)  # 1/√ᾱ_T = 20 291 multiplies the roundings of ε
    first, *others = (expected_error(process, GAUSSIANS[2], prediction, 41) for prediction in PREDICTIONS)
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-10, atol=0)


# Points


@pytest.mark.parametrize(("schedule", "num_timesteps"), CHAINS)
def test_a_single_point_costs_nothing(schedule: str, num_timesteps: int) -> None:
    """β̃ is optimal: with it, with the fitted and with a head at −1 every KL is 0."""
    process, steps = process_of(schedule, num_timesteps), torch.arange(num_timesteps)
    point = Law((1.0,), (0.3,), (0.0,))
    error = expected_error(process, point)
    assert torch.all(error == 0)
    fitted = get("variances", "optimal")().fit(process, error, lambda log_sigma2: log_sigma2)
    head = torch.full((num_timesteps, 1, 1, 1), -1.0)
    tables = {
        "beta_tilde": get("variances", "beta_tilde")().log_sigma2(process, steps),
        "optimal": get("variances", "optimal")().log_sigma2(process, steps, fit=fitted),
        "learned_range": get("variances", "learned_range")().log_sigma2(process, steps, head=head).flatten(),
    }
    for name, log_sigma2 in tables.items():
        cost = variance_cost(process, log_sigma2) + mean_cost(process, log_sigma2, error)
        assert torch.all(cost == 0), name
    with_beta = variance_cost(process, get("variances", "beta")().log_sigma2(process, steps))
    assert num_timesteps == 1 or float(with_beta.sum()) > 0.05


@pytest.mark.parametrize("law", [TWO_POINTS, FINITE])
@pytest.mark.parametrize(("schedule", "num_timesteps"), CHAINS)
def test_points_cost_what_the_integral_says(schedule: str, num_timesteps: int, law: Law) -> None:
    """x̂_0 is the mean of the points weighted by a softmax; of ±a it is a tanh(a √ᾱ x/(1−ᾱ))."""
    process, chain = process_of(schedule, num_timesteps), chain_of(schedule, num_timesteps)
    error, want = expected_error(process, law, count=201), remaining(law, chain)
    # Where the point is known but for e^-50 both sums are roundings.
    np.testing.assert_allclose(error.numpy(), want, rtol=1e-8, atol=1e-15)
    steps = torch.arange(num_timesteps)
    tables = {
        "beta": [chain.beta[0], *chain.beta[1:]],
        "beta_tilde": [chain.beta[0], *chain.posterior_variance[1:]],
        "optimal": [q + c**2 * m for q, c, m in zip(chain.posterior_variance, chain.posterior_x_0, want, strict=True)],
    }
    fitted = get("variances", "optimal")().fit(process, error, lambda log_sigma2: (log_sigma2 + 3) ** 2)
    costs = {}
    for name, table in tables.items():
        log_sigma2 = get("variances", name)().log_sigma2(process, steps, fit=fitted)
        got = variance_cost(process, log_sigma2) + mean_cost(process, log_sigma2, error)
        for i in range(1, num_timesteps):
            q, p, c = chain.posterior_variance[i], table[i], chain.posterior_x_0[i]
            kl = 0.5 * (q / p - 1 + math.log(p / q)) + c**2 * want[i] / (2 * p)
            assert float(got[i]) == pytest.approx(kl, rel=1e-7, abs=1e-14), (name, i)
        costs[name] = got
    for name in ("beta", "beta_tilde"):
        assert torch.all(costs["optimal"] <= costs[name] * (1 + 1e-12) + 1e-16)
    assert num_timesteps == 1 or float(costs["optimal"].sum()) < 0.99 * float(costs["beta"].sum())


def test_two_points_are_a_tanh() -> None:
    alpha_bar = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)[:, None]
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    mean, variance = TWO_POINTS.denoise(x, alpha_bar)
    want = 0.5 * torch.tanh(0.5 * alpha_bar.sqrt() * x / (1 - alpha_bar))
    torch.testing.assert_close(mean, want, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(variance, 0.25 - want.square(), rtol=1e-9, atol=1e-14)


def levels_bound(process: Process, law: Law, levels: int, log_sigma2_1: float) -> tuple[float, Tensor]:
    """(E L_0, E|x_0 − x̂_0|²): the discretised decoder on a grid of ε."""
    x_0, x_t, _, t, weights = noised(process, law, 401)
    best, _ = law.denoise(x_t[:1], process.alpha_bar[:1].reshape(-1, 1, 1, 1))
    mean = process.q_posterior_mean(best, x_t[:1], t[:1])
    target = ((x_0[0] + 1) * (levels - 1) / 2).round().long()
    nll = decoder_nll(target, mean[0], torch.tensor(log_sigma2_1, dtype=torch.float64), levels)
    return float((nll * weights).sum()), expected_error(process, law, count=401)


def test_grey_levels_never_cost_less_than_their_entropy() -> None:
    """Four grey levels of 17: the bound is above Σ −p ln p for any σ², and comes near it in long chains."""
    gaps = []
    for num_timesteps in (1, 10, 100, 1000):
        process = process_of("cosine", num_timesteps)
        bounds = []
        for variance, first_step in (("beta", "beta_1"), ("beta_tilde", "beta_1"), ("beta", "beta_tilde_2")):
            log_sigma2 = get("variances", variance)().log_sigma2(
                process, torch.arange(num_timesteps), first_step=first_step
            )
            l_0, error = levels_bound(process, FINITE, 17, float(log_sigma2[0]))
            steps = variance_cost(process, log_sigma2) + mean_cost(process, log_sigma2, error)
            bounds.append(l_0 + float(steps.sum()) + expected_prior(process, FINITE))
        gaps.append(min(bounds) - FINITE.entropy())
    assert min(gaps) > 0
    assert gaps[1] > gaps[2] > gaps[3]
    assert gaps[3] < 0.05 * gaps[1]


# A mixture of normal distributions: what the bound exceeds the entropy by, from its definition


def kl_of_each_step(law: Law, chain: oracles.Chain, sigma2: list[float]) -> float:
    """Σ_t E KL(q(x_{t−1} | x_t) ‖ p_θ(x_{t−1} | x_t)) + KL(q(x_T) ‖ N(0, 1)), by sums over grids of (x_{t−1}, x_t).

    What is left of bound − entropy by the chain rule: q(x_{t−1} | x_t) without x_0 is no normal distribution.
    """
    total, before = 0.0, 1.0
    for i, alpha_bar in enumerate(chain.alpha_bar):
        alpha = alpha_bar / before
        size = 6 + max(abs(m) + 9 * s for m, s in zip(law.means, law.deviations, strict=True))
        y = np.linspace(-size, size, 1601)  # x_t
        best = law.denoise(torch.from_numpy(y), torch.tensor(alpha_bar, dtype=torch.float64))[0].numpy()
        mean = chain.posterior_x_0[i] * best + chain.posterior_x_t[i] * y
        x = np.linspace(-size, size, 4001)  # x_{t−1}
        marginal = law.density(x, before)
        likelihood = np.exp(-((y[:, None] - math.sqrt(alpha) * x) ** 2) / (2 * (1 - alpha)))
        joint = marginal * likelihood / math.sqrt(2 * math.pi * (1 - alpha))
        evidence = law.density(y, alpha_bar)
        log_p = -((x - mean[:, None]) ** 2) / (2 * sigma2[i]) - 0.5 * math.log(2 * math.pi * sigma2[i])
        with np.errstate(divide="ignore", invalid="ignore"):
            log_q = np.log(joint) - np.log(evidence)[:, None]
            total += float(np.nansum(np.where(joint > 0, joint * (log_q - log_p), 0.0))) * (x[1] - x[0]) * (y[1] - y[0])
        before = alpha_bar
    x = np.linspace(-12, 12, 4001)
    q = law.density(x, chain.alpha_bar[-1])
    log_prior = -(x**2) / 2 - 0.5 * math.log(2 * math.pi)
    return total + float(np.sum(q * (np.log(np.maximum(q, 1e-300)) - log_prior))) * (x[1] - x[0])


@pytest.mark.parametrize("num_timesteps", [1, 2, 4])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "optimal"])
def test_a_mixture_costs_its_entropy_and_what_each_step_misses(num_timesteps: int, variance: str) -> None:
    betas = [0.9, 0.5, 0.3, 0.2][-num_timesteps:][::-1]
    process, chain = Process.from_betas(torch.tensor(betas, dtype=torch.float64)), oracles.chain(betas)
    error = expected_error(process, MIXTURE, count=161)
    np.testing.assert_allclose(error.numpy(), remaining(MIXTURE, chain), rtol=1e-9)
    if variance == "optimal":
        log_sigma2 = optimal_log_sigma2(process, error)
    else:
        log_sigma2 = get("variances", variance)().log_sigma2(process, torch.arange(num_timesteps))
    gap = bound(process, MIXTURE, error, log_sigma2) - MIXTURE.entropy()
    # Sums over grids of smooth functions that vanish at the ends: what limits them is the tail at 9 deviations.
    assert gap == pytest.approx(kl_of_each_step(MIXTURE, chain, log_sigma2.exp().tolist()), abs=1e-8)
    assert gap > 0


def test_long_chains_find_the_entropy_of_a_mixture() -> None:
    """The steps become normal as they become small: the gap falls with T, and is never negative."""
    gaps = {}
    for num_timesteps in (10, 30, 100):
        process = process_of("cosine", num_timesteps)
        error = torch.from_numpy(remaining(MIXTURE, chain_of("cosine", num_timesteps)))
        gaps[num_timesteps] = bound(process, MIXTURE, error, optimal_log_sigma2(process, error)) - MIXTURE.entropy()
    assert gaps[10] > gaps[30] > gaps[100] > 0
    assert gaps[100] < gaps[10] / 5


# Permutations


def test_the_order_of_dimensions_changes_nothing() -> None:
    """Every term is a sum over dimensions: data, network and noise permuted alike give the same bound."""
    process, generator = process_of("cosine", 100), torch.Generator().manual_seed(0)
    target = torch.randint(17, (5, 3, 4, 4), generator=generator)
    x_0 = target.double() / 8 - 1
    mean = (x_0 + 0.05 * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)).clamp(-1, 1)
    head = torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
    order = torch.randperm(48, generator=generator)

    def terms(permute: bool) -> list[Tensor]:
        def moved(x: Tensor) -> Tensor:
            return x.flatten(1)[:, order].reshape(x.shape) if permute else x

        t = torch.tensor([0, 3, 20, 60, 99])
        log_sigma2 = get("variances", "learned_range")().log_sigma2(process, t, head=moved(head))
        error = (moved(x_0) - moved(mean)).square()
        return [
            decoder_nll(moved(target), moved(mean), log_sigma2, 17),
            kl_mean_part(error, log_sigma2).flatten(1).sum(1),
            kl_variance_part(torch.tensor(-5.0, dtype=torch.float64), log_sigma2).flatten(1).sum(1),
            prior_kl(moved(x_0), process),
        ]

    for one, other in zip(terms(False), terms(True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)  # sums in another order
