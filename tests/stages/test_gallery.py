"""Galleries: the sample stage's own images, x̂_0 along their chain, and arcs of noise that stay N(0, I)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_bench.diffusion.schedules.cosine import Cosine
from ddpm_bench.planning.gallery import SHAPE
from ddpm_bench.registry import get
from ddpm_bench.spec import Reverse
from ddpm_bench.stages import gallery, sample
from ddpm_bench.stages._gallery import along_arcs, evenly, in_order
from ddpm_bench.stages.gallery import num_images
from ddpm_bench.stages.sample import to_levels
from ddpm_bench.store import Artifact
from tests.stages.slow_chain import call, full_chain, kept_chain, noise, sigma2, x_0_hat
from tests.stages.workbench import Bench, network, reverse, training, with_head

T = 12
SHAPE_OF_IMAGES = (1, 4, 4)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "runs")


@pytest.fixture
def unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values as the sampler returns them, not their levels."""
    for stage in (sample, gallery):
        monkeypatch.setattr(stage, "to_levels", lambda x, levels: x)


def inputs_of(bench: Bench, model: Artifact, used: Reverse) -> dict[str, Any]:
    data = bench.store.get(*model.manifest["inputs"]["data"])
    return {"train": model, **({"fit": bench.fit(model, data, used)} if used.variance.needs_fit else {})}


def made(bench: Bench, model: Artifact, used: Reverse | None = None, **changes: int) -> Artifact:
    used = used or reverse()
    return bench.run("gallery", {"reverse": used, **SHAPE, **changes}, inputs_of(bench, model, used))


def arrays(artifact: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """progressive and interpolation."""
    return np.load(artifact.path / "progressive.npy"), np.load(artifact.path / "interpolation.npy")


# Where a chain is looked at


@pytest.mark.parametrize(
    ("num_steps", "count", "want"),
    [
        (1000, 8, [999, 856, 714, 571, 428, 285, 143, 0]),  # 999·(1 − j/7) = 856.3, 713.6, 570.9, 428.1, 285.4, 142.7
        (9, 5, [8, 6, 4, 2, 0]), (8, 8, [7, 6, 5, 4, 3, 2, 1, 0]), (3, 8, [2, 1, 0]), (1, 8, [0]),
    ],
)  # fmt: skip
def test_steps_that_are_kept(num_steps: int, count: int, want: list[int]) -> None:
    assert evenly(num_steps, count) == want


@pytest.mark.parametrize("num_steps", range(1, 60))
def test_kept_steps_are_different_and_reach_both_ends(num_steps: int) -> None:
    found = evenly(num_steps, 8)
    assert (found[0], found[-1]) == (num_steps - 1, 0)
    assert len(set(found)) == min(8, num_steps)
    assert found == sorted(found, reverse=True)


# Noise between two noises


def test_each_interpolant_is_standard_normal() -> None:
    """Mean, variance, fourth moment, distribution function and the covariance with its ends, over 2·10⁵ values."""
    size, points = 200_000, 8
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((4, size))).float()
    found = along_arcs(z, points).double().numpy()
    assert found.shape == (num_images(4, points), size)
    # Five standard errors: of the mean 1/√n, the variance √(2/n), the fourth moment √(96/n), a share of p √(p(1−p)/n).
    for row in found:
        assert abs(row.mean()) < 5 / math.sqrt(size)
        assert abs(row.var() - 1) < 5 * math.sqrt(2 / size)
        assert abs(np.mean(row**4) - 3) < 5 * math.sqrt(96 / size)
        for at, share in ((-2.0, 0.0227501), (-1.0, 0.1586553), (0.5, 0.6914625)):
            assert abs(np.mean(row < at) - share) < 5 * math.sqrt(share * (1 - share) / size)
    # cov with the first end is cos(λπ/2): a product of two standard normals has a variance of at most 2.
    for j in range(1, points - 1):
        angle = 0.5 * math.pi * j / (points - 1)
        assert abs(np.mean(found[4 + j - 1] * found[0]) - math.cos(angle)) < 5 * math.sqrt(2 / size)
        assert abs(np.mean(found[4 + j - 1] * found[1]) - math.sin(angle)) < 5 * math.sqrt(2 / size)


