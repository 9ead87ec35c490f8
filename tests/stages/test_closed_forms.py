"""Networks with known costs, through the stages score, fit and likelihood: what can only be drawn there is compared
within its stated error, what needs no draw exactly."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_bench.networks.unet import Unet
from ddpm_bench.registry import get
from ddpm_bench.stages import score
from ddpm_bench.store import Artifact
from tests.laws import FINITE, MIXTURE, TWO_POINTS, Law, kl_of_the_end, normal, over_x_t, remaining
from tests.oracles import Chain, log_bin_probability
from tests.stages.closed_networks import bits, data_of, use
from tests.stages.permuted import Permuted, PermutedStream, permuted
from tests.stages.slow_chain import full_chain, kept_chain
from tests.stages.workbench import Bench, reverse, table, training, with_head

T = 40
IMAGES = 100
GAUSSIANS = [normal(0.7, 0.25), normal(-3.0, 1.0), normal(0.5, 2.0)]
PREDICTIONS = ("epsilon", "x0", "v", "mu")
VARIANCES = ("beta", "beta_tilde", "optimal", "learned_range")


def used(law: Law, variance: str, **changes: Any) -> Any:
    thresholding = "none" if any(law.deviations) else "clip"
    return reverse(variance=get("variances", variance)(), thresholding=thresholding, **changes)


def expected_terms(law: Law, variance: str, chain: Chain) -> tuple[list[float], list[float]]:
    """(variance cost, mean cost) of each step in nats per dimension, from integrals; 0 at the first one.

    With the best σ² per value, β̃ + c² Var(x_0 | x_t), both follow x_t.
    """
    error = remaining(law, chain)
    q, c = np.array(chain.posterior_variance), np.array(chain.posterior_x_0)
    if variance == "learned_range":

        def spread(i: int, left: np.ndarray) -> np.ndarray:
            return q[max(i, 1)] + c[i] ** 2 * left

        parts = (
            over_x_t(
                law, chain, lambda i, mean, v: 0.5 * (q[i] / spread(i, v) - 1 + np.log(spread(i, v) / q[max(i, 1)]))
            ),
            over_x_t(law, chain, lambda i, mean, v: 0.5 * c[i] ** 2 * v / spread(i, v)),
        )
        return [0.0, *parts[0][1:]], [0.0, *parts[1][1:]]
    sigma2 = {"beta": np.array(chain.beta), "beta_tilde": q, "optimal": q + c**2 * error}[variance]
    later = slice(1, None)
    varied = 0.5 * (q[later] / sigma2[later] - 1 + np.log(sigma2[later] / q[later]))
    return [0.0, *varied], [0.0, *(c[later] ** 2 * error[later] / (2 * sigma2[later]))]


def estimates(found: Artifact) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((found.path / "estimates.json").read_text())
    return read


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("law", [*GAUSSIANS, MIXTURE, FINITE, TWO_POINTS])
def test_every_term_has_its_integral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, law: Law, variance: str) -> None:
    use(monkeypatch, law)
    bench, chain = Bench(tmp_path), full_chain("cosine", T)
    data = data_of(bench, law)
    model = bench.model(data, with_head(timesteps=T))
    found = bench.likelihood(model, data, used(law, variance))
    varied, mean = expected_terms(law, variance, chain)
    rows, error = table(found.path / "timesteps.csv"), remaining(law, chain)
    scores = []
    for i, row in enumerate(rows):
        stated = row["stderr"]
        assert stated is not None
        if i == 0:
            continue
        want = bits(varied[i] + mean[i])
        # Fitted to 100 other images: m is known to √(2/1600), which costs a quarter of its square, twice over here.
        slack = 2 * 0.25 * 2 / 1600 if variance == "optimal" else 0.0
        # Where the data are known but for e^-20 no image of a hundred shows an error: nothing to divide by.
        if error[i] > 1e-4:
            scores.append((row["kl"] - want) / (stated + slack))
        if variance in ("beta", "beta_tilde"):
            assert row["kl_variance"] == pytest.approx(bits(varied[i]), rel=1e-9, abs=1e-12)
    # The noise of different t is independent, x_0 is not: a few dozen values of about N(0, 1).
    assert len(scores) > 15
    assert max(map(abs, scores)) < 5
    assert math.sqrt(np.mean(np.square(scores))) < 2.5
    record = estimates(found)
    total = [bits(sum(part)) for part in (mean, varied)]
    for name, want in zip(("_mean_cost", "_variance_cost"), total, strict=True):
        # The variance cost of a fit has the fit's error, no other; that of a head the rounding of v in float32.
        slack = 5 * 0.5 * math.sqrt(2 / 1600) * sum(mean) if variance == "optimal" else 1e-6
        assert abs(record[name]["value"] - want) < 4 * record[name]["stderr"] + bits(slack)


@pytest.mark.parametrize("law", GAUSSIANS)
@pytest.mark.parametrize("variance", ["optimal", "learned_range"])
def test_with_the_best_variance_the_bound_of_normal_data_is_their_entropy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, law: Law, variance: str
) -> None:
    """bound = entropy + KL(q(x_T) ‖ N(0, 1)), within the error over images; the first step included."""
    use(monkeypatch, law)
    bench, chain = Bench(tmp_path), full_chain("cosine", T)
    data = data_of(bench, law)
    total = estimates(bench.likelihood(bench.model(data, with_head(timesteps=T)), data, used(law, variance)))[""]
    want = bits(law.entropy() + kl_of_the_end(law, chain.alpha_bar[-1]))
    if variance == "learned_range":  # its σ²_1 is β̃_2 + C_1 instead of C_1
        left, first = remaining(law, chain)[0], chain.posterior_variance[1]
        want += bits(0.5 * (math.log1p(first / left) + left / (left + first) - 1))
    slack = T * 0.25 * 2 / 1600 if variance == "optimal" else 0.0  # each step's fit, as above
    assert abs(total["value"] - want) < 4 * total["stderr"] + slack
    assert total["stderr"] < 0.1


@pytest.mark.parametrize("law", [GAUSSIANS[0], GAUSSIANS[2], FINITE])
def test_what_is_predicted_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, law: Law) -> None:
    use(monkeypatch, law)
    bench = Bench(tmp_path)
    data = data_of(bench, law, test=20)
    for variance, kept in itertools.product(VARIANCES, (None, (1, 14, 27, 40))):
        if variance == "learned_range" and kept:
            continue  # the head of these networks knows the full chain alone
        found = [
            np.load(
                bench.likelihood(
                    bench.model(data, with_head(timesteps=T, prediction=get("predictions", name)())), data,
                    used(law, variance, timesteps=kept),
                ).path / "per_image.npy"
            )
            for name in PREDICTIONS
        ]  # fmt: skip
        for other in found[1:]:
            # x_t, ε̂ and x̂_0 are float32: 1e-7 of x̂_0, divided by √ᾱ (0.02 at the least where an error matters) or
            # by an error as small as 0.01, twice for the square.
            np.testing.assert_allclose(other, found[0], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("law", [GAUSSIANS[0], MIXTURE, FINITE])
def test_no_variance_beats_the_best_one_and_a_head_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, law: Law
) -> None:
    """E ½ ln(1 + c² Var/β̃) ≤ ½ ln(1 + c² E Var/β̃): a σ² for each value gains where the variances differ."""
    use(monkeypatch, law)
    bench = Bench(tmp_path)
    data = data_of(bench, law)
    model = bench.model(data, with_head(timesteps=T))
    bounds = {
        name: np.load(bench.likelihood(model, data, used(law, name)).path / "per_image.npy")[:, 1:3].sum(1)
        for name in VARIANCES
    }
    for name in ("beta", "beta_tilde", "optimal"):
        gain = bounds[name] - bounds["learned_range"]
        error = gain.std(ddof=1) / math.sqrt(IMAGES)
        if name == "optimal" and law in GAUSSIANS:  # one variance for all: nothing to gain but the fit's error
            assert abs(gain.mean()) < 4 * error + T * 0.5 * 2 / 1600
        else:
            assert gain.mean() > 4 * error


def test_a_chain_of_one_step_of_normal_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T = 1: bound = L_T + L_0, nothing between; σ²_1 = β_1, or the error at t = 1, which costs the entropy."""
    law = normal(0.7, 0.25)
    use(monkeypatch, law)
    bench, chain = Bench(tmp_path), full_chain("cosine", 1)
    data = data_of(bench, law, validation=1000)
    model = bench.model(data, training(timesteps=1, prediction=get("predictions", "x0")()))
    left = remaining(law, chain)[0]
    for variance in ("beta", "beta_tilde", "optimal"):
        record = estimates(bench.likelihood(model, data, used(law, variance)))
        assert record["_mean_cost"]["value"] == record["_variance_cost"]["value"] == 0
        sigma2 = left if variance == "optimal" else chain.beta[0]
        want = bits(0.5 * math.log(2 * math.pi * sigma2) + left / (2 * sigma2))
        assert abs(record["_l_0"]["value"] - want) < 4 * record["_l_0"]["stderr"]
    total = record[""]  # the last: optimal
    assert abs(total["value"] - bits(law.entropy() + kl_of_the_end(law, chain.alpha_bar[0]))) < 4 * total["stderr"]


