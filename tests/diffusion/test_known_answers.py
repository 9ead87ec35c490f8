"""The known answers that need no training: tables of numbers, each to its last written digit."""

from __future__ import annotations

import math

import pytest
import torch

from ddpm_bench.diffusion.gaussians import log_prob_discretised
from ddpm_bench.diffusion.likelihood import bits_per_dim, decoder_nll, prior_kl, variance_cost
from ddpm_bench.registry import get
from tests import oracles

COLUMNS = ("beta_1", "beta_tilde_2", "alpha_bar_T", "L_0_inner", "L_0_edge", "sum_kl_beta", "kl_beta_2", "L_T")
PERFECT = {
    ("linear", 100): ("1e-3", "7.51194e-4", "2.03901e-5", "3.1358", "0.8445", "1.0024", "0.4599", "1.471e-5"),
    ("linear", 1000): ("1e-4", "5.45319e-5", "4.03583e-5", "1.3054", "0.5098", "0.4864", "0.1751", "2.911e-5"),
    ("linear", 4000): ("2.5e-5", "1.28036e-5", "4.24665e-5", "0.4602", "0.2118", "0.3723", "0.1483", "3.063e-5"),
    ("cosine", 100): ("6.31282e-4", "4.03489e-4", "2.42857e-7", "2.6917", "0.7924", "0.7222", "0.2737", "1.752e-7"),
    ("cosine", 1000): ("4.12842e-5", "2.17895e-5", "2.42877e-9", "0.7390", "0.3227", "0.4324", "0.1605", "1.752e-9"),
    ("cosine", 4000): ("9.86582e-6", "5.00768e-6", "1.51798e-10", "0.1198", "0.0587", "0.3520", "0.1449", "1.095e-10"),
}
"""A network that returns the true x_0, 256 levels, σ_1² = β̃_2; the last five columns in bits/dim."""


def half_unit(written: str) -> float:
    """Half of the last digit that is written, and a thousandth of it for values that end in a 5."""
    mantissa, _, exponent = written.partition("e")
    return 0.501 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def perfect_l_0(level: int, sigma2: float, levels: int = 256) -> float:
    """L_0 in bits of a pixel of this level when the mean is the pixel itself."""
    target = torch.full((1, 1, 1, 1), level)
    mean = (2.0 * target - (levels - 1)).double() / (levels - 1)
    log_sigma2 = torch.tensor(sigma2, dtype=torch.float64).log()
    return float(bits_per_dim(decoder_nll(target, mean, log_sigma2, levels), 1))


def perfect_row(schedule: str, num_timesteps: int) -> dict[str, float]:
    process = get("schedules", schedule)().process(num_timesteps)
    cost = bits_per_dim(variance_cost(process, process.beta.log()), 1)
    sigma2 = float(process.beta_tilde[1])
    return {
        "beta_1": float(process.beta[0]),
        "beta_tilde_2": sigma2,
        "alpha_bar_T": float(process.alpha_bar[-1]),
        "L_0_inner": perfect_l_0(100, sigma2),
        "L_0_edge": perfect_l_0(0, sigma2),
        "sum_kl_beta": float(cost.sum()),
        "kl_beta_2": float(cost[1]),
        "L_T": float(bits_per_dim(prior_kl(torch.ones(1, 1, 2, 2), process), 4)),
    }


@pytest.mark.parametrize("chain", PERFECT)
def test_perfect_network(chain):
    row = perfect_row(*chain)
    for column, written in zip(COLUMNS, PERFECT[chain], strict=True):
        assert row[column] == pytest.approx(float(written), rel=0, abs=half_unit(written)), column
    process = get("schedules", chain[0])().process(chain[1])
    assert perfect_l_0(255, row["beta_tilde_2"]) == row["L_0_edge"]
    assert torch.all(variance_cost(process, process.beta_tilde.log()) == 0)


@pytest.mark.parametrize("chain", PERFECT)
def test_perfect_network_by_the_second_implementation(chain):
    """The same row from the product rule and quadrature, to twelve digits instead of four."""
    betas = (oracles.linear_betas if chain[0] == "linear" else oracles.cosine_betas)(chain[1])
    tables, row = oracles.chain(betas), perfect_row(*chain)
    sigma2 = tables.posterior_variance[1]
    ratio = [small / large for small, large in zip(tables.posterior_variance[1:], tables.beta[1:], strict=True)]
    costs = [0.5 * (r - 1 - math.log(r)) / math.log(2) for r in ratio]
    expected = {
        "beta_1": betas[0],
        "beta_tilde_2": sigma2,
        "alpha_bar_T": tables.alpha_bar[-1],
        "L_0_inner": -oracles.log_bin_probability(100, 2 * 100 / 255 - 1, sigma2, 256) / math.log(2),
        "L_0_edge": -oracles.log_bin_probability(0, -1.0, sigma2, 256) / math.log(2),
        "sum_kl_beta": math.fsum(costs),
        "kl_beta_2": costs[0],
        "L_T": -0.5 * math.log1p(-tables.alpha_bar[-1]) / math.log(2),
    }
    # β_1 of cosine carries 1e-11 (one minus a ratio near 1), and ᾱ_T the error 1e-13/cos of an angle near π/2.
    assert row == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("schedule", "rule", "inner", "edge"),
    [
        ("linear", "beta_tilde_2", "0.03296", "0.016385"),
        ("linear", "beta_1", "0.07113", "0.03513"),
        ("cosine", "beta_tilde_2", "0.002688", "0.001344"),
    ],
)
def test_perfect_network_on_17_levels(schedule, rule, inner, edge):
    process = get("schedules", schedule)().process(100)
    sigma2 = float(process.beta_tilde[1] if rule == "beta_tilde_2" else process.beta[0])
    assert perfect_l_0(8, sigma2, 17) == pytest.approx(float(inner), abs=half_unit(inner))
    assert perfect_l_0(0, sigma2, 17) == pytest.approx(float(edge), abs=half_unit(edge))
    assert perfect_l_0(16, sigma2, 17) == perfect_l_0(0, sigma2, 17)


