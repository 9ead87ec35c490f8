import gzip
import struct

import numpy as np
import pytest

from ddpm_bench.datasets import fashion_mnist
from ddpm_bench.datasets.fashion_mnist import FashionMnist, read_idx
from ddpm_bench.errors import UserError


def idx(array: np.ndarray) -> bytes:
    """The IDX file of a uint8 array, written independently of the reader."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder in torchvision's layout with 20 training images (compressed) and 10 test images (not)."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "no-such-folder")
    counts = {"train": 20, "t10k": 10}
    shapes = {name: (counts[name.split("-")[0]], *shape[1:]) for name, shape in fashion_mnist.SHAPES.items()}
    monkeypatch.setattr(fashion_mnist, "SHAPES", shapes)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        content = idx(rng.integers(0, 10, size=shape, dtype=np.uint8))
        if name.startswith("train"):
            (raw / name).write_bytes(gzip.compress(content))
        else:
            (raw / name.removesuffix(".gz")).write_bytes(content)
    return tmp_path


def test_reads_compressed_and_plain_files(root):
    images = FashionMnist().load(root)
    assert images.train.shape == (20, *FashionMnist().shape(root)) == (20, 1, 28, 28)
    assert images.test.shape == (10, 1, 28, 28)
    assert images.levels == 256
    assert images.test_labels.dtype == np.int64
    first = np.random.default_rng(0).integers(0, 10, size=(20, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(images.train[:, 0], first)
    assert [path.suffix for path in FashionMnist().sources(root)] == [".gz", ".gz", "", ""]


def test_size_resizes(root):
    assert FashionMnist(size=16).load(root).train.shape == (20, *FashionMnist(size=16).shape(root)) == (20, 1, 16, 16)


def test_missing_files_name_the_places_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    for use in (FashionMnist().load, FashionMnist().sources):
        with pytest.raises(UserError) as problem:
            use(tmp_path)
        message = str(problem.value)
        assert str(tmp_path / "FashionMNIST" / "raw") in message
        assert str(tmp_path / "debian") in message
        assert "DDPM_BENCH_DATA" in message


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c + b"\0", lambda c: b"\0\0\x09" + c[3:]])
def test_a_wrong_length_or_header_is_refused(tmp_path, damage):
    path = tmp_path / "images"
    array = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    path.write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(path, (2, 3, 3)), array)
    path.write_bytes(damage(idx(array)))
    with pytest.raises(UserError, match=r"images: not an IDX file of 2 × 3 × 3 bytes"):
        read_idx(path, (2, 3, 3))


@pytest.mark.parametrize("damage", [lambda c: c[:-9], lambda c: c[:12] + b"\xff" * 8 + c[20:], lambda c: b"no" + c])
def test_damaged_compression_is_refused(tmp_path, damage):
    path = tmp_path / "labels.gz"
    content = gzip.compress(idx(np.arange(60, dtype=np.uint8)))
    path.write_bytes(damage(content))
    with pytest.raises(UserError, match=r"labels\.gz: not a sound gzip file"):
        read_idx(path, (60,))


@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_published_files(tmp_path):
    images = FashionMnist().load(tmp_path)
    assert images.train.shape == (60_000, 1, 28, 28)
    np.testing.assert_array_equal(np.bincount(images.train_labels), 6000)
    np.testing.assert_array_equal(np.bincount(images.test_labels), 1000)
    # Mean and standard deviation of the training pixels, known from the data set's users: 0.2860 and 0.3530.
    assert round(float(images.train.mean()) / 255, 4) == 0.2860
    assert round(float(images.train.std()) / 255, 4) == 0.3530
