"""Fashion-MNIST from Debian's package; see test_idx.py for the format."""

import numpy as np
import pytest

from ddpm_bench.datasets import _idx, fashion_mnist
from ddpm_bench.datasets.fashion_mnist import FashionMnist
from tests.datasets.idx import small_shapes, write_idx_files


def test_debians_files_are_found_and_have_no_published_sums(tmp_path, monkeypatch):
    """Debian packs the same images again, so that the compressed files have other sums."""
    monkeypatch.setattr(_idx, "SHAPES", small_shapes())
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    write_idx_files(tmp_path / "debian", small_shapes())
    data, root = FashionMnist(), tmp_path / "data"
    assert {path.parent for path in data.sources(root)} == {tmp_path / "debian"}
    assert data.checksums(root) == {}
    write_idx_files(root / "FashionMNIST" / "raw", small_shapes())
    assert {path.parent for path in data.sources(root)} == {root / "FashionMNIST" / "raw"}


@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_published_files(tmp_path):
    images = FashionMnist().load(tmp_path)
    assert images.train.shape == (60_000, 1, 28, 28)
    np.testing.assert_array_equal(np.bincount(images.train_labels), 6000)
    np.testing.assert_array_equal(np.bincount(images.test_labels), 1000)
    # Mean and standard deviation of the training pixels, known from the data set's users: 0.2860 and 0.3530.
    assert round(float(images.train.mean()) / 255, 4) == 0.2860
    assert round(float(images.train.std()) / 255, 4) == 0.3530