@pytest.mark.parametrize(("first_step", "written"), [("beta_tilde_2", "1.31"), ("beta_1", "1.71")])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_first_step_rules_cost_what_they_cost(first_step, written, variance):
    process = get("schedules", "linear")().process(1000)
    log_sigma2 = get("variances", variance)().log_sigma2(process, torch.tensor([0]), first_step=first_step)
    assert perfect_l_0(100, float(log_sigma2.exp())) == pytest.approx(float(written), abs=half_unit(written))


@pytest.mark.parametrize(("v", "written"), [(-1.0, "1.31"), (1.0, "1.71")])
def test_the_ends_of_a_learned_first_step_are_the_two_rules(v, written):
    """At t = 1 the range is [β̃_2, β_1]."""
    process = get("schedules", "linear")().process(1000)
    head = torch.full((1, 1, 1, 1), v)
    log_sigma2 = get("variances", "learned_range")().log_sigma2(process, torch.tensor([0]), head=head)
    assert perfect_l_0(100, float(log_sigma2.exp())) == pytest.approx(float(written), abs=half_unit(written))


@pytest.mark.parametrize("chain", PERFECT)
def test_a_perfect_network_with_a_head_or_a_fit(chain):
    """v = 1 costs Σ KL of σ² = β, v = −1 and a fit to no error nothing."""
    process, steps = get("schedules", chain[0])().process(chain[1]), torch.arange(chain[1])

    def sum_kl(log_sigma2):
        return float(bits_per_dim(variance_cost(process, log_sigma2).sum(), 1))

    learned = get("variances", "learned_range")()
    heads = {v: learned.log_sigma2(process, steps, head=torch.full((chain[1], 1, 1, 1), v)) for v in (-1.0, 1.0)}
    assert sum_kl(heads[1.0].flatten()) == pytest.approx(perfect_row(*chain)["sum_kl_beta"], rel=1e-9)
    assert sum_kl(heads[-1.0].flatten()) == 0
    optimal = get("variances", "optimal")()
    fit = optimal.fit(process, torch.zeros(chain[1], dtype=torch.float64), lambda log_sigma2: (log_sigma2 + 9) ** 2)
    assert sum_kl(optimal.log_sigma2(process, steps, fit=fit)) == 0
    assert float(fit[0]) == pytest.approx(-9, abs=1e-6)  # where the given L_0 is smallest


def test_a_network_that_predicts_no_noise_fits_beta_over_alpha():
    """ε̂ = 0: the error of ε is 1, that of x_0 is 1/SNR, and β̃ + c²/SNR = β/α."""
    process = get("schedules", "cosine")().process(1000)
    optimal = get("variances", "optimal")()
    fit = optimal.fit(process, 1 / process.snr, lambda log_sigma2: log_sigma2**2)
    torch.testing.assert_close(fit[1:], (process.beta / (1 - process.beta)).log()[1:], rtol=0, atol=1e-9)


def test_a_vast_variance_is_no_uniform_code():
    """With σ² → ∞ the inner bins vanish and the two outer ones share everything: the decoder is no uniform code."""
    assert math.log2(17) == pytest.approx(4.087, abs=0.0005)
    log_prob = log_prob_discretised(torch.arange(17), torch.zeros(17).double(), torch.tensor(1e8).double().log(), 17)
    assert log_prob[[0, 16]].exp().tolist() == pytest.approx([0.5, 0.5], abs=1e-4)


def test_unscaled_betas_do_not_finish_in_500_steps():
    """Linear 1e-4 … 0.02 without scaling: L_T = 4.6e-3 bits/dim at T = 500 and 2.9e-5 at T = 1000, with x² = 1."""
    unscaled, scaled = get("schedules", "linear")(scale=False), get("schedules", "linear")()
    x_0 = torch.ones(1, 1, 4, 4)

    def l_t(schedule, num_timesteps):
        return float(bits_per_dim(prior_kl(x_0, schedule.process(num_timesteps)), 16))

    assert l_t(unscaled, 500) == pytest.approx(4.6e-3, abs=0.05e-3)
    assert l_t(unscaled, 1000) == l_t(scaled, 1000) == pytest.approx(2.911e-5, abs=0.0005e-5)
    assert l_t(scaled, 500) < 3e-5
