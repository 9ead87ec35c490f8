"""The bound against a slow transcription of its formulas: image by image, pixel by pixel, t by t."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
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
from tests.oracles import Chain, log_bin_probability_tanh
from tests.stages.slow_bound import SlowBound, Table, Terms, later_contrast
from tests.stages.slow_chain import call, full_chain, kept_chain, score_noise, sigma2
from tests.stages.workbench import Bench, network, reverse, table, training, with_head

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
SCHEDULES = {"linear": Linear(scale=False), "cosine": Cosine()}
VARIANCES = ("beta", "beta_tilde", "learned_range", "optimal")
TERMS = ("l_0", "mean_cost", "variance_cost", "l_T")


def in_bits(nats: float, x_0: np.ndarray) -> float:
    return nats / (x_0.size * math.log(2))


class Case:
    """A network with a head, its data, and the slow bounds of its two splits."""

    def __init__(self, folder: Path, prediction: str, schedule: str, levels: int | None = 17, channels: int = 1):
        self.bench, self.levels, self.schedule = Bench(folder), levels, schedule
        chosen = with_head(
            timesteps=T, prediction=get("predictions", prediction)(), schedule=SCHEDULES[schedule],
        )  # fmt: skip
        self.data = self.bench.data(levels=levels, channels=channels, side=2, test=IMAGES, validation=4)
        self.model = self.bench.model(self.data, chosen)
        net = network(self.model)
        self.slow, self.fit = (
            SlowBound(net, prediction, schedule, levels, np.load(self.data.path / f"{split}.npy"), split=split)
            for split in ("test", "validation")
        )

    def table(self, used: Reverse, kept: list[int]) -> Table:
        """σ² of each step."""
        if used.variance.name == "learned_range":
            return "learned"
        if used.variance.name == "optimal":
            return self.fit.fitted(kept, used.thresholding == "clip")
        return sigma2(used.variance.name, used.first_step, kept_chain(self.schedule, T, kept))

    def check(self, used: Reverse) -> float:
        """Every number that a likelihood writes, against the transcription; the bound of the images, in bits/dim."""
        kept = list(used.timesteps or range(1, T + 1))
        found = self.bench.likelihood(self.model, self.data, used)
        sigma2_of_steps, clip = self.table(used, kept), used.thresholding == "clip"
        images = [self.slow.terms(index, kept, sigma2_of_steps, clip) for index in range(IMAGES)]
        self._check_images(found, images, used)
        self._check_table(found, images, used, kept)
        return sum(sum(terms.bound.values()) for terms in images)

    def _check_images(self, found: Artifact, images: list[Terms], used: Reverse) -> None:
        got, noise = np.load(found.path / "per_image.npy"), np.load(found.path / "noise.npy")
        assert got.shape == (IMAGES, 4)
        assert got.dtype == noise.dtype == np.float64
        assert np.load(found.path / "indices.npy").tolist() == list(range(IMAGES))
        x_0 = self.slow.image(0)
        for row, terms in zip(got, images, strict=True):
            for value, name in zip(row, TERMS, strict=True):
                # Float32 at the network and in x_t: 1e-6 of x̂_0, amplified by up to 1/√ᾱ_T = 100 (cosine, ε) and
                # doubled by the square. L_T (x_0 is float32: 1e-7) and a fixed σ² are float64; a fitted or learned one
                # follows the network.
                fixed = used.variance.name in ("beta", "beta_tilde")
                exact = name == "l_T" or (name == "variance_cost" and fixed)
                # Where σ²_1 → 0 is best (every x̂_0 in its bin) the cost is 1e-5 of what it could be, in a steep tail.
                slack = 1e-6 if name == "l_0" and used.variance.name == "optimal" else 1e-12
                want = in_bits(terms.bound[name], x_0)
                assert value == pytest.approx(want, rel=1e-6 if exact else 5e-4, abs=slack), (name, used)
        contrasts, record = _contrasts(images, used), estimates(found)
        # A contrast is a difference of terms: its error is that of the terms.
        terms_of_all = [
            value for terms in images for value in (*terms.l_0, *terms.perfect, *terms.mean, *terms.variance)
        ]
        slack = 5e-4 * in_bits(max(map(abs, terms_of_all)), x_0)
        np.testing.assert_allclose(noise, [in_bits(value, x_0) for value in contrasts[""]], rtol=0, atol=slack)
        for name, nats in contrasts.items():
            error = in_bits(math.sqrt(sum(value**2 for value in nats)), x_0) / IMAGES
            assert record[name]["stderr_noise"] == pytest.approx(error, rel=5e-4, abs=slack), (name, used)
        network_part = np.mean([in_bits(terms.network, x_0) for terms in images])
        l_0 = np.mean([in_bits(terms.bound["l_0"], x_0) for terms in images])
        assert record["_network"]["value"] == pytest.approx(network_part, rel=5e-4, abs=5e-4 * l_0)

    def _check_table(self, found: Artifact, images: list[Terms], used: Reverse, kept: list[int]) -> None:
        rows, x_0, walked = table(found.path / "timesteps.csv"), self.slow.image(0), kept_chain(self.schedule, T, kept)
        assert [row["t"] for row in rows] == kept
        terms_of_t = np.array([
            [sum(terms.l_0) / 2, *np.add(terms.variance, terms.mean)] for terms in images
        ])  # fmt: skip
        kl = [in_bits(value, x_0) for value in terms_of_t.mean(0)]
        l_T = np.mean([in_bits(terms.l_T, x_0) for terms in images])
        mean_of = {
            name: np.mean([getattr(terms, name) for terms in images], axis=0)
            for name in ("variance", "mean", "log_sigma2", "head", "eps_error", "raw_error", "clipped_error")
        }
        for i, row in enumerate(rows):
            want = {
                "kl": kl[i],
                "stderr": in_bits(_error(terms_of_t[:, i]), x_0),
                "kl_variance": in_bits(mean_of["variance"][i - 1], x_0) if i else None,
                "kl_mean": in_bits(mean_of["mean"][i - 1], x_0) if i else None,
                "epsilon_mse": mean_of["eps_error"][i],
                "x0_mse": mean_of["clipped_error" if used.thresholding == "clip" else "raw_error"][i],
                "log_snr": math.log(walked.snr[i]),
                "log_sigma2": mean_of["log_sigma2"][i],
                "head": mean_of["head"][i] if used.variance.name == "learned_range" else None,
                "rate": l_T + sum(kl[i + 1 :]),
                "distortion": None if self.levels is None else 127.5 * math.sqrt(mean_of["clipped_error"][i]),
            }
            assert row.keys() == {"t", *want}
            for name, value in want.items():
                if value is None:
                    assert row[name] is None, (name, used)
                    continue
                # As above; the logarithm of σ² has the relative error of σ² as an absolute one, and a mean of heads or
                # a standard error is a difference of numbers of size one, or of the term itself.
                slack = 5e-4 * max(kl[i], 1e-9) if name == "stderr" else 5e-4 if name in ("log_sigma2", "head") else 0
                assert row[name] == pytest.approx(value, rel=5e-4, abs=slack), (name, row["t"], used)


def _contrasts(images: list[Terms], used: Reverse) -> dict[str, np.ndarray]:
    """Ending of the result → the noise contrast of each image in nats; only a head's variance cost has noise."""
    l_0 = np.array([(terms.l_0[0] - terms.l_0[1]) / 2 for terms in images])
    perfect = np.array([(terms.perfect[0] - terms.perfect[1]) / 2 for terms in images])
    mean, variance = (
        np.array(later_contrast(np.array([getattr(terms, name) for terms in images]))) for name in ("mean", "variance")
    )
    variance = variance if used.variance.name == "learned_range" else np.zeros(IMAGES)
    return {
        "": l_0 + mean + variance, "_l_0": l_0, "_mean_cost": mean, "_variance_cost": variance,
        "_l_T": np.zeros(IMAGES), "_network": l_0 - perfect + mean,
    }  # fmt: skip


