"""suites/gaussian_oracle.toml: every term of the bound, as the whole pipeline computes it, against its formula.

The oracle below uses nothing but the formulas of the forward process and of normal distributions.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import ddpm_bench as db
from tests.support import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

T = 1000
D = 64


def betas(schedule: str) -> np.ndarray:
    if schedule == "linear":
        return np.linspace(1e-4, 0.02, T)
    f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def exact_terms(schedule: str, variance: str, mean: float, deviation: float) -> dict[str, np.ndarray]:
    """Expected terms in bits/dim: kl [T] (entry 0 is l_0), variance_cost [T], mean_cost [T], l_T; spread [T]: the
    standard deviation over images of a term; noise: that of the bound of one image over its noise alone.

    With the optimal network x_0 − x̂_0 = a d − b ε, d = x_0 − m, is normal with the variance C_t = a² s² + b², of which
    a² s² = C_t²/s²: its square has the variance 2 C², that of the mean of two ε at one image C² + (C²/s²)², and over ε
    alone 2 C² − 2 (C²/s²)².
    """
    beta = betas(schedule)
    log_alpha_bar = np.cumsum(np.log1p(-beta))
    alpha_bar, rest = np.exp(log_alpha_bar), -np.expm1(log_alpha_bar)
    before, rest_before = np.r_[1.0, alpha_bar[:-1]], np.r_[0.0, rest[:-1]]
    tilde = rest_before / rest * beta
    c = np.sqrt(before) * beta / rest
    posterior = deviation**2 * rest / (alpha_bar * deviation**2 + rest)
    sigma2 = {"beta": beta, "beta_tilde": tilde, "optimal": tilde + c**2 * posterior}[variance].copy()
    sigma2[0] = posterior[0] if variance == "optimal" else tilde[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance_cost = 0.5 * (tilde / sigma2 - 1 + np.log(sigma2 / tilde))
    mean_cost = c**2 * posterior / (2 * sigma2)
    variance_cost[0] = mean_cost[0] = 0.0
    kl = variance_cost + mean_cost
    kl[0] = 0.5 * math.log(2 * math.pi * sigma2[0]) + posterior[0] / (2 * sigma2[0])
    weight, shared = c**2 / (2 * sigma2), posterior**2 / deviation**2
    spread = weight * np.sqrt(2 * posterior**2 / D)
    spread[0] = weight[0] * math.sqrt((posterior[0] ** 2 + shared[0] ** 2) / D)
    noise = weight**2 * (2 * posterior**2 - 2 * shared**2) / D
    noise[0] /= 2
    square = mean**2 + deviation**2
    l_T = 0.5 * (alpha_bar[-1] * square - alpha_bar[-1] - np.log(rest[-1]))
    bits = 1 / math.log(2)
    return {
        "kl": kl * bits, "variance_cost": variance_cost * bits, "mean_cost": mean_cost * bits, "l_T": l_T * bits,
        "spread": spread * bits, "noise": math.sqrt(noise.sum()) * bits, "log_sigma2": np.log(sigma2),
        "epsilon_mse": alpha_bar * deviation**2 / (alpha_bar * deviation**2 + rest),
    }  # fmt: skip


def end(schedule: str, mean: float, deviation: float) -> float:
    """KL(q(x_T) ‖ N(0, 1)) in bits."""
    alpha_bar = math.exp(np.sum(np.log1p(-betas(schedule))))
    excess = alpha_bar * (deviation**2 - 1)
    return 0.5 * (excess - math.log1p(excess) + alpha_bar * mean**2) / math.log(2)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.5, 0.25), (-1.0, 2.0)])
def test_every_term_has_its_formula(tmp_path: Path, mean: float, deviation: float) -> None:
    overrides = [
        f"dataset.mean={mean}", f"dataset.standard_deviation={deviation}",
        'matrix.variance=["beta", "beta_tilde", "optimal"]',
    ]  # fmt: skip
    suite = db.load_suite(REPOSITORY / "suites" / "gaussian_oracle.toml", overrides=overrides)
    outcome = db.run(suite, runs=tmp_path / "runs", reports=tmp_path / "reports")
    assert [cell.status for cell in outcome.results.cells] == ["done"] * 6
    for cell in outcome.results.cells:
        want = exact_terms(cell.axes["schedule"], cell.axes["variance"], mean, deviation)
        metrics = cell.metrics
        count = metrics["bits_per_dim"]["num_samples"]
        assert count * D >= 1e5
        table = outcome.results.timestep_kl.query("cell_id == @cell.id").sort_values("t")
        z = (table["kl"].to_numpy() - want["kl"]) / (want["spread"] / math.sqrt(count))
        # The ε draws of different t are independent, so z is 1000 independent values of about N(0, 1): the largest is
        # about 3.3 and exceeds 5 with probability 6e-4. Its mean square is 1 ± √(2/1000).
        assert np.abs(z).max() < 5
        assert 0.4 < math.sqrt(np.mean(z**2)) < 2.5
        stated = table["stderr"].to_numpy() / (want["spread"] / math.sqrt(count))
        assert np.abs(stated - 1).max() < 0.15  # √(1/2n) = 1.6 % (a χ² over 64 dimensions is nearly normal), times 9
        total = want["kl"].sum() + want["l_T"]
        assert abs(metrics["bits_per_dim"]["value"] - total) < 4 * metrics["bits_per_dim"]["stderr"]
        # n squares of about normal contrasts: √(1/2n) = 1.6 %, a few of those, and what neighbouring t differ in.
        assert metrics["bits_per_dim"]["stderr_noise"] * math.sqrt(count) == pytest.approx(want["noise"], rel=0.08)
        if cell.axes["variance"] == "optimal":
            # Fitted to 256 other images: m_t is known to √(2/(256 · 64)) = 1.1 %, seven of those for the worst of 1000;
            # in the bound only the square of that counts. Its bound is the entropy, and KL(q(x_T) ‖ N(0, 1)) above it.
            assert np.abs(table["log_sigma2"].to_numpy() - want["log_sigma2"]).max() < 0.08
            entropy = 0.5 * math.log2(2 * math.pi * math.e * deviation**2)
            assert abs(metrics["bits_per_dim"]["value"] - entropy - end(cell.axes["schedule"], mean, deviation)) < (
                4 * metrics["bits_per_dim"]["stderr"]
            )
        else:
            assert np.abs(table["log_sigma2"].to_numpy() - want["log_sigma2"]).max() < 1e-9
            costs = metrics["bits_per_dim_variance_cost"]["value"]
            assert costs == pytest.approx(want["variance_cost"].sum(), abs=1e-9)
            assert metrics["bits_per_dim_mean_cost"]["value"] == pytest.approx(
                want["mean_cost"].sum(), abs=4 * metrics["bits_per_dim_mean_cost"]["stderr"]
            )
        # L_T is linear in |x_0|², whose mean over images varies by this much: times 5
        wobble = math.sqrt((2 * deviation**4 + 4 * mean**2 * deviation**2) / (count * D))
        scale = 0.5 * np.exp(np.cumsum(np.log1p(-betas(cell.axes["schedule"]))))[-1] / math.log(2)
        assert metrics["bits_per_dim_l_T"]["value"] == pytest.approx(want["l_T"], abs=5 * scale * wobble + 1e-15)
        parts = [metrics[f"bits_per_dim_{name}"]["value"] for name in ("l_0", "mean_cost", "variance_cost", "l_T")]
        assert sum(parts) == pytest.approx(metrics["bits_per_dim"]["value"], abs=1e-9)
        error = table["epsilon_mse"].to_numpy() / want["epsilon_mse"] - 1
        assert np.abs(error).max() < 5 * math.sqrt(2 / (count * D))  # a χ² with n·D degrees of freedom, relative