def test_norms_of_interpolants_are_those_of_noise() -> None:
    """|x|² of D values is χ²_D: mean D and variance 2D for every point of the arc. Linear weights lose half of it."""
    size, repeats = 64, 4000
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((2 * repeats, size))).float()
    middle = in_order(along_arcs(z, 5), 2 * repeats, 5)[:, 2]
    norms = middle.double().square().sum(1).numpy()
    assert abs(norms.mean() - size) < 5 * math.sqrt(2 * size / repeats)
    # The variance of a χ²_D sample's variance is about (2 + 12/D)(2D)²/n.
    assert abs(norms.var() - 2 * size) < 5 * 2 * size * math.sqrt((2 + 12 / size) / repeats)
    linear = (0.5 * (z[0::2] + z[1::2])).square().sum(1).mean()
    assert float(linear) < 0.6 * size


def test_ends_are_the_noises_and_pairs_keep_apart() -> None:
    z = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    found = along_arcs(z, 4)
    assert torch.equal(found[:4], z)
    rows = in_order(found, 4, 4)
    assert rows.shape == (2, 4, 1, 2, 2)
    assert torch.equal(rows[:, 0], z[0::2])
    assert torch.equal(rows[:, -1], z[1::2])
    half = math.sqrt(3) / 2  # 30° and 60°
    for pair in range(2):
        a, b = z[2 * pair], z[2 * pair + 1]
        torch.testing.assert_close(rows[pair, 1], half * a + 0.5 * b)
        torch.testing.assert_close(rows[pair, 2], 0.5 * a + half * b)
    assert torch.equal(along_arcs(z, 2), z)


# The chain


def slow_walk(model: Artifact, used: Reverse, weights: dict[int, float]) -> tuple[list[np.ndarray], np.ndarray]:
    """(x̂_0 of every step from the last to the first, the image) of one chain, by the written-out recursion.

    weights: sample number → weight of its noise, in x_T and in every step.
    """
    net, kept = network(model, used.weights), list(used.timesteps or range(1, T + 1))
    full, walked = full_chain("cosine", T), kept_chain("cosine", T, kept)

    def drawn(t: int) -> np.ndarray:
        parts = [weight * noise(0, "sample", t, index, SHAPE_OF_IMAGES) for index, weight in weights.items()]
        return np.sum(parts, axis=0)

    x, guesses = drawn(0), []
    for i in reversed(range(len(kept))):
        guess = np.clip(x_0_hat("v", call(net, x, kept[i]), x, kept[i], full), -1, 1)
        guesses.append(guess)
        x = walked.posterior_x_0[i] * guess + walked.posterior_x_t[i] * x
        if i:
            x = x + math.sqrt(sigma2(used.variance.name, used.first_step, walked)[i]) * drawn(kept[i])
    return guesses, x


@pytest.mark.parametrize("kept", [None, (1, 4, 8, 12), (2, 7)])
@pytest.mark.usefixtures("unrounded")
def test_against_a_slow_chain(bench: Bench, kept: tuple[int, ...] | None) -> None:
    chosen = training(timesteps=T, prediction=get("predictions", "v")(), schedule=Cosine())
    model = bench.model(bench.data(), chosen)
    used = reverse(timesteps=kept)
    artifact = made(bench, model, used)
    progressive, interpolation = arrays(artifact)
    steps, shown = list(kept or range(1, T + 1)), artifact.manifest["info"]["timesteps"]
    assert shown == [steps[i] for i in evenly(len(steps), 8)]
    assert progressive.shape == (4, len(shown), *SHAPE_OF_IMAGES)
    assert interpolation.shape == (2, 8, *SHAPE_OF_IMAGES)
    # The tolerance of the sample stage's slow chain: the clip bounds every x̂_0, so float32 errors do not grow.
    for index in range(4):
        guesses, image = slow_walk(model, used, {index: 1.0})
        wanted = np.stack([guesses[::-1][steps.index(t)] for t in shown])
        np.testing.assert_allclose(progressive[index], wanted, atol=2e-3)
        np.testing.assert_allclose(progressive[index, -1], image, atol=2e-3)  # at the last step x̂_0 is the image
    for pair in range(2):
        for j in range(8):
            angle = 0.5 * math.pi * j / 7
            weights = {2 * pair: math.cos(angle), 2 * pair + 1: math.sin(angle)}
            np.testing.assert_allclose(interpolation[pair, j], slow_walk(model, used, weights)[1], atol=2e-3)
    assert np.abs(progressive[0] - progressive[1]).max() > 0.1
    assert np.abs(np.diff(progressive, axis=1)).max() > 0.1


