"""The fitted variance: what it is, what it minimises, and that it costs no network call."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ddpm_bench.datasets.digits import Digits
from ddpm_bench.diffusion.predictions.x0 import X0
from ddpm_bench.diffusion.variances.optimal import Optimal
from ddpm_bench.networks.unet import Unet
from ddpm_bench.registry import get
from ddpm_bench.spec import Reverse
from ddpm_bench.store import Artifact
from tests.oracles import log_bin_probability, log_bin_probability_tanh
from tests.stages.slow_bound import SlowBound
from tests.stages.slow_chain import full_chain, kept_chain
from tests.stages.workbench import Bench, network, reverse, table, training, with_head

T = 8
CHAINS: list[tuple[int, ...] | None] = [None, (1, 3, 6, 8), (2, 4, 6, 8), (8,)]


def optimal(**changes: Any) -> Reverse:
    return reverse(variance=Optimal(), **changes)


def arrays(found: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """ln σ² and the mean squared errors behind it."""
    assert {file.name for file in found.path.glob("*.npy")} == {"log_sigma2.npy", "mse.npy"}
    log_sigma2, mse = (np.load(found.path / f"{name}.npy") for name in ("log_sigma2", "mse"))
    assert log_sigma2.dtype == mse.dtype == np.float64
    assert log_sigma2.shape == mse.shape
    return log_sigma2, mse


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Artifact, Artifact]:
    """A bench, a network with a head, and its data: few validation images, so that a fit is far from its limit."""
    bench = Bench(tmp_path_factory.mktemp("ready"))
    data = bench.data(side=2, validation=5, test=4)
    return bench, bench.model(data, with_head(timesteps=T)), data


@pytest.mark.parametrize("thresholding", ["clip", "none"])
@pytest.mark.parametrize("kept", CHAINS)
def test_against_the_transcription(
    ready: tuple[Bench, Artifact, Artifact], kept: tuple[int, ...] | None, thresholding: str
) -> None:
    bench, model, data = ready
    values = np.load(data.path / "validation.npy")
    slow = SlowBound(network(model), "epsilon", "cosine", 17, values, split="validation")
    log_sigma2, mse = arrays(bench.fit(model, data, optimal(timesteps=kept, thresholding=thresholding)))
    steps = list(kept or range(1, T + 1))
    every = [slow.terms(index, steps, full_chain("cosine", T).beta, False) for index in range(5)]
    errors = [terms.clipped_error if thresholding == "clip" else terms.raw_error for terms in every]
    # Float32 at the network: 1e-6 of x̂_0, up to 100-fold at the last steps, twice for the square.
    np.testing.assert_allclose(mse, np.mean(errors, axis=0), rtol=5e-4)
    want = np.log(slow.fitted(steps, thresholding == "clip"))
    np.testing.assert_allclose(log_sigma2[1:], want[1:], atol=5e-4)
    # A minimum: the function is flat there, so its place is known to the root of the error of its value.
    np.testing.assert_allclose(log_sigma2[0], want[0], atol=5e-3)


@pytest.mark.parametrize(
    ("levels", "decoder"), [(17, log_bin_probability), (256, log_bin_probability), (17, log_bin_probability_tanh)]
)
def test_the_first_step_against_a_grid(tmp_path: Path, levels: int, decoder: Any) -> None:
    """σ²_1 against every value of a grid: the decoder by quadrature, or that of published code."""
    bench = Bench(tmp_path)
    data = bench.data(levels=levels, side=2, validation=4)
    model = bench.model(data, training(timesteps=T))
    name = "tanh" if decoder is log_bin_probability_tanh else "exact"
    log_sigma2, mse = arrays(bench.fit(model, data, optimal(), decoder=name))
    means = np.load(bench.score(model, data, split="validation")[0].path / "x_0_first.npy").astype(np.float64)
    pairs = [
        (int(level), float(mean))
        for image, draws in zip(np.load(data.path / "validation.npy"), means.clip(-1, 1), strict=True)
        for draw in draws
        for level, mean in zip(image.flat, draw.flat, strict=True)
    ]

    def mean_l_0(log_variance: float) -> float:
        return -sum(decoder(*pair, math.exp(log_variance), levels) for pair in pairs) / len(pairs)

    at_fit = mean_l_0(log_sigma2[0])
    grid = np.linspace(math.log(1e-6), math.log(4.0), 150)
    values = [mean_l_0(x) for x in grid]
    assert at_fit <= min(values) + 1e-9
    assert abs(grid[int(np.argmin(values))] - log_sigma2[0]) < grid[1] - grid[0]
    if name == "tanh":  # and the other decoder has another optimum
        assert abs(log_sigma2[0] - np.load(bench.fit(model, data, optimal()).path / "log_sigma2.npy")[0]) > 1e-5
    assert mse[0] == pytest.approx(np.mean([(2 * v / (levels - 1) - 1 - m) ** 2 for v, m in pairs]), rel=1e-5)


def test_for_a_density_the_first_variance_is_the_error(tmp_path: Path) -> None:
    """½ ln σ² + m/(2σ²) is smallest at σ² = m."""
    bench = Bench(tmp_path)
    data = bench.data(levels=None, validation=20)
    model = bench.model(data, training(timesteps=T))
    for kept in CHAINS:
        log_sigma2, mse = arrays(bench.fit(model, data, optimal(thresholding="none", timesteps=kept)))
        # Brent's method on a parabola of second derivative ½: √(4 · 1e-16 · value) of its place, the value below 20;
        # the error in float32 differs from that of the decoder in float64 by 1e-7.
        assert log_sigma2[0] == pytest.approx(math.log(mse[0]), abs=1e-6)
    assert mse[0] > 4  # a chain of one step with a random network: far outside of the range of images


@pytest.mark.parametrize("thresholding", ["clip", "none"])
@pytest.mark.parametrize("kept", CHAINS)
def test_no_fixed_variance_is_better_on_the_fit_split(
    ready: tuple[Bench, Artifact, Artifact], kept: tuple[int, ...] | None, thresholding: str
) -> None:
    """On the images and the noise of the fit: (D/2) ln(1 + c² m/β̃) at every t ≥ 2, and no L_0 is smaller."""
    bench, model, data = ready

    def rows(variance: str, first_step: str = "beta_tilde_2") -> list[dict[str, Any]]:
        used = reverse(
            variance=get("variances", variance)(), timesteps=kept, thresholding=thresholding, first_step=first_step
        )
        return table(bench.likelihood(model, data, used, split="validation").path / "timesteps.csv")

    best = rows("optimal")
    others = [rows("beta"), rows("beta", "beta_1"), rows("beta_tilde"), rows("beta_tilde", "beta_1")]
    strictly = 0
    for i, row in enumerate(best):
        for other in others:
            # An exact inequality between sums of float64 that are rounded apart; at the first step the minimum of a
            # search, which ends within 1e-9 of its place.
            assert row["kl"] <= other[i]["kl"] * (1 + 1e-12)
            strictly += row["kl"] < 0.999 * other[i]["kl"]
    assert strictly > len(best)
    mse = arrays(bench.fit(model, data, optimal(timesteps=kept, thresholding=thresholding)))[1]
    walked = kept_chain("cosine", T, list(kept or range(1, T + 1)))
    for i in range(1, len(best)):
        gain = 0.5 * math.log2(1 + walked.posterior_x_0[i] ** 2 * mse[i] / walked.posterior_variance[i])
        assert best[i]["kl"] == pytest.approx(gain, rel=1e-9)


def test_no_bump_of_the_fitted_variance_is_better(ready: tuple[Bench, Artifact, Artifact]) -> None:
    """Brute force at each step: σ² a little smaller or larger costs more on the fit split."""
    bench, model, data = ready
    log_sigma2, mse = arrays(bench.fit(model, data, optimal()))
    walked = full_chain("cosine", T)
    for i in range(1, T):
        q, m = walked.posterior_variance[i], walked.posterior_x_0[i] ** 2 * mse[i]

        def cost(log_variance: float, q: float = q, m: float = m) -> float:
            p = math.exp(log_variance)
            return 0.5 * (q / p - 1 + math.log(p / q)) + m / (2 * p)

        at = cost(log_sigma2[i])
        for bump in (0.3, 0.01, 1e-3):
            assert at < cost(log_sigma2[i] - bump)
            assert at < cost(log_sigma2[i] + bump)


def test_a_fit_is_not_of_the_split_it_is_used_on(ready: tuple[Bench, Artifact, Artifact]) -> None:
    """On other images the general KL with the fitted σ²: c² m' ≠ c² m, so it is not (D/2) ln(1 + c² m'/β̃)."""
    bench, model, data = ready
    rows = table(bench.likelihood(model, data, optimal()).path / "timesteps.csv")
    fitted, mse = arrays(bench.fit(model, data, optimal()))
    walked = full_chain("cosine", T)
    assert [row["log_sigma2"] for row in rows] == fitted.tolist()
    for i in range(1, T):
        q, p, m = walked.posterior_variance[i], math.exp(fitted[i]), walked.posterior_x_0[i] ** 2 * rows[i]["x0_mse"]
        nats = 0.5 * (q / p - 1 + math.log(p / q)) + m / (2 * p)
        assert rows[i]["kl"] * math.log(2) == pytest.approx(nats, rel=1e-6)
    assert np.abs(np.array([row["x0_mse"] for row in rows]) / mse - 1).max() > 0.05


def test_more_images_change_the_fit(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    small, large = (bench.data(side=2, validation=count) for count in (5, 60))
    first, second = (
        arrays(bench.fit(bench.model(data, training(timesteps=T)), data, optimal()))[0] for data in (small, large)
    )
    assert np.abs(first - second).max() > 1e-3


class Everywhere(nn.Module):
    """x̂_0 = the same image, whatever x_t."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x_t, self.value)


