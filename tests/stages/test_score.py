"""The denoising errors of a score, and how many network calls they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_bench.diffusion.estimators.full import Full
from ddpm_bench.diffusion.estimators.importance import Importance
from ddpm_bench.diffusion.schedules.linear import Linear
from ddpm_bench.registry import get
from ddpm_bench.stages import _images, _model, score
from ddpm_bench.store import Artifact
from tests.stages.slow_chain import call, full_chain, kept_chain, learned_sigma2, score_noise, x_0_hat
from tests.stages.workbench import Bench, network, training, with_head

T = 8
BASE = {"indices", "squared_error_clip", "squared_error_none", "x_0_first"}
WITH_HEAD = {"head_first", "head", "log_sigma2", "kl_variance", "kl_mean_clip", "kl_mean_none"}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "runs")


def scored(bench: Bench, model: Artifact, data: Artifact, **changes: Any) -> Artifact:
    spec = {
        "split": "test", "images": 9, "weights": "ema", "chunk": 0, "timesteps": None, "estimator": Full(), **changes,
    }  # fmt: skip
    return bench.run("score", spec, {"train": model, "data": data})


def sampled(bench: Bench, model: Artifact, data: Artifact, calls: int, **changes: Any) -> Artifact:
    spec = {
        "split": "test", "images": 9, "weights": "ema", "chunk": 0, "timesteps": None,
        "estimator": Importance(calls_per_image=calls), **changes,
    }  # fmt: skip
    spectrum = bench.once("spectrum", {"images": 4096}, {"data": data})
    return bench.run("score", spec, {"train": model, "data": data, "spectrum": spectrum})


def arrays(found: Artifact) -> dict[str, np.ndarray]:
    return {file.stem: np.load(file) for file in sorted(found.path.glob("*.npy"))}


@pytest.mark.parametrize("levels", [17, 256, None])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "mu", "v"])
def test_errors_against_single_calls(bench: Bench, prediction: str, levels: int | None) -> None:
    linear = prediction in ("epsilon", "mu")
    chosen = training(
        timesteps=T, prediction=get("predictions", prediction)(), seed=3,
        **({"schedule": Linear(scale=False)} if linear else {}),
    )  # fmt: skip
    data = bench.data(levels=levels, channels=3 if levels == 256 else 1)
    model = bench.model(data, chosen)
    found, net = arrays(scored(bench, model, data, weights="raw", images=4)), network(model, "raw")
    assert found.keys() == BASE
    assert found["squared_error_none"].shape == (4, T - 1)
    assert found["squared_error_none"].dtype == found["x_0_first"].dtype == np.float32
    assert len(found["indices"]) == 4
    full = full_chain("linear" if linear else "cosine", T)
    values = np.load(data.path / "test.npy").astype(np.float64)
    assert found["x_0_first"].shape == (4, 2, *values.shape[1:])
    for row, index in enumerate(found["indices"]):
        x_0 = values[index] if levels is None else 2 * values[index] / (levels - 1) - 1
        for t, draw in [(1, 0), (1, 1), *((t, 0) for t in range(2, T + 1))]:
            eps = score_noise(3, "test", T, t, draw, int(index), x_0.shape)
            x_t = np.sqrt(full.alpha_bar[t - 1]) * x_0 + np.sqrt(full.one_minus_alpha_bar[t - 1]) * eps
            guess = x_0_hat(prediction, call(net, x_t, t), x_t, t, full)
            if t == 1:
                assert found["x_0_first"][row, draw] == pytest.approx(guess, abs=2e-4)
                continue
            # float32: 1e-6 of the output, times up to 1/√ᾱ_T = 10 for ε, twice for the square; ten of those.
            raw, clipped = ((x_0 - guess) ** 2).sum(), ((x_0 - np.clip(guess, -1, 1)) ** 2).sum()
            assert found["squared_error_none"][row, t - 2] == pytest.approx(raw, rel=2e-4)
            assert found["squared_error_clip"][row, t - 2] == pytest.approx(clipped, rel=2e-4)
    assert np.abs(found["squared_error_clip"] / found["squared_error_none"] - 1).max() > 0.01  # the clip acts
    assert np.abs(found["x_0_first"][:, 0] - found["x_0_first"][:, 1]).max() > 1e-3  # two draws


@pytest.mark.parametrize("kept", [None, (1, 3, 6, 8), (2, 4, 6, 8), (8,)])
def test_the_terms_of_a_head_against_single_calls(bench: Bench, kept: tuple[int, ...] | None) -> None:
    """σ² per pixel, with the β and β̃ of the chain that is walked."""
    data = bench.data(levels=256, channels=3)
    model = bench.model(data, with_head(timesteps=T, prediction=get("predictions", "v")()))
    artifact, net = scored(bench, model, data, images=3, timesteps=kept), network(model)
    found, steps = arrays(artifact), list(kept or range(1, T + 1))
    # A chain of one step has no later terms: its files are empty, as for what was not scored.
    assert found.keys() - {"eps_norm"} == BASE | WITH_HEAD
    assert found["head_first"].shape == found["x_0_first"].shape == (3, 2, 3, 4, 4)
    assert artifact.manifest["info"] == {"network_calls": 3 * (len(steps) + 1)}
    full, walked = full_chain("cosine", T), kept_chain("cosine", T, steps)
    values = np.load(data.path / "test.npy").astype(np.float64)
    for row, index in enumerate(found["indices"]):
        x_0 = 2 * values[index] / 255 - 1
        for i, t in enumerate(steps):
            for draw in range(1 if i else 2):
                eps = score_noise(0, "test", T, t, draw, int(index), x_0.shape)
                x_t = np.sqrt(full.alpha_bar[t - 1]) * x_0 + np.sqrt(full.one_minus_alpha_bar[t - 1]) * eps
                output = call(net, x_t, t)
                guess, v = x_0_hat("v", output[:3], x_t, t, full), output[3:]
                if i == 0:  # v belongs to no chain: it is stored as it is
                    assert found["head_first"][row, draw] == pytest.approx(v, abs=1e-4)
                    assert found["x_0_first"][row, draw] == pytest.approx(guess, abs=2e-4)
                    continue
                p, q = learned_sigma2(walked, i, v), walked.posterior_variance[i]
                want = {
                    "head": v.mean(), "log_sigma2": np.log(p).mean(),
                    "kl_variance": (0.5 * (np.log(p / q) + q / p - 1)).sum(),
                    "squared_error_none": ((x_0 - guess) ** 2).sum(),
                }  # fmt: skip
                for name, used in (("none", guess), ("clip", np.clip(guess, -1, 1))):
                    want[f"kl_mean_{name}"] = (walked.posterior_x_0[i] ** 2 * (x_0 - used) ** 2 / (2 * p)).sum()
                for name, value in want.items():
                    # As above; ln σ² is ½ ln(β/β̃) times the error of v, and a mean of numbers of size one.
                    assert found[name].shape == (3, len(steps) - 1)
                    slack = 1e-4 if name in ("head", "log_sigma2") else 0
                    assert found[name][row, i - 1] == pytest.approx(value, rel=5e-4, abs=slack), name


def test_sampled_draws_against_single_calls(bench: Bench) -> None:
    """Every draw has the t that is stored and an ε of its own: draw number × (T + 1) + t is its key."""
    steps = 40
    data = bench.data()
    model = bench.model(data, training(timesteps=steps))
    artifact, net = sampled(bench, model, data, 12), network(model)
    found = arrays(artifact)
    assert found.keys() == BASE | {"t", "eps_norm", "probability", "control"}
    num_first, num_later = found["x_0_first"].shape[1], found["t"].shape[1]
    assert num_first + num_later == 12
    assert num_first % 2 == num_later % 2 == 0
    assert artifact.manifest["info"] == {"network_calls": 9 * 12}
    full, values = full_chain("cosine", steps), np.load(data.path / "test.npy") / 8 - 1
    assert found["t"].dtype == np.int32
    assert 1 <= found["t"].min() <= found["t"].max() <= steps - 1
    norms = set()
    for index, x_0 in enumerate(values):
        for draw in range(12):
            t = 1 if draw < num_first else int(found["t"][index, draw - num_first]) + 1
            eps = score_noise(0, "test", steps, t, draw, index, x_0.shape)
            x_t = np.sqrt(full.alpha_bar[t - 1]) * x_0 + np.sqrt(full.one_minus_alpha_bar[t - 1]) * eps
            guess = x_0_hat("epsilon", call(net, x_t, t), x_t, t, full)
            if draw < num_first:
                assert found["x_0_first"][index, draw] == pytest.approx(guess, abs=2e-4)
                continue
            column = draw - num_first
            assert found["eps_norm"][index, column] == pytest.approx((eps**2).sum(), rel=1e-5)
            # An x̂_0 of size 1/√ᾱ_t has an error of 1e-6 of that and of 1, the square twice; some hundred of those.
            assert found["squared_error_none"][index, column] == pytest.approx(((x_0 - guess) ** 2).sum(), rel=5e-4)
            norms.add(float(found["eps_norm"][index, column]))
    assert len(norms) == 9 * num_later  # no two draws share their noise


def test_sampled_draws_are_the_same_for_every_network_and_subset(bench: Bench) -> None:
    data = bench.data(test=140)
    models = [
        bench.model(data, training(timesteps=40, prediction=get("predictions", name)())) for name in ("x0", "v")
    ]  # fmt: skip
    first, second = (arrays(sampled(bench, model, data, 12, images=140)) for model in models)
    for name in ("t", "eps_norm", "probability", "control", "indices"):
        assert np.array_equal(first[name], second[name])
    assert not np.array_equal(first["squared_error_none"], second["squared_error_none"])
    alone = arrays(sampled(bench, models[0], data, 12, images=6))
    rows = np.searchsorted(first["indices"], alone["indices"][alone["indices"] <= first["indices"].max()])
    assert len(rows) > 1
    for name in ("t", "eps_norm"):  # a row belongs to its image, not to its place
        assert np.array_equal(first[name][rows], alone[name][: len(rows)])


def test_sampled_draws_of_a_chain_are_of_its_own_steps(bench: Bench) -> None:
    data = bench.data()
    model = bench.model(data, training(timesteps=40))
    kept = (2, 7, 19, 33)
    found = arrays(sampled(bench, model, data, 10, timesteps=kept))
    assert found["probability"].shape == found["control"].shape == (4,)
    assert found["probability"][0] == 0
    assert found["probability"].sum() == pytest.approx(1)
    assert set(found["t"].flat) <= {1, 2, 3}
    eps = score_noise(0, "test", 40, kept[found["t"][0, 0]], found["x_0_first"].shape[1], 0, (1, 4, 4))
    assert found["eps_norm"][0, 0] == pytest.approx((eps**2).sum(), rel=1e-5)
    one = arrays(sampled(bench, model, data, 10, timesteps=(33,)))
    assert one["x_0_first"].shape == (9, 10, 1, 4, 4)  # all draws are of the only step


def spy_on_inputs(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """x_t of every network call of a score."""
    seen: list[torch.Tensor] = []
    load = score.load_model

    def spy(*arguments: Any, **options: Any) -> Any:
        model = load(*arguments, **options)
        model.module.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].clone()))
        return model

    monkeypatch.setattr(score, "load_model", spy)
    return seen


@pytest.mark.parametrize(("images", "chunk", "here"), [(9, 0, 9), (200, 0, 128), (200, 1, 72)])
def test_one_row_for_each_image_and_t(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, images: int, chunk: int, here: int
) -> None:
    monkeypatch.setattr(_model, "MAX_VALUES", {"cpu": 16 * 32})  # 32 images of 16 values a call
    seen = spy_on_inputs(monkeypatch)
    data = bench.data(test=max(9, images))
    found = scored(bench, bench.model(data, training(timesteps=T)), data, images=images, chunk=chunk)
    calls = -(-here // 32)
    assert [len(x_t) for x_t in seen] == [32] * ((T + 1) * calls)  # one size, the last call of a t padded
    assert len(np.load(found.path / "indices.npy")) == here
    assert found.manifest["info"] == {"network_calls": here * (T + 1)}  # without the padding


def test_the_noise_of_an_image_is_its_own(bench: Bench) -> None:
    data = bench.data(test=140)
    model = bench.model(data, training(timesteps=4))
    whole = [arrays(scored(bench, model, data, images=140, chunk=chunk)) for chunk in (0, 1)]
    together = {name: np.concatenate([part[name] for part in whole]) for name in whole[0]}
    assert together["indices"].tolist() == list(range(140))
    few = arrays(scored(bench, model, data, images=20))
    chosen = few["indices"]
    assert len(chosen) == 20
    assert chosen.max() > 40  # not the first ones
    for name in ("squared_error_none", "squared_error_clip", "x_0_first"):
        # Same network, same sub-batch of 128, another place in it: the arithmetic of a row is the same.
        np.testing.assert_allclose(few[name], together[name][chosen], rtol=1e-5, atol=1e-6)


def test_a_subset_is_seeded_and_nested() -> None:
    assert _images.subset(10, 10).tolist() == list(range(10))
    assert _images.subset(10, 99).tolist() == list(range(10))
    small, large = _images.subset(1000, 50), _images.subset(1000, 100)
    assert len(set(small.tolist())) == 50
    assert set(small) < set(large)
    assert small.tolist() == sorted(small)
    assert small.tolist() == _images.subset(1000, 50).tolist()
    assert abs(small.mean() - 499.5) < 5 * 288.7 / 50**0.5  # not the first ones


def test_chunks_hold_every_image_once() -> None:
    for count in (1, 127, 128, 129, 256, 300):
        sizes = _images.chunk_sizes(count)
        assert sum(sizes) == count
        assert all(size == 128 for size in sizes[:-1])
        assert 1 <= sizes[-1] <= 128
        indices = _images.subset(1000, count)
        parts = [_images.chunk_of(indices, chunk) for chunk in range(len(sizes))]
        assert [len(part) for part in parts] == sizes
        assert np.concatenate(parts).tolist() == indices.tolist()


def test_splits_and_seeds_have_noise_of_their_own_and_variants_share_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spy_on_inputs(monkeypatch)
    data, x_t = bench.data(test=6, validation=6), []
    for seed, split, prediction in ((0, "test", "x0"), (0, "test", "v"), (1, "test", "x0"), (0, "validation", "x0")):
        chosen = training(timesteps=3, seed=seed, prediction=get("predictions", prediction)())
        scored(bench, bench.model(data, chosen), data, split=split, images=6)
        x_t.append(seen[-1][:6])  # t = T, where next to nothing is left of the image
    assert torch.equal(x_t[0], x_t[1])
    for other in x_t[2:]:
        # 96 pairs of independent normals: the correlation is 0 ± 0.1.
        assert abs(float(torch.corrcoef(torch.stack([x_t[0].flatten(), other.flatten()]))[0, 1])) < 0.5


def test_a_first_step_of_its_own_has_the_same_noise(bench: Bench) -> None:
    data = bench.data()
    model = bench.model(data, training(timesteps=T))
    whole, one = arrays(scored(bench, model, data)), scored(bench, model, data, timesteps=(5,))
    assert one.manifest["info"] == {"network_calls": 2 * 9}
    found = arrays(one)
    assert found["squared_error_none"].shape == (9, 0)
    x_0 = 2 * np.load(data.path / "test.npy") / 16 - 1
    error = ((x_0 - found["x_0_first"][:, 0]) ** 2).sum(axis=(1, 2, 3))
    assert whole["squared_error_none"][:, 3] == pytest.approx(error, rel=1e-5)  # the first draw of t = 5
    assert not np.isclose(found["x_0_first"], whole["x_0_first"], atol=1e-3).all(axis=(2, 3, 4)).any()


def test_a_chain_of_its_own_has_the_noise_of_the_full_one(bench: Bench) -> None:
    data = bench.data()
    model = bench.model(data, training(timesteps=T))
    whole, kept = arrays(scored(bench, model, data)), arrays(scored(bench, model, data, timesteps=(1, 3, 6, 8)))
    assert np.array_equal(kept["x_0_first"], whole["x_0_first"])
    for name in ("squared_error_none", "squared_error_clip"):
        assert np.array_equal(kept[name], whole[name][:, [1, 4, 6]])


def test_raw_and_averaged_weights_are_different_networks(bench: Bench) -> None:
    data = bench.data()
    model = bench.model(data, training(timesteps=3))
    first, second = (arrays(scored(bench, model, data, weights=name)) for name in ("raw", "ema"))
    assert not np.isclose(first["squared_error_none"], second["squared_error_none"], rtol=1e-3).any()


@pytest.mark.parametrize("channels_last", [False, True])
def test_padding_and_memory_format_change_no_row(bench: Bench, channels_last: bool) -> None:
    data = bench.data(levels=256, channels=3)
    artifact = bench.model(data, training(timesteps=T))
    model, net = _model.load_model(artifact, "ema", "cpu"), network(artifact)
    x_t = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 7, 3, 3, 1])
    given = x_t.contiguous(memory_format=torch.channels_last) if channels_last else x_t
    with torch.inference_mode():
        whole, rows = model(given, t), torch.cat([net(x_t[i : i + 1], t[i : i + 1]) for i in range(5)])
    assert whole.shape == (5, 3, 4, 4)
    assert float(rows.abs().max()) > 0.1
    # Sums of a few hundred float32 terms of about one in another order: 1e-6; ten of those.
    torch.testing.assert_close(whole, rows, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "device", "size"),
    [((1, 8, 8), "cpu", 128), ((1, 16, 16), "cpu", 128), ((3, 32, 32), "cpu", 8), ((3, 32, 32), "cuda:0", 128),
     ((3, 256, 256), "cpu", 1), ((3, 128, 128), "cuda", 64)],
)  # fmt: skip
def test_sub_batches_are_powers_of_two_within_a_chunk(shape: Any, device: str, size: int) -> None:
    """2¹⁵ values a call on a CPU, 2²² on a GPU, rounded down to a power of two, at most a chunk of 128."""
    assert _model.sub_batch(shape, device) == size
