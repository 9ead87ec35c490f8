"""Nearest training images: exact whatever the blocks, ties to the first; shares against counts and known laws."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from ddpm_bench.stages import nearest as stage
from ddpm_bench.stages._images import subset
from ddpm_bench.stages.nearest import nearer, nearest
from ddpm_bench.store import Artifact
from tests.stages.workbench import Bench


def brute_force(images: np.ndarray, training: np.ndarray) -> tuple[list[int], list[float]]:
    """(first index of the smallest distance, the distance) of each image, in integers of any size."""
    index, distance = [], []
    for image in images.reshape(len(images), -1).tolist():
        squares = [sum((a - b) ** 2 for a, b in zip(image, row, strict=True)) for row in training.reshape(
            len(training), -1).tolist()]  # fmt: skip
        index.append(squares.index(min(squares)))
        distance.append(math.sqrt(min(squares)))
    return index, distance


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_against_brute_force(levels: int) -> None:
    """Two levels on 3×2×2 pixels: many ties, and copies."""
    rng = np.random.default_rng(0)
    training = rng.integers(levels, size=(90, 3, 2, 2)).astype(np.uint8)
    images = rng.integers(levels, size=(40, 3, 2, 2)).astype(np.uint8)
    images[5] = training[17]
    index, distance = nearest(images, training)
    wanted, lengths = brute_force(images, training)
    assert index.tolist() == wanted
    np.testing.assert_allclose(distance, lengths, rtol=1e-15)  # one root of an exact integer
    assert distance[5] == 0.0


@pytest.mark.parametrize("block", [1, 12 * 7, 12 * 89, 12 * 1000])
def test_blocks_change_no_bit(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for training, images in (
        (rng.integers(256, size=(90, 12)).astype(np.uint8), rng.integers(256, size=(33, 12)).astype(np.uint8)),
        (rng.standard_normal((90, 12)).astype(np.float32), rng.standard_normal((33, 12)).astype(np.float32)),
    ):
        whole = nearest(images, training)
        with monkeypatch.context() as patched:
            patched.setattr(stage, "BLOCK_VALUES", block)
            parts = nearest(images, training)
        assert np.array_equal(whole[0], parts[0])
        assert np.array_equal(whole[1], parts[1])


def test_features_that_are_nearly_equal() -> None:
    """Far from the origin |x|² + |y|² − 2 x·y loses digits: 1e-4 of 1e3 is found, and a copy has distance 0."""
    rng = np.random.default_rng(0)
    training = (1000 + rng.standard_normal((50, 64))).astype(np.float32)
    images = training[10:20].copy()
    images[:, 0] += np.float32(0.125)
    index, distance = nearest(images, training)
    assert index.tolist() == list(range(10, 20))
    assert distance.tolist() == [0.125] * 10
    assert nearest(training[:3], training)[1].tolist() == [0.0] * 3


# Shares


def count(samples: list[float], held_out: list[float]) -> float:
    """The share of pairs in which the sample is nearer, ties half, one by one."""
    return sum(1.0 if d < e else 0.5 if d == e else 0.0 for d, e in itertools.product(samples, held_out)) / (
        len(samples) * len(held_out)
    )


def test_shares_are_counts() -> None:
    rng = np.random.default_rng(0)
    samples, held_out = rng.integers(9, size=31).astype(float), rng.integers(12, size=44).astype(float)
    found = nearer(samples, held_out)
    assert found["nearer"]["value"] == pytest.approx(count(samples.tolist(), held_out.tolist()), rel=1e-12)
    statistic = mannwhitneyu(held_out, samples, method="asymptotic").statistic  # counts pairs with held_out > samples
    assert found["nearer"]["value"] == pytest.approx(statistic / (31 * 44), rel=1e-12)
    median = float(np.median(held_out))
    assert found["below_median"]["value"] == pytest.approx(count(samples.tolist(), [median]), rel=1e-12)
    assert (found["nearer"]["num_samples"], found["num_held_out"]) == (31, 44)
    assert (found["median_distance"], found["median_distance_held_out"]) == (float(np.median(samples)), median)


def test_copies_and_noise_are_at_the_ends() -> None:
    held_out = np.linspace(5, 9, 40)
    for distance, share in ((0.0, 1.0), (20.0, 0.0)):
        found = nearer(np.full(50, distance), held_out)
        assert found["nearer"]["value"] == found["below_median"]["value"] == share
        # Nothing varies, and yet 40 images are not certain of it: the smaller set, 40 of 40 or none, smoothed alike.
        assert found["nearer"]["stderr"] == pytest.approx(math.sqrt(41 / 42 / 42 / 43))
        # 50 of 50: p̃ = 51/52, √(p̃ (1 − p̃)/53)
        assert found["below_median"]["stderr"] == pytest.approx(math.sqrt(51 / 52 / 52 / 53))


def test_held_out_images_among_themselves_are_at_one_half() -> None:
    held_out = np.random.default_rng(0).random(101)
    found = nearer(held_out, held_out)
    assert found["nearer"]["value"] == pytest.approx(0.5, abs=1e-12)
    assert found["below_median"]["value"] == pytest.approx(0.5, abs=1e-12)
    assert found["below_median"]["stderr"] == pytest.approx(0.5 / math.sqrt(104), rel=1e-9)


def test_the_standard_error_of_the_share() -> None:
    """Over 600 repeats of another law the errors, divided by their standard errors, have variance 1 within 5 standard
    deviations of a variance (√(2/600) = 0.058) and a tenth for the normal approximation at n = 60."""
    rng = np.random.default_rng(0)
    truth = 1 / (1 + 1.5)  # P(d < e) of exponentials with means 1.5 and 1
    errors = []
    for _ in range(600):
        found = nearer(rng.exponential(1.5, 60), rng.exponential(1.0, 90))["nearer"]
        errors.append((found["value"] - truth) / found["stderr"])
    assert abs(np.mean(errors)) < 5 / math.sqrt(600) + 0.1
    assert abs(np.var(errors) - 1) < 5 * math.sqrt(2 / 600) + 0.1


def test_a_single_image_has_no_standard_error() -> None:
    assert nearer(np.array([1.0]), np.array([2.0, 3.0]))["nearer"] == {
        "value": 1.0, "stderr": None, "num_samples": 1, "unit": "share",
    }  # fmt: skip


# The stage


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "runs")


def stored(bench: Bench, name: str, values: np.ndarray) -> Artifact:
    """An artifact with one array."""
    with bench.store.create("made", name, {}) as out:
        np.save(out / f"{name.partition('-')[0]}.npy", values)
    return bench.store.get("made", name)


def search(bench: Bench, **inputs: Any) -> tuple[Artifact, dict[str, Any] | None]:
    spec = inputs.pop("spec")
    found = bench.run("nearest", {"space": "pixels", **spec}, inputs)
    file = found.path / "nearer.json"
    return found, json.loads(file.read_text()) if file.is_file() else None


def test_pixels(bench: Bench) -> None:
    data = bench.data(train=50, test=30)
    train, test = np.load(data.path / "train.npy"), np.load(data.path / "test.npy")
    held_out, none = search(bench, spec={"source": "split", "split": "test", "count": 9}, data=data, images=[data])
    assert none is None
    assert {file.name for file in held_out.path.iterdir()} == {"manifest.json", "index.npy", "distance.npy"}
    index, distance = nearest(test[subset(30, 9)], train)  # a seeded subset, not the first ones
    assert np.array_equal(np.load(held_out.path / "index.npy"), index)
    assert np.array_equal(np.load(held_out.path / "distance.npy"), distance)

    rng = np.random.default_rng(1)
    chunks = [
        stored(bench, f"samples-{i}", rng.integers(17, size=(n, 1, 4, 4)).astype(np.uint8))
        for i, n in enumerate((12, 8))
    ]
    found, shares = search(bench, spec={"source": "samples", "count": 18}, data=data, images=chunks, held_out=held_out)
    together = np.concatenate([np.load(chunk.path / "samples.npy") for chunk in chunks])[:18]
    index, of_samples = nearest(together, train)
    assert np.array_equal(np.load(found.path / "index.npy"), index)
    assert np.array_equal(np.load(found.path / "images.npy"), train[index[:16]])
    assert shares == {"space": "pixels", **nearer(of_samples, distance), "num_train": 50}


def test_features(bench: Bench) -> None:
    """Neighbours are found in features, the pictures are of the images that they belong to."""
    data, rng = bench.data(train=50, test=30), np.random.default_rng(1)
    arrays = {name: rng.standard_normal((n, 5)).astype(np.float32) for name, n in
              (("features-train", 50), ("features-test", 30), ("features-chunk", 12))}  # fmt: skip
    made = {name: stored(bench, name, values) for name, values in arrays.items()}
    common = {"data": data, "reference": made["features-train"]}
    held_out, _ = search(
        bench, spec={"space": "net", "source": "split", "split": "test", "count": 30}, images=[made["features-test"]],
        **common,
    )  # fmt: skip
    found, shares = search(
        bench, spec={"space": "net", "source": "samples", "count": 12}, images=[made["features-chunk"]],
        held_out=held_out, **common,
    )  # fmt: skip
    squares = ((arrays["features-chunk"][:, None].astype(float) - arrays["features-train"]) ** 2).sum(2)
    index = squares.argmin(1)
    assert np.load(found.path / "index.npy").tolist() == index.tolist()
    np.testing.assert_allclose(np.load(found.path / "distance.npy"), np.sqrt(squares.min(1)), rtol=1e-12)
    assert np.array_equal(np.load(found.path / "images.npy"), np.load(data.path / "train.npy")[index])
    of_test = ((arrays["features-test"][:, None].astype(float) - arrays["features-train"]) ** 2).sum(2).min(1)
    np.testing.assert_allclose(np.load(held_out.path / "distance.npy"), np.sqrt(of_test), rtol=1e-12)
    assert shares is not None
    assert (shares["space"], shares["num_held_out"], shares["num_train"]) == ("net", 30, 50)