@pytest.mark.parametrize("kept", CHAINS)
def test_data_of_a_single_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: tuple[int, ...] | None) -> None:
    """Every image is the same and known: m = 0, σ²* = β̃, every KL is 0, and the network costs nothing."""
    monkeypatch.setattr(Unet, "build", lambda self, problem: Everywhere(2 * 5 / 16 - 1))
    bench = Bench(tmp_path)
    point = np.full((6, 1, 4, 4), 5, np.uint8)
    data = bench.data_of(Digits(), {"train": point, "validation": point, "test": point})
    model = bench.model(data, training(timesteps=T, prediction=X0()))
    log_sigma2, mse = arrays(bench.fit(model, data, optimal(timesteps=kept)))
    assert mse.tolist() == [0.0] * len(mse)
    for variance in ("beta_tilde", "optimal"):
        if kept == (8,) and variance == "beta_tilde":
            continue  # a chain of one step has σ²_1 = β_1 and no other
        found = bench.likelihood(model, data, reverse(variance=get("variances", variance)(), timesteps=kept))
        terms, rows = np.load(found.path / "per_image.npy"), table(found.path / "timesteps.csv")
        assert np.abs(terms[:, 1:3]).max() < 1e-13  # float64 roundings of ln β̃ − ln β̃
        assert [row["x0_mse"] for row in rows] == [0.0] * len(rows)
        assert all(row["stderr"] is not None and row["stderr"] < 1e-12 for row in rows)  # known to be 0
        assert rows[0]["distortion"] == 0
    walked = kept_chain("cosine", T, list(kept or range(1, T + 1)))
    np.testing.assert_allclose(np.exp(log_sigma2[1:]), walked.posterior_variance[1:], rtol=1e-12)
    # σ²_1 → 0 would be best; what is taken (last: optimal) leaves L_0 at 1e-5 of what the widest decoder costs.
    assert 0 <= terms[0, 0] < 1e-4