def combinations() -> Iterator[Reverse]:
    """All of them: respacing × variance × thresholding × first-step rule, where it has a meaning."""
    for kept, variance, thresholding in itertools.product(RESPACINGS.values(), VARIANCES, ("clip", "none")):
        if len(kept) == 1 and variance == "beta_tilde":
            continue  # β̃ of a single step is zero: σ²_1 = β_1 for either
        rules = ("beta_tilde_2", "beta_1") if variance in ("beta", "beta_tilde") and len(kept) > 1 else ("beta_1",)
        for first_step in rules:
            yield reverse(
                variance=get("variances", variance)(), first_step=first_step, thresholding=thresholding,
                timesteps=None if len(kept) == T else tuple(kept),
            )  # fmt: skip


CASES = list(itertools.product(PREDICTIONS, SCHEDULES))


@pytest.mark.parametrize(("prediction", "schedule"), CASES)
def test_every_number_of_some_reverse_processes(tmp_path: Path, prediction: str, schedule: str) -> None:
    """Every seventh combination, from another one on for each case: eight cases meet all of them."""
    case, start = Case(tmp_path, prediction, schedule), CASES.index((prediction, schedule))
    chosen = list(combinations())[start % 7 :: 7]
    assert len({used.variance.name for used in chosen}) >= 3
    bounds = [case.check(used) for used in chosen]
    assert len({round(bound, 6) for bound in bounds}) >= len(bounds) - 1  # they differ; the clip need not matter


