"""Generated images: each depends on (seed, i) alone, the chain is the written one, levels are rounded as stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_bench.diffusion.samplers.ddim import Ddim
from ddpm_bench.diffusion.schedules.cosine import Cosine
from ddpm_bench.diffusion.schedules.linear import Linear
from ddpm_bench.registry import get, names
from ddpm_bench.spec import Reverse
from ddpm_bench.stages import _model, sample
from ddpm_bench.stages._model import scale_to_network
from ddpm_bench.stages.sample import to_levels
from ddpm_bench.store import Artifact
from tests.stages.slow_bound import SlowBound
from tests.stages.slow_chain import call, full_chain, kept_chain, learned_sigma2, noise, sigma2, x_0_hat
from tests.stages.workbench import Bench, network, reverse, training, with_head

T = 8


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "runs")


@pytest.fixture
def unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """x_0 as the sampler returns it."""
    monkeypatch.setattr(sample, "to_levels", lambda x, levels: x)


def drawn(bench: Bench, model: Artifact, chunk: int, count: int, used: Reverse | None = None) -> np.ndarray:
    used = used or reverse()
    spec = {"reverse": used, "chunk": chunk, "count": count}
    inputs = {"train": model}
    if used.variance.needs_fit:
        inputs["fit"] = bench.fit(model, bench.store.get(*model.manifest["inputs"]["data"]), used)
    found = bench.run("sample", spec, inputs)
    values: np.ndarray = np.load(found.path / "samples.npy")
    steps = T if used.timesteps is None else len(used.timesteps)
    assert found.manifest["info"]["network_calls"] == steps * count
    return values


def slow_sample(
    model: Artifact, used: Reverse, schedule: str, seed: int, index: int, shape: Any, fitted: list[float] | None = None
) -> np.ndarray:
    """One image by the written-out chain: x̂_0 belongs to the full chain, the mean and σ² to the one that is walked."""
    net, kept = network(model, used.weights), list(used.timesteps or range(1, T + 1))
    full, walked = full_chain(schedule, T), kept_chain(schedule, T, kept)
    prediction = model.spec["training"]["prediction"]["name"]
    x = noise(seed, "sample", 0, index, shape)
    for i in reversed(range(len(kept))):
        output = call(net, x, kept[i])
        guess, head = x_0_hat(prediction, output[: shape[0]], x, kept[i], full), output[shape[0] :]
        guess = np.clip(guess, -1, 1) if used.thresholding == "clip" else guess
        x = walked.posterior_x_0[i] * guess + walked.posterior_x_t[i] * x
        if i == 0:  # the last step returns the mean
            return x
        if used.variance.name == "learned_range":
            spread = learned_sigma2(walked, i, head)
        else:
            spread = np.array((fitted or sigma2(used.variance.name, used.first_step, walked))[i])
        x = x + np.sqrt(spread) * noise(seed, "sample", kept[i], index, shape)
    raise AssertionError("a chain has a step")


@pytest.mark.parametrize("kept", [None, (1, 3, 6, 8), (2, 4, 6, 8), (1, 3, 5), (8,)])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "mu", "v"])
@pytest.mark.usefixtures("unrounded")
def test_images_against_a_slow_chain(bench: Bench, prediction: str, kept: tuple[int, ...] | None) -> None:
    """A respaced chain with μ is a regression: x̂_0 came from the walked chain's tables, another mean altogether."""
    schedule = "cosine" if prediction in ("x0", "v") else "linear"
    chosen = training(
        timesteps=T, prediction=get("predictions", prediction)(), seed=2,
        schedule=Cosine() if schedule == "cosine" else Linear(scale=False),
    )  # fmt: skip
    data = bench.data()
    model = bench.model(data, chosen)
    variance = get("variances", "beta" if kept is None or len(kept) < 4 else "beta_tilde")()
    used = reverse(timesteps=kept, variance=variance, weights="raw")
    got = drawn(bench, model, 1, 2, used)
    for row in range(2):
        want = slow_sample(model, used, schedule, 2, 128 + row, (1, 4, 4))
        # The clip bounds every x̂_0, so errors of 1e-6 at the network grow by no more than its slope (about 3) a step
        # and shrink with c_t; without it a random network would amplify them without bound.
        np.testing.assert_allclose(got[row], want, atol=2e-3)
    assert np.abs(got[0] - got[1]).max() > 0.1


@pytest.mark.parametrize("kept", [None, (1, 3, 6, 8), (2, 4, 6, 8), (8,)])
@pytest.mark.parametrize("variance", ["learned_range", "optimal", "beta"])
@pytest.mark.usefixtures("unrounded")
def test_a_network_with_a_head_against_a_slow_chain(bench: Bench, variance: str, kept: tuple[int, ...] | None) -> None:
    """σ² from the head with the tables of the walked chain, from a fit of that chain, or fixed beside an idle head."""
    data = bench.data(side=2, channels=3, levels=256)
    chosen = with_head(timesteps=T, prediction=get("predictions", "v")())
    model = bench.model(data, chosen)
    used, steps = reverse(variance=get("variances", variance)(), timesteps=kept), list(kept or range(1, T + 1))
    fitted = None
    if variance == "optimal":
        values = np.load(data.path / "validation.npy")
        slow = SlowBound(network(model), "v", "cosine", 256, values, split="validation")
        walked = kept_chain("cosine", T, steps)
        terms = [slow.terms(index, steps, walked.beta, True) for index in range(len(values))]
        errors = np.mean([item.clipped_error for item in terms], axis=0)
        fitted = [q + c**2 * m for q, c, m in zip(walked.posterior_variance, walked.posterior_x_0, errors, strict=True)]
    got = drawn(bench, model, 0, 2, used)
    for row in range(2):
        want = slow_sample(model, used, "cosine", 0, row, (3, 2, 2), fitted)
        np.testing.assert_allclose(got[row], want, atol=2e-3)  # as above; σ follows the network to 1e-4
    if kept != (8,):  # one step has no noise, hence no σ²
        other = reverse(variance=get("variances", "beta_tilde")(), timesteps=kept)
        assert np.abs(drawn(bench, model, 0, 2, other) - got).max() > 0.01