CASES = {
    "ancestral": {}, "learned": {"variance": "learned_range"}, "optimal": {"variance": "optimal"},
    "raw, five steps": {"weights": "raw", "timesteps": (1, 3, 6, 9, 12)}, "DDIM": {"sampler": ("ddim", {"eta": 0.0})},
    "DDIM with noise": {"sampler": ("ddim", {"eta": 1.0})}, "DPM-Solver++": {"sampler": ("dpm_solver", {})},
    "dynamic": {"thresholding": "dynamic"},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("unrounded")
def test_its_images_are_the_samples(bench: Bench, case: str) -> None:
    """Chunk 0 has 128 images in a network call, a gallery 16: 1e-4, the bound across sub-batch sizes."""
    settings = dict(CASES[case])
    if "variance" in settings:
        settings["variance"] = get("variances", settings["variance"])()
    if "sampler" in settings:
        name, parameters = settings["sampler"]
        settings["sampler"] = get("samplers", name)(**parameters)
    used = reverse(**settings)
    make = with_head if case == "learned" else training
    model = bench.model(bench.data(), make(timesteps=T, prediction=get("predictions", "v")(), schedule=Cosine()))
    spec = {"reverse": used, "chunk": 0, "count": 128}
    samples = np.load(bench.run("sample", spec, inputs_of(bench, model, used)).path / "samples.npy")
    progressive, interpolation = arrays(made(bench, model, used))
    np.testing.assert_allclose(progressive[:, -1], samples[:4], atol=1e-4)
    np.testing.assert_allclose(interpolation[:, 0], samples[0:4:2], atol=1e-4)
    np.testing.assert_allclose(interpolation[:, -1], samples[1:4:2], atol=1e-4)
    assert np.abs(samples[0] - samples[1]).max() > 0.1
    # Neighbours on an arc are nearer to each other than its ends are.
    steps = np.abs(np.diff(interpolation, axis=1)).mean(axis=(2, 3, 4))
    assert steps.mean() < 0.8 * np.abs(interpolation[:, 0] - interpolation[:, -1]).mean()


def test_levels_files_and_calls(bench: Bench) -> None:
    for levels, channels in ((17, 1), (256, 3)):
        model = bench.model(bench.data(levels=levels, channels=channels), training(timesteps=T))
        artifact = made(bench, model)
        progressive, interpolation = arrays(artifact)
        assert {file.name for file in artifact.path.iterdir()} == {
            "manifest.json", "progressive.npy", "interpolation.npy",
        }  # fmt: skip
        assert progressive.dtype == interpolation.dtype == np.uint8
        assert progressive.shape == (4, 8, channels, 4, 4)
        assert max(progressive.max(), interpolation.max()) == levels - 1
        assert artifact.manifest["info"] == {
            "network_calls": 16 * T, "levels": levels, "timesteps": [12, 10, 9, 7, 6, 4, 3, 1],
        }  # fmt: skip
        assert "progress" in bench.log(artifact)


def test_the_network_sees_sixteen_images_a_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of a gallery are one call, not a chunk's 128; a large image goes in the usual sub-batches."""
    model = bench.model(bench.data(), training(timesteps=T))
    sizes: list[int] = []

    def forward(self: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return torch.zeros_like(x)

    monkeypatch.setattr("ddpm_bench.networks.unet.UnetModule.forward", forward)
    made(bench, model)
    assert sizes == [16] * T
    sizes.clear()
    monkeypatch.setattr("ddpm_bench.stages._model.MAX_VALUES", {"cpu": 8 * 16})  # eight 4×4 images
    made(bench, model, kept=7)
    assert sizes == [8, 8] * T


def test_another_pair_changes_nothing_else(bench: Bench) -> None:
    """Interpolants in between never touch the samples they hang from."""
    model = bench.model(bench.data(), training(timesteps=T))
    few, many = arrays(made(bench, model, points=2))[0], arrays(made(bench, model, points=9))[0]
    difference = np.abs(few.astype(int) - many.astype(int))
    assert difference.max() <= 1  # a value at the border of two levels may fall on either side
    assert (difference > 0).mean() < 0.01


def test_two_runs_are_equal_bit_for_bit(tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        bench = Bench(tmp_path / name)
        artifact = made(bench, bench.model(bench.data(), training(timesteps=T)))
        found.append({file: digest["sha256"] for file, digest in artifact.manifest["files"].items()})
    assert found[0] == found[1]


def test_pictures_are_clamped_to_levels() -> None:
    """x̂_0 without thresholding leaves [−1, 1]: shown as black and white."""
    assert to_levels(torch.tensor([-9.0, 9.0]), 17).tolist() == [0, 16]