@pytest.mark.slow
@pytest.mark.parametrize(("prediction", "schedule"), CASES)
def test_every_number_of_every_reverse_process(tmp_path: Path, prediction: str, schedule: str) -> None:
    case = Case(tmp_path, prediction, schedule)
    bounds = [case.check(used) for used in combinations()]
    assert len(bounds) == 54
    assert len({round(bound, 6) for bound in bounds}) >= 40


@pytest.mark.parametrize("levels", [256, None])
def test_other_data(tmp_path: Path, levels: int | None) -> None:
    case = Case(tmp_path, "epsilon", "cosine", levels, channels=3)
    thresholding = "none" if levels is None else "clip"
    for variance in VARIANCES:
        case.check(reverse(variance=get("variances", variance)(), thresholding=thresholding, timesteps=(2, 5, 8)))


@pytest.mark.parametrize("num_timesteps", [1, 2])
def test_chains_of_one_and_two_steps(tmp_path: Path, num_timesteps: int) -> None:
    bench = Bench(tmp_path)
    data = bench.data(test=IMAGES, side=2)
    model = bench.model(data, training(timesteps=num_timesteps, prediction=get("predictions", "x0")()))
    values = np.load(data.path / "test.npy")
    slow = SlowBound(network(model), "x0", "cosine", 17, values, num_timesteps=num_timesteps)
    kept = list(range(1, num_timesteps + 1))
    found = bench.likelihood(model, data, reverse())
    for index, row in enumerate(np.load(found.path / "per_image.npy")):
        want = slow.terms(index, kept, sigma2("beta", "beta_tilde_2", full_chain("cosine", num_timesteps)), True)
        for value, name in zip(row, TERMS, strict=True):
            assert value == pytest.approx(in_bits(want.bound[name], slow.image(index)), rel=5e-4, abs=1e-12)
    noise = estimates(found)[""]["stderr_noise"]
    assert noise is None if num_timesteps == 2 else noise > 0  # a single later term does not show its noise


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Artifact, Artifact]:
    """A bench with data and a network that has been scored."""
    bench = Bench(tmp_path_factory.mktemp("ready"))
    data = bench.data(test=IMAGES)
    return bench, bench.model(data, with_head(timesteps=T)), data