@pytest.mark.parametrize("kept", [None, (1, 14, 27, 40), (10, 20, 30, 40), (40,)])
def test_the_network_part_is_what_a_perfect_network_would_not_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: tuple[int, ...] | None
) -> None:
    """Bound minus network part: L_T, the variance cost and the L_0 of x̂_0 = x_0, by quadrature of one bin a pixel."""
    use(monkeypatch, FINITE, error=0.1)
    bench = Bench(tmp_path)
    data = data_of(bench, FINITE, test=7)
    model = bench.model(data, training(timesteps=T))
    for variance in ("beta", "optimal"):
        setting = used(FINITE, variance, timesteps=kept)
        record = estimates(bench.likelihood(model, data, setting))
        walked = kept_chain("cosine", T, list(kept or range(1, T + 1)))
        first = walked.posterior_variance[1] if len(walked.beta) > 1 else walked.beta[0]
        if variance == "optimal":
            first = math.exp(np.load(bench.fit(model, data, setting).path / "log_sigma2.npy")[0])
        levels = np.load(data.path / "test.npy").flatten().tolist()
        perfect = -np.mean([log_bin_probability(v, v / 8 - 1, first, 17) for v in levels])
        rest = record[""]["value"] - record["_network"]["value"]
        want = record["_l_T"]["value"] + record["_variance_cost"]["value"] + bits(perfect)
        assert rest == pytest.approx(want, abs=1e-6)
        assert record["_network"]["num_samples"] == 7


