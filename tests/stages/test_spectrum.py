"""Eigenvalues of the covariance of training images against numpy's, whichever Gram matrix is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddpm_bench.stages import spectrum
from ddpm_bench.stages._images import subset
from ddpm_bench.store import Artifact
from tests.stages.workbench import Bench


def expected(values: np.ndarray, levels: int | None) -> np.ndarray:
    """By numpy's covariance of all dimensions, x = 2v/(K−1) − 1."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    scaled = flat if levels is None else 2 * flat / (levels - 1) - 1
    return np.sort(np.linalg.eigvalsh(np.cov(scaled.T, bias=True)))[::-1]


def made(num_images: int, levels: int | None, shape: tuple[int, int, int] = (2, 3, 4)) -> np.ndarray:
    """Images with correlated pixels, one pixel constant."""
    rng = np.random.default_rng(num_images)
    mixed = rng.standard_normal((num_images, 24)) @ rng.standard_normal((24, 24))
    mixed[:, 5] = 0.25
    values = mixed.reshape(num_images, *shape)
    if levels is None:
        return values.astype(np.float32)
    return np.clip(np.round((values / 8 + 0.5) * (levels - 1)), 0, levels - 1).astype(np.uint8)


def eigenvalues(artifact: Artifact) -> np.ndarray:
    found: np.ndarray = np.load(artifact.path / "eigenvalues.npy")
    return found


@pytest.mark.parametrize("levels", [17, 256, None])
@pytest.mark.parametrize("num_images", [1, 2, 10, 24, 25, 300])
def test_eigenvalues_are_those_of_the_covariance(num_images: int, levels: int | None) -> None:
    values = made(num_images, levels)
    found = spectrum.covariance_eigenvalues(values, levels)
    assert found.dtype == np.float64
    assert found.shape == (24,)
    reference = expected(values, levels) if num_images > 1 else np.zeros(24)
    # x in float32 is rounded by 6e-8 relative, which moves an eigenvalue by about 2·6e-8 of the largest.
    np.testing.assert_allclose(found, reference, rtol=0, atol=3e-7 * max(1.0, reference[0]))
    assert np.all(np.diff(found) <= 0)
    assert np.all(found >= 0)
    assert np.count_nonzero(found) == min(num_images - 1, 23)  # exact zeros: no image, or the constant pixel


@pytest.mark.parametrize("num_images", [10, 300])
def test_memory_is_bounded_by_blocks_that_change_nothing(num_images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = made(num_images, 256)
    whole = spectrum.covariance_eigenvalues(values, 256)
    for size in (1, 50, 1000):
        monkeypatch.setattr(spectrum, "BLOCK_VALUES", size)
        # Sums in another order: some roundings of 1e-16 of the largest eigenvalue.
        np.testing.assert_allclose(spectrum.covariance_eigenvalues(values, 256), whole, rtol=0, atol=1e-13 * whole[0])


@pytest.mark.parametrize("levels", [17, None])
@pytest.mark.parametrize("images", [7, 30, 1000])
def test_the_stage_takes_a_seeded_subset_of_the_training_images(
    images: int, levels: int | None, tmp_path: Path
) -> None:  # fmt: skip
    bench = Bench(tmp_path)
    data = bench.data(levels=levels, train=40)
    found = bench.run("spectrum", {"images": images}, {"data": data})
    train = np.load(data.path / "train.npy")
    reference = expected(train[subset(40, images)], levels)
    np.testing.assert_allclose(eigenvalues(found), reference, rtol=0, atol=3e-7 * max(1.0, reference[0]))
    assert found.manifest["info"] == {"images": min(images, 40)}
    assert set(found.manifest["files"]) == {"eigenvalues.npy"}


def test_another_number_of_images_is_another_artifact_and_the_same_one_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "one")
    data = bench.data()
    ten, twenty = (bench.run("spectrum", {"images": count}, {"data": data}) for count in (10, 20))
    assert ten.path.name != twenty.path.name
    assert not np.array_equal(eigenvalues(ten), eigenvalues(twenty))
    other = Bench(tmp_path / "other")
    again = other.run("spectrum", {"images": 10}, {"data": other.data()})
    assert again.manifest["files"] == ten.manifest["files"]