def test_no_network_is_called(ready: tuple[Bench, Artifact, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, model, data = ready
    chains = (None, (1, 3, 6, 8), (2, 4, 6, 8))
    for split in ("test", "validation"):
        for kept in chains:
            bench.scores(model, data, reverse(timesteps=kept), split=split)

    def forbidden(*arguments: Any, **more: Any) -> Any:
        raise AssertionError("a network was loaded or called")

    monkeypatch.setattr(_model, "load_file", forbidden)
    monkeypatch.setattr(_model, "load_model", forbidden)
    monkeypatch.setattr(nn.Module, "__call__", forbidden)
    made = 0
    for variance, thresholding, kept in itertools.product(("beta", "beta_tilde", "optimal"), ("clip", "none"), chains):
        used = reverse(variance=get("variances", variance)(), thresholding=thresholding, timesteps=kept)
        made += (bench.likelihood(model, data, used).path / "estimates.json").is_file()
    assert made == 18
    with pytest.raises(AssertionError, match="was loaded"):
        bench.score(model, data, timesteps=(3,))  # the same guard stops what does need the network


def estimates(found: Artifact) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((found.path / "estimates.json").read_text())
    return read


@pytest.mark.parametrize("variance", ["beta", "optimal", "learned_range"])
@pytest.mark.parametrize("kept", [None, (1, 3, 6, 8), (2, 4, 6, 8), (8,)])
def test_files_of_a_likelihood_agree(
    ready: tuple[Bench, Artifact, Artifact], kept: tuple[int, ...] | None, variance: str
) -> None:
    bench, model, data = ready
    found = bench.likelihood(model, data, reverse(timesteps=kept, variance=get("variances", variance)()))
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
    assert rows[0]["rate"] + rows[0]["kl"] == pytest.approx(total["value"], abs=1e-9)
    assert rows[-1]["rate"] == pytest.approx(record["_l_T"]["value"], abs=1e-12)
    for row in rows[1:]:
        assert row["kl_variance"] + row["kl_mean"] == pytest.approx(row["kl"], abs=1e-12)
    assert sum(row["kl_mean"] for row in rows[1:]) == pytest.approx(record["_mean_cost"]["value"], abs=1e-9)
    assert sum(row["kl_variance"] for row in rows[1:]) == pytest.approx(record["_variance_cost"]["value"], abs=1e-9)
    if variance != "learned_range":
        # The same for every image, and known without noise.
        assert record["_variance_cost"]["stderr"] == pytest.approx(0, abs=1e-12)
        assert record["_variance_cost"]["stderr_noise"] == 0
    assert record["_l_T"]["stderr_noise"] == 0


def _error(values: np.ndarray) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def test_the_error_of_the_noise_is_that_of_the_output(tmp_path: Path) -> None:
    """epsilon_mse of a network that predicts ε is the error of its raw output, whatever the clip."""
    bench = Bench(tmp_path)
    data = bench.data(test=IMAGES)
    model = bench.model(data, training(timesteps=T))
    slow = SlowBound(network(model), "epsilon", "cosine", 17, np.load(data.path / "test.npy"))
    for row in table(bench.likelihood(model, data, reverse()).path / "timesteps.csv"):
        t, raw = int(row["t"] or 0), []
        for index, draw in itertools.product(range(IMAGES), range(2 if t == 1 else 1)):
            eps = score_noise(0, "test", T, t, draw, index, (1, 4, 4))
            raw.append(np.mean((eps - call(slow.net, slow.draw(index, t, draw)[0], t)) ** 2))
        assert row["epsilon_mse"] == pytest.approx(np.mean(raw), rel=5e-4)


def test_one_image_has_no_standard_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    data = bench.data(test=1)
    model = bench.model(data, training(timesteps=4))
    found = bench.likelihood(model, data, reverse())
    record = estimates(found)
    assert {item["stderr"] for item in record.values()} == {None}
    assert {item["num_samples"] for item in record.values()} == {1}
    assert record[""]["stderr_noise"] is None  # one draw of each later step of one image
    assert record["_l_0"]["stderr_noise"] > 0  # two draws of the first step
    assert {row["stderr"] for row in table(found.path / "timesteps.csv")} == {None}


def test_chunks_are_joined_in_order(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    data = bench.data(test=130, side=2)
    model = bench.model(data, training(timesteps=3))
    scores = bench.score(model, data)
    assert len(scores) == 2
    got = np.load(bench.likelihood(model, data, reverse()).path / "per_image.npy")
    assert len(got) == 130
    x_0 = 2.0 * np.load(data.path / "test.npy") / 16 - 1
    a, b = (getattr(full_chain("cosine", 3), name)[-1] for name in ("alpha_bar", "one_minus_alpha_bar"))
    l_T = 0.5 * (a * x_0**2 + b - 1 - math.log(b)).mean(axis=(1, 2, 3)) / math.log(2)
    np.testing.assert_allclose(got[:, 3], l_T, rtol=1e-6)  # L_T tells the images apart
    error = np.concatenate([np.load(item.path / "squared_error_clip.npy") for item in scores])
    walked = full_chain("cosine", 3)
    mean = sum(walked.posterior_x_0[i] ** 2 * error[:, i - 1].astype(float) / (2 * walked.beta[i]) for i in (1, 2))
    np.testing.assert_allclose(got[:, 1], mean / (4 * math.log(2)), rtol=1e-6)


def test_the_protocol_says_how(ready: tuple[Bench, Artifact, Artifact]) -> None:
    bench, model, data = ready
    used = reverse(timesteps=(2, 5, 8), first_step="beta_1")
    assert estimates(bench.likelihood(model, data, used))[""]["protocol"] == {
        "split": "test", "images": IMAGES, "estimator": {"name": "full"}, "decoder": "exact", "levels": 17,
        "standard_error": "over images", "noise_error": "over the noise, images held fixed",
        "thresholding": "clip", "first_step": "beta_1", "weights": "ema", "sampling_steps": 3,
    }  # fmt: skip
    protocol = estimates(bench.likelihood(model, data, reverse(), decoder="tanh"))[""]["protocol"]
    assert (protocol["sampling_steps"], protocol["decoder"]) == ("all", "tanh")


def test_the_decoder_is_the_one_asked_for(ready: tuple[Bench, Artifact, Artifact]) -> None:
    """The decoder of published code: Φ by tanh, no bin below 1e-12. Nothing but L_0 knows of it."""
    bench, model, data = ready
    exact, tanh = (
        np.load(bench.likelihood(model, data, reverse(), decoder=decoder).path / "per_image.npy")
        for decoder in ("exact", "tanh")
    )
    assert np.array_equal(exact[:, 1:], tanh[:, 1:])
    means = np.load(bench.score(model, data)[0].path / "x_0_first.npy").astype(np.float64).clip(-1, 1)
    sigma2_1 = full_chain("cosine", T).posterior_variance[1]
    for row, image, levels in zip(tanh, means, np.load(data.path / "test.npy"), strict=True):
        pairs = [(int(v), float(m)) for draw in image for v, m in zip(levels.flat, draw.flat, strict=True)]
        nats = -np.mean([log_bin_probability_tanh(*pair, sigma2_1, 17) for pair in pairs])
        assert row[0] == pytest.approx(nats / math.log(2), rel=1e-9)
    assert np.abs(tanh[:, 0] / exact[:, 0] - 1).min() > 1e-6  # and the two are not the same


def test_the_weights_that_were_scored_are_evaluated(ready: tuple[Bench, Artifact, Artifact]) -> None:
    bench, model, data = ready
    slow = SlowBound(network(model, "raw"), "epsilon", "cosine", 17, np.load(data.path / "test.npy"))
    got = np.load(bench.likelihood(model, data, reverse(weights="raw")).path / "per_image.npy")
    want = slow.terms(0, list(range(1, T + 1)), full_chain("cosine", T).beta, True)
    assert got[0, 1] == pytest.approx(in_bits(want.bound["mean_cost"], slow.image(0)), rel=5e-4)


def test_the_slow_bound_is_a_bound_of_chains() -> None:
    """The transcription itself: with σ² = β̃ and a perfect mean every KL is zero."""

    class Perfect(nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, 0.5)

    slow = SlowBound(Perfect(), "x0", "cosine", None, np.full((1, 1, 1, 1), 0.5))
    walked: Chain = full_chain("cosine", T)
    want = slow.terms(0, list(range(1, T + 1)), [walked.beta[0], *walked.posterior_variance[1:]], False)
    assert want.bound["mean_cost"] == pytest.approx(0, abs=1e-12)
    assert want.bound["variance_cost"] == pytest.approx(0, abs=1e-12)
    assert want.bound["l_0"] == pytest.approx(0.5 * math.log(2 * math.pi * walked.beta[0]), abs=1e-12)
    assert want.network == 0