@pytest.mark.usefixtures("unrounded")
def test_the_walked_chain_would_give_other_images_with_mu(bench: Bench) -> None:
    """The regression above can be seen: x̂_0 by the tables of the respaced chain leads elsewhere."""
    data = bench.data()
    model = bench.model(
        data, training(timesteps=T, prediction=get("predictions", "mu")(), schedule=Linear(scale=False))
    )
    net, kept = network(model), [1, 3, 6, 8]
    x = noise(0, "sample", 0, 0, (1, 4, 4))
    output = call(net, x, 8)
    right = x_0_hat("mu", output, x, 8, full_chain("linear", T))
    wrong = x_0_hat("mu", output, x, 4, kept_chain("linear", T, kept))
    assert np.abs(np.clip(right, -1, 1) - np.clip(wrong, -1, 1)).max() > 0.1


@pytest.mark.parametrize("sampler", [*names("samplers"), "ddim(eta=1)"])
@pytest.mark.usefixtures("unrounded")
def test_an_image_depends_on_seed_and_number_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch, sampler: str) -> None:
    data = bench.data()
    model = bench.model(data, training(timesteps=T))
    used = reverse(sampler=Ddim(eta=1.0) if "(" in sampler else get("samplers", sampler)())
    whole, few = drawn(bench, model, 0, 128, used), drawn(bench, model, 0, 5, used)
    assert np.array_equal(few, whole[:5])  # the same sub-batch, padded: the same bits
    later, one = drawn(bench, model, 1, 20, used), drawn(bench, model, 1, 1, used)
    assert np.array_equal(one, later[:1])
    everything = np.concatenate([whole, later]).reshape(148, -1)
    # Without noise a random network ends at the clip in nearly every pixel: images of 16 pixels may coincide.
    assert len(np.unique(everything.round(3), axis=0)) >= (148 if used.sampler.uses_variance else 140)
    monkeypatch.setattr(_model, "MAX_VALUES", {"cpu": 16 * 8})  # 8 images a call
    other = Bench(bench.runs.parent / "other")
    again = drawn(other, other.model(other.data(), training(timesteps=T)), 0, 12, used)
    # Last bits of a pass (2e-6) times the slope of the network in eight steps.
    np.testing.assert_allclose(again, whole[:12], atol=1e-4)


@pytest.mark.usefixtures("unrounded")
def test_seeds_share_no_image_and_variants_share_their_noise(bench: Bench) -> None:
    data = bench.data()
    models = [bench.model(data, training(timesteps=T, seed=seed)) for seed in (0, 1)]
    first, second = (drawn(bench, model, 0, 40) for model in models)
    assert np.abs(first - second).max(axis=(1, 2, 3)).min() > 0.05
    # σ² = β̃ with the same z: the last step's mean is near that of β, far nearer than another image.
    tilde = drawn(bench, models[0], 0, 40, reverse(variance=get("variances", "beta_tilde")()))
    assert not np.array_equal(tilde, first)
    assert np.abs(tilde - first).mean() < 0.5 * np.abs(np.roll(first, 1, axis=0) - first).mean()


def test_samples_of_grey_levels_are_levels(bench: Bench) -> None:
    for levels, channels in ((17, 1), (256, 3)):
        data = bench.data(levels=levels, channels=channels)
        got = drawn(bench, bench.model(data, training(timesteps=T)), 0, 30)
        assert got.dtype == np.uint8
        assert got.shape == (30, channels, 4, 4)
        assert got.max() <= levels - 1
        assert len(np.unique(got)) > 10


def test_samples_of_real_values_stay_real(bench: Bench) -> None:
    data = bench.data(levels=None)
    model = bench.model(data, training(timesteps=T))
    got = drawn(bench, model, 0, 4, reverse(thresholding="none"))
    assert got.dtype == np.float32
    want = slow_sample(model, reverse(thresholding="none"), "cosine", 0, 0, (1, 4, 4))
    scale = np.abs(want).max()
    assert scale > 1.5  # not clipped
    np.testing.assert_allclose(got[0], want, atol=1e-2 * scale)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_are_the_nearest(levels: int) -> None:
    values = torch.arange(levels, dtype=torch.uint8)
    x = scale_to_network(values, levels)
    assert float(x[0]) == -1.0
    assert float(x[-1]) == pytest.approx(1.0, abs=1.2e-7)
    assert torch.equal(to_levels(x, levels), values)  # there and back
    assert to_levels(x, levels).dtype == torch.uint8
    half = 1.0 / (levels - 1)
    for shift in (-0.49, 0.49):  # anywhere inside the bin
        assert torch.equal(to_levels(x + shift * 2 * half, levels), values)
    assert to_levels(torch.tensor([-7.0, -1.0 - half, 1.0 + half, 9.0]), levels).tolist() == [
        0, 0, levels - 1, levels - 1,
    ]  # fmt: skip


def test_half_levels_go_to_the_even_one() -> None:
    # (x + 1) · 8 = v + 1/2 exactly in binary: round() of Python is the oracle.
    halves = [k + 0.5 for k in range(-2, 18)]
    x = torch.tensor([(h / 8.0) - 1.0 for h in halves])
    assert to_levels(x, 17).tolist() == [min(max(round(h), 0), 16) for h in halves]
