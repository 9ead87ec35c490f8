"""The bound against a slow transcription of its formulas: image by image, pixel by pixel, t by t."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ddpm_bench.diffusion.schedules.cosine import Cosine
from ddpm_bench.diffusion.schedules.linear import Linear
from ddpm_bench.registry import get
from ddpm_bench.spec import Reverse
from ddpm_bench.stages import _model
from ddpm_bench.store import Artifact
from tests.oracles import Chain, log_bin_probability
from tests.stages.slow_chain import call, full_chain, kept_chain, noise, sigma2, x_0_hat
from tests.stages.workbench import Bench, network, reverse, table, training

T = 8
IMAGES = 3
RESPACINGS: dict[str, list[int]] = {
    # science: linspace round(1 + i(T−1)/(S−1)); leading 1 + i⌊T/S⌋; trailing round(T − iT/S), worked out by hand
    "all": [1, 2, 3, 4, 5, 6, 7, 8],
    "linspace 4": [1, 3, 6, 8],
    "leading 3": [1, 3, 5],
    "trailing 4": [2, 4, 6, 8],
    "one step": [8],
}
PREDICTIONS = ("epsilon", "x0", "mu", "v")
TERMS = ("l_0", "mean_cost", "variance_cost", "l_T")


def score(bench: Bench, model: Artifact, data: Artifact, first: int | None = None, **changes: Any) -> Artifact:
    spec = {"split": "test", "images": IMAGES, "weights": "ema", "chunk": 0, "first": first, **changes}
    return bench.run("score", spec, {"train": model, "data": data})


def likelihood(bench: Bench, model: Artifact, data: Artifact, used: Reverse, **changes: Any) -> Artifact:
    inputs: dict[str, Any] = {"train": model, "data": data, "score": [score(bench, model, data, **changes)]}
    if used.timesteps is not None and used.timesteps[0] != 1:
        inputs["first"] = [score(bench, model, data, used.timesteps[0], **changes)]
    spec = {"reverse": used, "split": "test", "images": IMAGES, "estimator": "full", "decoder": "exact"}
    return bench.run("likelihood", spec, inputs)


class SlowBound:
    """The bound of one network on images of one split."""

    def __init__(self, net: nn.Module, prediction: str, schedule: str, levels: int | None, values: np.ndarray):
        self.net, self.prediction, self.schedule, self.levels = net, prediction, schedule, levels
        self.full, self.values = full_chain(schedule, T), values
        self._outputs: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def image(self, index: int) -> np.ndarray:
        """x_0."""
        values = self.values[index].astype(np.float64)
        return values if self.levels is None else 2 * values / (self.levels - 1) - 1

    def x_t_and_guess(self, index: int, t: int) -> tuple[np.ndarray, np.ndarray]:
        """x_t at the t of the full chain, and x̂_0 there without thresholding."""
        if (index, t) not in self._outputs:
            x_0, a, b = self.image(index), self.full.alpha_bar[t - 1], self.full.one_minus_alpha_bar[t - 1]
            x_t = math.sqrt(a) * x_0 + math.sqrt(b) * noise(0, "score test", t, index, x_0.shape)
            guess = x_0_hat(self.prediction, call(self.net, x_t, t), x_t, t, self.full)
            self._outputs[index, t] = x_t, guess
        return self._outputs[index, t]

    def terms(self, index: int, kept: list[int], variance: str, first_step: str, clip: bool) -> dict[str, Any]:
        """Terms in nats, and the KL at each kept t after the first one."""
        walked = kept_chain(self.schedule, T, kept)
        table, x_0 = sigma2(variance, first_step, walked), self.image(index)
        mean_cost, variance_cost, kl, l_0 = 0.0, 0.0, [], 0.0
        for i, t in enumerate(kept):
            x_t, guess = self.x_t_and_guess(index, t)
            guess = np.clip(guess, -1, 1) if clip else guess
            q_mean = walked.posterior_x_0[i] * x_0 + walked.posterior_x_t[i] * x_t
            p_mean = walked.posterior_x_0[i] * guess + walked.posterior_x_t[i] * x_t
            if i == 0:
                l_0 = self._decoder(index, p_mean, table[0])
                continue
            q, p = walked.posterior_variance[i], table[i]
            pixels = [
                (0.5 * (math.log(p) - math.log(q) + q / p - 1), (a - b) ** 2 / (2 * p))
                for a, b in zip(q_mean.flat, p_mean.flat, strict=True)
            ]
            variance_cost += sum(v for v, _ in pixels)
            mean_cost += sum(m for _, m in pixels)
            kl.append(sum(v + m for v, m in pixels))
        a, b = walked.alpha_bar[-1], walked.one_minus_alpha_bar[-1]
        l_T = sum(0.5 * (a * x * x + b - 1 - math.log(b)) for x in x_0.flat)  # KL(N(√a x, b) ‖ N(0, 1))
        return {"l_0": l_0, "mean_cost": mean_cost, "variance_cost": variance_cost, "l_T": l_T, "kl": kl}

    def _decoder(self, index: int, mean: np.ndarray, variance: float) -> float:
        if self.levels is None:
            residual = (self.image(index) - mean).flat
            return sum(0.5 * math.log(2 * math.pi * variance) + r * r / (2 * variance) for r in residual)
        pairs = zip(self.values[index].flat, mean.flat, strict=True)
        return -sum(log_bin_probability(int(level), float(m), variance, self.levels) for level, m in pairs)


def in_bits(nats: float, x_0: np.ndarray) -> float:
    return nats / (x_0.size * math.log(2))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_term_of_every_reverse_process(tmp_path: Path, prediction: str, schedule: str) -> None:
    bench = Bench(tmp_path)
    chosen = training(
        timesteps=T, prediction=get("predictions", prediction)(),
        schedule=Cosine() if schedule == "cosine" else Linear(scale=False),
    )  # fmt: skip
    data = bench.data(test=IMAGES, side=2)
    model = bench.model(data, chosen)
    slow = SlowBound(network(model), prediction, schedule, 17, np.load(data.path / "test.npy"))
    combinations = itertools.product(RESPACINGS.values(), ("beta", "beta_tilde"), ("clip", "none"))
    seen = set()
    for i, (kept, variance, thresholding) in enumerate(combinations):
        if len(kept) == 1 and variance == "beta_tilde":
            continue  # β̃ of a single step is zero: σ²_1 = β_1 for either
        first_step = ("beta_tilde_2", "beta_1")[i // 2 % 2]
        used = reverse(
            variance=get("variances", variance)(), first_step=first_step, thresholding=thresholding,
            timesteps=None if len(kept) == T else tuple(kept),
        )  # fmt: skip
        found = likelihood(bench, model, data, used)
        got = np.load(found.path / "per_image.npy")
        assert got.shape == (IMAGES, 4)
        assert got.dtype == np.float64
        for index in range(IMAGES):
            want = slow.terms(index, kept, variance, first_step, thresholding == "clip")
            for column, name in enumerate(TERMS):
                # Float32 at the network and in x_t: 1e-6 of x̂_0, amplified by up to 1/√ᾱ_T = 100 (cosine, ε) and
                # doubled by the square. Variance cost and L_T are float64 throughout (x_0 is float32: 1e-7).
                exact = name in ("variance_cost", "l_T")
                want_bits = in_bits(want[name], slow.image(index))
                assert got[index, column] == pytest.approx(want_bits, rel=1e-6 if exact else 5e-4, abs=1e-12), (
                    name, kept, variance, thresholding, first_step,
                )  # fmt: skip
        seen.add(round(got.sum(), 9))
    assert len(seen) >= 17  # the combinations differ (the clip need not matter everywhere)


@pytest.mark.parametrize("levels", [256, None])
def test_other_data(tmp_path: Path, levels: int | None) -> None:
    bench = Bench(tmp_path)
    data = bench.data(levels=levels, channels=3, test=IMAGES, side=2)
    model = bench.model(data, training(timesteps=T))
    slow = SlowBound(network(model), "epsilon", "cosine", levels, np.load(data.path / "test.npy"))
    clip = levels is not None
    used = reverse(thresholding="clip" if clip else "none", timesteps=(2, 5, 8))
    got = np.load(likelihood(bench, model, data, used).path / "per_image.npy")
    for index in range(IMAGES):
        want = slow.terms(index, [2, 5, 8], "beta", "beta_tilde_2", clip)
        for column, name in enumerate(TERMS):
            assert got[index, column] == pytest.approx(in_bits(want[name], slow.image(index)), rel=5e-4)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Artifact, Artifact]:
    """A bench with data and a network that has been scored."""
    bench = Bench(tmp_path_factory.mktemp("ready"))
    data = bench.data(test=IMAGES)
    return bench, bench.model(data, training(timesteps=T)), data


def test_no_network_is_called(ready: tuple[Bench, Artifact, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, model, data = ready
    inputs = {"train": model, "data": data, "score": [score(bench, model, data)]}
    first = {"first": [score(bench, model, data, 2)]}

    def forbidden(*arguments: Any, **more: Any) -> Any:
        raise AssertionError("a network was loaded or called")

    monkeypatch.setattr(_model, "load_file", forbidden)
    monkeypatch.setattr(_model, "load_model", forbidden)
    monkeypatch.setattr(nn.Module, "__call__", forbidden)
    made = 0
    for variance, thresholding, kept in itertools.product(
        ("beta", "beta_tilde"), ("clip", "none"), (None, (1, 3, 6, 8), (2, 4, 6, 8))
    ):
        used = reverse(variance=get("variances", variance)(), thresholding=thresholding, timesteps=kept)
        spec = {"reverse": used, "split": "test", "images": IMAGES, "estimator": "full", "decoder": "exact"}
        found = bench.run("likelihood", spec, {**inputs, **(first if kept and kept[0] == 2 else {})})
        made += (found.path / "estimates.json").is_file()
    assert made == 12
    with pytest.raises(AssertionError, match="was loaded"):
        score(bench, model, data, 3)  # the same guard stops what does need the network


def estimates(found: Artifact) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((found.path / "estimates.json").read_text())
    return read


@pytest.mark.parametrize("kept", [None, (1, 3, 6, 8), (2, 4, 6, 8), (8,)])
def test_files_of_a_likelihood_agree(ready: tuple[Bench, Artifact, Artifact], kept: tuple[int, ...] | None) -> None:
    bench, model, data = ready
    found = likelihood(bench, model, data, reverse(timesteps=kept))
    terms, record, rows = np.load(found.path / "per_image.npy"), estimates(found), table(found.path / "timesteps.csv")
    total = record[""]
    assert total["value"] == pytest.approx(terms.sum() / IMAGES, abs=1e-9)
    assert sum(record[f"_{name}"]["value"] for name in TERMS) == pytest.approx(total["value"], abs=1e-9)
    for column, name in enumerate(TERMS):
        assert record[f"_{name}"]["value"] == pytest.approx(terms[:, column].mean(), abs=1e-12)
        assert record[f"_{name}"]["stderr"] == pytest.approx(_error(terms[:, column]), abs=1e-12)
    assert total["stderr"] == pytest.approx(_error(terms.sum(1)), rel=1e-9)
    assert total["num_samples"] == IMAGES
    # The table is the sum over t of the same numbers.
    assert [row["t"] for row in rows] == list(kept or range(1, T + 1))
    assert rows[0]["kl"] == pytest.approx(record["_l_0"]["value"], abs=1e-12)
    assert rows[0]["stderr"] == pytest.approx(record["_l_0"]["stderr"], abs=1e-12)
    assert (rows[0]["kl_variance"], rows[0]["kl_mean"]) == (None, None)
    assert sum(row["kl"] for row in rows) + record["_l_T"]["value"] == pytest.approx(total["value"], abs=1e-9)
    for row in rows[1:]:
        assert row["kl_variance"] + row["kl_mean"] == pytest.approx(row["kl"], abs=1e-12)
    assert sum(row["kl_mean"] for row in rows[1:]) == pytest.approx(record["_mean_cost"]["value"], abs=1e-9)
    assert sum(row["kl_variance"] for row in rows[1:]) == pytest.approx(record["_variance_cost"]["value"], abs=1e-9)
    assert record["_variance_cost"]["stderr"] == pytest.approx(0, abs=1e-12)  # the same for every image


def _error(values: np.ndarray) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def test_errors_by_timestep(ready: tuple[Bench, Artifact, Artifact]) -> None:
    bench, model, data = ready
    slow = SlowBound(network(model), "epsilon", "cosine", 17, np.load(data.path / "test.npy"))
    rows = table(likelihood(bench, model, data, reverse(timesteps=(2, 5, 8))).path / "timesteps.csv")
    for row, t in zip(rows, (2, 5, 8), strict=True):
        raw, clipped, kl = [], [], []
        for index in range(IMAGES):
            x_t, guess = slow.x_t_and_guess(index, t)
            eps = noise(0, "score test", t, index, x_t.shape)
            raw.append(np.mean((eps - call(slow.net, x_t, t)) ** 2))  # of the raw output, whatever the clip
            clipped.append(np.mean((slow.image(index) - np.clip(guess, -1, 1)) ** 2))
            terms = slow.terms(index, [2, 5, 8], "beta", "beta_tilde_2", True)
            kl.append(in_bits(terms["l_0"] if t == 2 else terms["kl"][(5, 8).index(t)], slow.image(index)))
        assert row["epsilon_mse"] == pytest.approx(np.mean(raw), rel=5e-4)
        assert row["x0_mse"] == pytest.approx(np.mean(clipped), rel=5e-4)
        assert row["kl"] == pytest.approx(np.mean(kl), rel=5e-4)
        assert row["stderr"] == pytest.approx(_error(np.array(kl)), rel=5e-3)


def test_one_image_has_no_standard_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    data = bench.data(test=1)
    model = bench.model(data, training(timesteps=3))
    found = likelihood(bench, model, data, reverse(), images=1)
    assert {record["stderr"] for record in estimates(found).values()} == {None}
    assert {record["num_samples"] for record in estimates(found).values()} == {1}
    assert {row["stderr"] for row in table(found.path / "timesteps.csv")} == {None}


def test_chunks_are_joined_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    data = bench.data(test=130, side=2)
    model = bench.model(data, training(timesteps=3))
    scores = [score(bench, model, data, images=130, chunk=chunk) for chunk in (0, 1)]
    spec = {"reverse": reverse(), "split": "test", "images": 130, "estimator": "full", "decoder": "exact"}
    found = bench.run("likelihood", spec, {"train": model, "data": data, "score": scores})
    got = np.load(found.path / "per_image.npy")
    assert len(got) == 130
    x_0 = 2.0 * np.load(data.path / "test.npy") / 16 - 1
    a, b = (getattr(full_chain("cosine", 3), name)[-1] for name in ("alpha_bar", "one_minus_alpha_bar"))
    l_T = 0.5 * (a * x_0**2 + b - 1 - math.log(b)).mean(axis=(1, 2, 3)) / math.log(2)
    np.testing.assert_allclose(got[:, 3], l_T, rtol=1e-6)  # L_T tells the images apart
    error = np.concatenate([np.load(item.path / "squared_error_clip.npy") for item in scores])
    walked = full_chain("cosine", 3)
    mean = sum(walked.posterior_x_0[i] ** 2 * error[:, i].astype(float) / (2 * walked.beta[i]) for i in (1, 2))
    np.testing.assert_allclose(got[:, 1], mean / (4 * math.log(2)), rtol=1e-6)


def test_the_protocol_says_how(ready: tuple[Bench, Artifact, Artifact]) -> None:
    bench, model, data = ready
    used = reverse(timesteps=(2, 5, 8), first_step="beta_1")
    assert estimates(likelihood(bench, model, data, used))[""]["protocol"] == {
        "split": "test", "images": IMAGES, "estimator": "full", "decoder": "exact", "levels": 17,
        "noise_draws_per_t": 1, "standard_error": "over images",
        "thresholding": "clip", "first_step": "beta_1", "weights": "ema", "sampling_steps": 3,
    }  # fmt: skip
    assert estimates(likelihood(bench, model, data, reverse()))[""]["protocol"]["sampling_steps"] == "all"


def test_the_weights_that_were_scored_are_evaluated(ready: tuple[Bench, Artifact, Artifact]) -> None:
    bench, model, data = ready
    slow = SlowBound(network(model, "raw"), "epsilon", "cosine", 17, np.load(data.path / "test.npy"))
    got = np.load(likelihood(bench, model, data, reverse(weights="raw"), weights="raw").path / "per_image.npy")
    want = slow.terms(0, list(range(1, T + 1)), "beta", "beta_tilde_2", True)
    assert got[0, 1] == pytest.approx(in_bits(want["mean_cost"], slow.image(0)), rel=5e-4)


def test_the_slow_bound_is_a_bound_of_chains() -> None:
    """The transcription itself: for a chain of one kept step the KL with σ² = β̃ and a perfect mean is zero."""

    class Perfect(nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, 0.5)

    slow = SlowBound(Perfect(), "x0", "cosine", None, np.full((1, 1, 1, 1), 0.5))
    want = slow.terms(0, list(range(1, T + 1)), "beta_tilde", "beta_1", False)
    assert want["mean_cost"] == pytest.approx(0, abs=1e-12)
    assert want["variance_cost"] == pytest.approx(0, abs=1e-12)
    walked: Chain = full_chain("cosine", T)
    assert want["l_0"] == pytest.approx(0.5 * math.log(2 * math.pi * walked.beta[0]), abs=1e-12)
