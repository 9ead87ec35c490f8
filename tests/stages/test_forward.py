"""The forward process on data: its tables against other formulas, its pictures against what defines them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from ddpm_bench.datasets.cifar10 import Cifar10
from ddpm_bench.datasets.gaussian import Gaussian
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.schedules.constant import Constant
from ddpm_bench.diffusion.schedules.cosine import Cosine
from ddpm_bench.diffusion.schedules.linear import Linear
from ddpm_bench.randomness import Stream
from ddpm_bench.stages import forward
from ddpm_bench.stages._images import subset
from ddpm_bench.stages.forward import array_bytes, times_of
from ddpm_bench.store import Artifact
from tests.stages.workbench import Bench, table

SHAPE = (2, 3, 4)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def images(count: int, levels: int | None = 256, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(0)
    if levels is None:
        return rng.normal(0.5, 2.0, (count, *shape)).astype(np.float32)
    return rng.integers(0, levels, (count, *shape)).astype(np.uint8)


def data_of(bench: Bench, test: np.ndarray) -> Artifact:
    dataset = Gaussian() if test.dtype == np.float32 else Cifar10()
    return bench.data_of(dataset, {"train": test[:1], "validation": test[:1], "test": test})


def made(bench: Bench, test: np.ndarray, schedule: Schedule | None = None, timesteps: int = 100) -> Artifact:
    spec = {"schedule": schedule or Linear(), "timesteps": timesteps}
    return bench.run("forward", spec, {"data": data_of(bench, test)})


def info(artifact: Artifact) -> dict[str, Any]:
    return json.loads((artifact.path / "forward.json").read_text())


def array(artifact: Artifact, name: str) -> np.ndarray:
    return np.load(artifact.path / f"{name}.npy")


def scaled(values: np.ndarray) -> np.ndarray:
    """Levels of 256 in the scale of the network."""
    return values.astype(np.float64) / 127.5 - 1.0


# Tables over t


@pytest.mark.parametrize(
    ("schedule", "timesteps", "beta", "alpha_bar", "prior"),
    [  # β_1, ᾱ_T and L_T in bits/dim of images with x² = 1, to six and four digits
        (Linear(), 100, 1e-3, 2.03901e-5, 1.471e-5), (Linear(), 1000, 1e-4, 4.03583e-5, 2.911e-5),
        (Linear(), 4000, 2.5e-5, 4.24665e-5, 3.063e-5), (Cosine(), 100, 6.31282e-4, 2.42857e-7, 1.752e-7),
        (Cosine(), 1000, 4.12842e-5, 2.42877e-9, 1.752e-9), (Cosine(), 4000, 9.86582e-6, 1.51798e-10, 1.095e-10),
    ],
)  # fmt: skip
def test_known_answers(
    bench: Bench, schedule: Schedule, timesteps: int, beta: float, alpha_bar: float, prior: float
) -> None:
    black_and_white = np.where(images(5) > 127, 255, 0).astype(np.uint8)
    rows = table(made(bench, black_and_white, schedule, timesteps).path / "forward.csv")
    assert [row["t"] for row in rows] == list(range(1, timesteps + 1))
    # half a unit of the last digit of the shortest mantissas: 0.5e-5 / 1.5 and 0.5e-3 / 1.095
    assert rows[0]["beta"] == pytest.approx(beta, rel=4e-6)
    assert rows[-1]["alpha_bar"] == pytest.approx(alpha_bar, rel=4e-6)
    assert rows[-1]["kl"] == pytest.approx(prior, rel=5e-4)
    assert rows[0]["beta_tilde"] == 0.0
    assert all(row["stderr"] == pytest.approx(0.0, abs=1e-18) for row in rows)  # every image has the same |x_0|²


@pytest.mark.parametrize("levels", [256, None])
def test_the_kl_is_that_of_two_normals(bench: Bench, levels: int | None) -> None:
    """torch.distributions, per pixel and image, summed; the mean over images and its standard error by numpy."""
    test, timesteps = images(7, levels), 20
    rows = table(made(bench, test, Cosine(), timesteps).path / "forward.csv")
    x_0 = torch.from_numpy(test.astype(np.float64) if levels is None else scaled(test))
    u = np.arange(timesteps + 1) / timesteps
    f = np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    alpha_bar = np.cumprod(1 - betas)
    for row, level in zip(rows, alpha_bar, strict=True):
        q = torch.distributions.Normal(math.sqrt(level) * x_0, math.sqrt(1 - level))
        nats = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1).numpy()
        bits = nats / math.log(2) / 24
        # 1 − ᾱ near 1e-3 carries the rounding of ᾱ near 1, 1e-16 / 1e-3; sums of 24 values near 1 add some 1e-15.
        assert row["alpha_bar"] == pytest.approx(level, rel=1e-12)
        assert row["snr"] == pytest.approx(level / (1 - level), rel=1e-12)
        assert row["kl"] == pytest.approx(bits.mean(), rel=1e-11, abs=1e-14)
        assert row["stderr"] == pytest.approx(bits.std(ddof=1) / math.sqrt(7), rel=1e-9, abs=1e-14)
    previous = np.concatenate([[1.0], alpha_bar[:-1]])
    tilde = (1 - previous) / (1 - alpha_bar) * betas
    np.testing.assert_allclose([row["beta_tilde"] for row in rows], tilde, rtol=1e-11, atol=1e-300)


def test_a_single_image_has_no_standard_error(bench: Bench) -> None:
    rows = table(made(bench, images(1)).path / "forward.csv")
    assert all(row["stderr"] is None and row["kl"] is not None for row in rows)


@pytest.mark.parametrize("levels", [256, None])
def test_blocks_change_nothing(bench: Bench, levels: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def payload(folder: str) -> dict[str, Any]:
        return made(Bench(bench.runs / folder), images(50, levels)).manifest["files"]

    whole = payload("whole")
    monkeypatch.setattr(forward, "BLOCK_VALUES", 24 * 7)
    assert payload("blocks") == whole


# The t of the pictures


@pytest.mark.parametrize(
    ("timesteps", "want"),
    [
        (1000, [0, 125, 250, 375, 500, 625, 750, 875, 1000]), (100, [0, 13, 25, 38, 50, 63, 75, 88, 100]),
        (10, [0, 1, 3, 4, 5, 6, 8, 9, 10]), (3, [0, 1, 2, 3]), (1, [0, 1]),
    ],
)  # fmt: skip
def test_times(timesteps: int, want: list[int]) -> None:
    assert times_of(timesteps) == want


@pytest.mark.parametrize("timesteps", range(1, 40))
def test_times_are_different_and_reach_both_ends(timesteps: int) -> None:
    found = times_of(timesteps)
    assert (found[0], found[-1]) == (0, timesteps)
    assert found == sorted(set(found))
    assert len(found) == min(8, timesteps) + 1


# Noised images


@pytest.mark.parametrize("levels", [256, None])
def test_noised_images_are_x_0_and_one_noise_for_every_t_and_schedule(bench: Bench, levels: int | None) -> None:
    test = images(30, levels)
    chosen = subset(30, 4)
    x_0 = test[chosen].astype(np.float64) if levels is None else scaled(test[chosen])
    eps = Stream(0, "forward").normal(0, torch.arange(4), SHAPE).double().numpy()
    for schedule in (Linear(), Cosine()):
        artifact = made(bench, test, schedule)
        rows = {row["t"]: row for row in table(artifact.path / "forward.csv")}
        times, x_t = info(artifact)["times"], array(artifact, "noised")
        assert (x_t.dtype, x_t.shape) == (np.float32, (4, len(times), *SHAPE))
        for index, t in enumerate(times):
            alpha_bar = rows[t]["alpha_bar"] if t else 1.0
            want = math.sqrt(alpha_bar) * x_0 + math.sqrt(1 - alpha_bar) * eps
            # float32 of x_0 and of x_t: each off by at most 2⁻²⁴ of values below 8.
            np.testing.assert_allclose(x_t[:, index], want, rtol=0, atol=2 * 8 * 2.0**-24)
        assert info(artifact)["images"] == chosen.tolist()


def test_fewer_images_than_are_shown(bench: Bench) -> None:
    artifact = made(bench, images(2))
    assert array(artifact, "noised").shape == (2, 9, *SHAPE)
    assert info(artifact)["num_images"] == 2


# The law of pixels


def bins_of_two_values(share: float, alpha_bar: float, edges: np.ndarray) -> np.ndarray:
    """A pixel is 1 with this share, else −1: a mixture of two normals."""
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    cdf = share * norm.cdf(edges, signal, noise) + (1 - share) * norm.cdf(edges, -signal, noise)
    return np.diff(cdf)


def test_the_law_of_pixels_with_two_values(bench: Bench) -> None:
    test = np.where(images(40) < 90, 255, 0).astype(np.uint8)
    share = float(np.mean(test == 255))
    artifact = made(bench, test, Constant(beta=0.03), 80)
    edges, found = array(artifact, "edges"), array(artifact, "pixels")
    assert (edges[0], edges[-1], len(edges)) == (-4.0, 4.0, 162)
    for t, law in zip(info(artifact)["times"], found, strict=True):
        if t:
            want = bins_of_two_values(share, 0.97**t, edges)
            # Φ in float64 on both sides; ᾱ_t from a sum of up to 80 logarithms: 80 · 1.1e-16 of a density below 3.
            np.testing.assert_allclose(law, want, rtol=0, atol=1e-13)
    at_0 = {round(float(edges[:-1][i] + edges[1:][i]) / 2, 1): float(p) for i, p in enumerate(found[0]) if p}
    assert at_0 == {-1.0: pytest.approx(1 - share, abs=1e-15), 1.0: pytest.approx(share, abs=1e-15)}


def test_the_law_of_pixels_is_where_draws_fall(bench: Bench) -> None:
    test = images(200, shape=(1, 8, 8))
    artifact = made(bench, test, timesteps=50)
    edges, law = array(artifact, "edges"), array(artifact, "pixels")
    rng = np.random.default_rng(0)
    alpha_bar = {row["t"]: row["alpha_bar"] for row in table(artifact.path / "forward.csv")}
    for t, probability in list(zip(info(artifact)["times"], law, strict=True))[1:]:
        drawn = math.sqrt(alpha_bar[t]) * scaled(test) + math.sqrt(1 - alpha_bar[t]) * rng.standard_normal(test.shape)
        counts = np.histogram(drawn, edges)[0]
        expected = probability * test.size
        big = expected > 20
        chi2 = float(((counts - expected)[big] ** 2 / expected[big]).sum())
        # χ² with one degree a bin at most (x_0 is the same, not drawn, which makes it smaller): mean n, variance 2n.
        assert chi2 < big.sum() + 5 * math.sqrt(2 * big.sum())


def test_real_values_are_a_subset_and_fill_wider_bins(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    test = images(30, None)
    monkeypatch.setattr(forward, "MAX_REAL_VALUES", 24 * 10)
    artifact = made(bench, test)
    edges, law = array(artifact, "edges"), array(artifact, "pixels")
    used = test[subset(30, 10)].astype(np.float64)
    assert edges[-1] == -edges[0] == math.ceil(np.abs(used).max() + 3)
    np.testing.assert_allclose(law[0], np.histogram(used, edges)[0] / used.size, rtol=0, atol=1e-12)
    # x_t has a standard deviation of at most 1 around √ᾱ x_0, and 3 of it lie inside on either side.
    assert np.all(law.sum(1) > 1 - 0.0014)
    (at_t,) = [row["alpha_bar"] for row in table(artifact.path / "forward.csv") if row["t"] == 50]
    cdf = norm.cdf(edges[:, None], math.sqrt(at_t) * used.ravel(), math.sqrt(1 - at_t)).mean(1)
    np.testing.assert_allclose(law[4], np.diff(cdf), rtol=0, atol=1e-12)


# The artifact


@pytest.mark.parametrize("count", [2, 30])
def test_the_bytes_of_its_arrays(bench: Bench, count: int) -> None:
    artifact = made(bench, images(count), Cosine(), 6)
    stored = sum(array(artifact, name).nbytes for name in ("noised", "pixels", "edges"))
    assert array_bytes(6, min(count, 4), 24) == stored


def test_equal_inputs_give_equal_bytes(bench: Bench) -> None:
    first, second = (made(Bench(bench.runs / name), images(20)).manifest["files"] for name in ("one", "other"))
    assert first == second
    assert set(first) == {"forward.csv", "forward.json", "noised.npy", "pixels.npy", "edges.npy"}
