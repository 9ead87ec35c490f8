import hashlib
import pickle

import numpy as np
import pytest

from ddpm_bench.datasets.cifar10 import FILES, FOLDER, Cifar10
from ddpm_bench.errors import UserError
from ddpm_bench.vision import import_torchvision

NUM_IN_FILE = 6


class OldDtype:
    """Pickles as numpy's uint8 did in 2009, with integers for booleans: the published files are such."""

    def __reduce__(self):
        return np.dtype, ("u1", 0, 1)


class OldArray:
    """Pickles as a uint8 array with an `OldDtype`."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        return np.ndarray, (self.array.shape, OldDtype(), self.array.tobytes())


def pixels(name: str) -> np.ndarray:
    return np.random.default_rng(FILES.index(name)).integers(0, 256, size=(NUM_IN_FILE, 3072), dtype=np.uint8)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """CIFAR-10 of six images a file, with torchvision's list of MD5 sums adapted."""
    cifar10 = import_torchvision().datasets.CIFAR10
    folder = tmp_path / "cifar10" / FOLDER
    folder.mkdir(parents=True)
    md5 = {}
    for name in FILES:
        if name == "batches.meta":
            content = {"label_names": [f"class {i}" for i in range(10)]}
        else:
            content = {"data": OldArray(pixels(name)), "labels": list(range(NUM_IN_FILE))}
        data = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(data)
        md5[name] = hashlib.md5(data).hexdigest()
    monkeypatch.setattr(cifar10, "train_list", [(name, md5[name]) for name in FILES[:5]])
    monkeypatch.setattr(cifar10, "test_list", [("test_batch", md5["test_batch"])])
    monkeypatch.setattr(cifar10, "meta", {**cifar10.meta, "md5": md5["batches.meta"]})
    return tmp_path


def test_reads_the_published_format(root):
    images = Cifar10().load(root)
    assert images.train.shape == (5 * NUM_IN_FILE, *Cifar10().shape(root)) == (30, 3, 32, 32)
    np.testing.assert_array_equal(images.test, pixels("test_batch").reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(images.train[6:12], pixels("data_batch_2").reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(images.train_labels, np.tile(np.arange(6), 5))
    assert images.levels == 256
    assert images.train.flags.c_contiguous


def test_size_resizes(root):
    assert Cifar10(size=16).load(root).train.shape == (30, *Cifar10(size=16).shape(root)) == (30, 3, 16, 16)


def test_sources_are_the_seven_files(root):
    assert [path.name for path in Cifar10().sources(root)] == list(FILES)
    assert all(path.is_file() for path in Cifar10().sources(root))


def test_the_file_names_are_torchvisions():
    cifar10 = import_torchvision().datasets.CIFAR10
    names = [name for name, _ in [*cifar10.train_list, *cifar10.test_list]] + [cifar10.meta["filename"]]
    assert names == list(FILES)
    assert cifar10.base_folder == FOLDER


def test_a_changed_file_is_named(root):
    path = root / "cifar10" / FOLDER / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError) as problem:
        Cifar10().load(root)
    assert str(path) in str(problem.value)
    assert "data_batch_2" not in str(problem.value)


def test_missing_files_name_the_places_and_the_remedy(tmp_path):
    for use in (Cifar10().load, Cifar10().sources):
        with pytest.raises(UserError) as problem:
            use(tmp_path)
        message = str(problem.value)
        for part in (tmp_path / FOLDER, tmp_path / "cifar10" / FOLDER, "cifar-10-python.tar.gz", "DDPM_BENCH_DATA"):
            assert str(part) in message