def test_a_perfect_network_pays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single value everywhere: the posterior mean is the value, whatever x_t is."""
    law = Law((1.0,), (0.25,), (0.0,))
    use(monkeypatch, law)
    bench = Bench(tmp_path)
    data = data_of(bench, law, test=5, validation=5, train=5)
    model = bench.model(data, with_head(timesteps=T))  # v = −1: β̃
    for variance in ("beta", "beta_tilde", "optimal", "learned_range"):
        record = estimates(bench.likelihood(model, data, used(law, variance)))
        # x̂_0 passes float32 on its way through ε: 1e-7/√ᾱ of it, squared.
        assert abs(record["_network"]["value"]) < 1e-6
        assert record["_mean_cost"]["value"] < 1e-6
        if variance != "beta":
            assert record["_variance_cost"]["value"] < 1e-6
        else:
            assert record["_variance_cost"]["value"] > 0.1


def test_the_order_of_pixels_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, network and noise with their pixels in another order: the same bound of every image."""
    build = Unet.build
    bounds = []
    for name, active in (("plain", False), ("permuted", True)):
        bench = Bench(tmp_path / name)
        plain = bench.data(side=4, test=5)
        data = plain
        if active:
            splits = {
                split: permuted(np.load(plain.path / f"{split}.npy")) for split in ("train", "validation", "test")
            }
            data = bench.data_of(get("datasets", "digits")(), splits)
            monkeypatch.setattr(Unet, "build", lambda self, problem: Permuted(build(self, problem)))
            monkeypatch.setattr(score, "Stream", PermutedStream)
            assert not np.array_equal(np.load(data.path / "test.npy"), np.load(plain.path / "test.npy"))
        model = bench.model(data, with_head(timesteps=8))
        bounds.append([
            np.load(bench.likelihood(model, data, reverse(variance=get("variances", v)())).path / "per_image.npy")
            for v in VARIANCES
        ])  # fmt: skip
    for one, other in zip(*bounds, strict=True):
        # The same float32 numbers in other places: sums in another order, 1e-6, and a fit that follows them.
        np.testing.assert_allclose(one, other, rtol=1e-4)
