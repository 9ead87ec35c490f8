"""MNIST and Fashion-MNIST: the same four files, in folders of their own."""

import gzip

import numpy as np
import pytest

from ddpm_bench.datasets import _idx, fashion_mnist
from ddpm_bench.datasets._idx import read_idx
from ddpm_bench.datasets.fashion_mnist import FashionMnist
from ddpm_bench.datasets.mnist import Mnist
from ddpm_bench.errors import FieldError, UserError
from ddpm_bench.vision import import_torchvision
from tests.datasets.idx import NAMES, idx, small_shapes, write_idx_files

FOLDERS = {Mnist: "MNIST/raw", FashionMnist: "FashionMNIST/raw"}


@pytest.fixture(params=FOLDERS, ids=lambda entry: entry.__name__)
def entry(request, tmp_path, monkeypatch):
    """One of the data sets, on a machine without Debian's package."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    return request.param


@pytest.fixture
def arrays(entry, tmp_path, monkeypatch):
    """The arrays in a folder of torchvision's layout with 20 training images (compressed) and 10 test images (not)."""
    monkeypatch.setattr(_idx, "SHAPES", small_shapes())
    return write_idx_files(tmp_path / FOLDERS[entry], small_shapes())


def test_the_table_is_the_published_format():
    assert small_shapes(60_000, 10_000) == _idx.SHAPES
    for name in ("MNIST", "FashionMNIST"):
        assert [file for file, _ in getattr(import_torchvision().datasets, name).resources] == list(NAMES)


def test_reads_compressed_and_plain_files(entry, arrays, tmp_path):
    images = entry().load(tmp_path)
    assert images.train.shape == (20, *entry().shape(tmp_path)) == (20, 1, 28, 28)
    assert images.levels == 256
    assert images.test_labels.dtype == np.int64
    np.testing.assert_array_equal(images.train[:, 0], arrays[NAMES[0]])
    np.testing.assert_array_equal(images.train_labels, arrays[NAMES[1]])
    np.testing.assert_array_equal(images.test[:, 0], arrays[NAMES[2]])
    np.testing.assert_array_equal(images.test_labels, arrays[NAMES[3]])
    assert [path.suffix for path in entry().sources(tmp_path)] == [".gz", ".gz", "", ""]


def test_published_sums_belong_to_compressed_files(entry, arrays, tmp_path):
    known = dict(getattr(import_torchvision().datasets, entry.published.downloader).resources)
    folder = tmp_path / FOLDERS[entry]
    assert entry().checksums(tmp_path) == {folder / name: known[name] for name in NAMES[:2]}


def test_size_resizes(entry, arrays, tmp_path):
    assert entry(size=32).load(tmp_path).train.shape == (20, *entry(size=32).shape(tmp_path)) == (20, 1, 32, 32)
    with pytest.raises(FieldError, match="size"):
        entry(size=0)


def test_missing_files_name_the_places_and_the_remedy(entry, tmp_path):
    for use in (entry().load, entry().sources, entry().checksums):
        with pytest.raises(UserError) as problem:
            use(tmp_path)
        message = str(problem.value)
        assert str(tmp_path / FOLDERS[entry]) in message
        assert (str(tmp_path / "debian") in message) == (entry is FashionMnist)
        assert f"`ddpm-bench data fetch {entry.name}`" in message
        assert "DDPM_BENCH_DATA" in message


def test_files_of_the_published_shape(entry, tmp_path):
    """60 000 and 10 000 images, black but for a corner that counts them."""
    folder = tmp_path / FOLDERS[entry]
    folder.mkdir(parents=True)
    for name, shape in small_shapes(60_000, 10_000).items():
        array = np.zeros(shape, dtype=np.uint8)
        array.reshape(shape[0], -1)[:, 0] = np.arange(shape[0]) % 10
        (folder / name).write_bytes(gzip.compress(idx(array), compresslevel=1))
    images = entry().load(tmp_path)
    assert (images.train.shape, images.test.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    np.testing.assert_array_equal(images.train[:, 0, 0, 0], images.train_labels)
    assert entry.published.num_images == (len(images.train), len(images.test))


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
