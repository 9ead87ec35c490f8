"""CelebA from a small folder of its layout, made of the photographs that scikit-learn ships."""

import hashlib

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from ddpm_bench.datasets.celeba import Celeba
from ddpm_bench.errors import FieldError, UserError
from ddpm_bench.vision import import_torchvision

PARTITIONS = [0] * 20 + [1] * 3 + [2] * 5
NAMES = [f"{i + 1:06}.jpg" for i in range(len(PARTITIONS))]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """28 patches of 178×218 pixels: 20 for training, 3 of partition 1, 5 for testing."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    photographs = load_sample_images().images
    rng = np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        top, left = rng.integers(427 - 218), rng.integers(640 - 178)
        patch = photographs[i % 2][top : top + 218, left : left + 178]
        Image.fromarray(patch).save(folder / name, quality=95)
    lines = [f"{name} {part}\n" for name, part in zip(NAMES, PARTITIONS, strict=True)]
    (root / "celeba" / "list_eval_partition.txt").write_text("".join(lines), encoding="utf-8")
    return root


@pytest.fixture
def root(published, tmp_path):
    """A folder of its own, with the same files."""
    for path in published.rglob("*.*"):
        copy = tmp_path / path.relative_to(published)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path


def box(lo: np.ndarray, side: int, size: int) -> np.ndarray:
    """The triangle filter of one axis as a matrix [size, side], written from its definition."""
    scale = side / size
    centres = (np.arange(size) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(side) + 0.5 - centres[:, None]) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def expected(root, name: str, crop: int, size: int) -> np.ndarray:
    """The central square of a photograph through the filter, not rounded: [3, size, size]."""
    pixels = np.asarray(Image.open(root / "celeba" / "img_align_celeba" / name)).astype(float)
    top, left = (218 - crop) // 2, (178 - crop) // 2
    square = pixels[top : top + crop, left : left + crop].transpose(2, 0, 1)
    filters = box(square, crop, size)
    return filters @ square @ filters.T


def test_partitions_zero_and_two_are_the_splits(published):
    images = Celeba().load(published)
    assert (images.train.shape, images.test.shape) == ((20, 3, 32, 32), (5, 3, 32, 32))
    assert images.train.shape[1:] == Celeba().shape(published)
    assert images.train.dtype == np.uint8
    assert images.levels == 256
    assert images.train_labels is images.test_labels is None
    # Two passes, each rounded to whole levels: at most half a level each, the first one averaged.
    for i in (0, 19):
        assert np.abs(images.train[i] - expected(published, NAMES[i], 178, 32)).max() <= 1.0
    assert np.abs(images.test[0] - expected(published, NAMES[23], 178, 32)).max() <= 1.0


def test_crop_and_size(published):
    images = Celeba(crop=140, size=64).load(published)
    assert images.train.shape == (20, *Celeba(size=64).shape(published)) == (20, 3, 64, 64)
    assert np.abs(images.train[7] - expected(published, NAMES[7], 140, 64)).max() <= 1.0


def test_a_smaller_training_set_is_part_of_a_larger_one(published):
    everything = Celeba(size=8).load(published).train
    chosen = {}
    for num in (5, 12, 20):
        subset = Celeba(size=8, num_train=num).load(published)
        where = [int(np.flatnonzero((everything == image).all(axis=(1, 2, 3)))[0]) for image in subset.train]
        assert where == sorted(where)
        assert len(set(where)) == num
        assert len(subset.test) == 5
        chosen[num] = set(where)
    assert chosen[5] < chosen[12] < chosen[20]
    assert chosen[5] != {0, 1, 2, 3, 4}


def test_more_training_images_than_there_are(published):
    with pytest.raises(UserError, match=r"CelebA has 20 training images; correct dataset\.num_train = 21"):
        Celeba(num_train=21).load(published)


def test_sources_are_the_list_and_the_directory(published):
    folder = published / "celeba"
    assert Celeba().sources(published) == [folder / "list_eval_partition.txt", folder / "img_align_celeba"]


def test_published_sums(root):
    """Those of torchvision, for the list, and for the archive as long as it is there."""
    known = {name: md5 for _, md5, name in import_torchvision().datasets.CelebA.file_list}
    folder = root / "celeba"
    listed = folder / "list_eval_partition.txt"
    assert Celeba().checksums(root) == {listed: known[listed.name]}
    (folder / "img_align_celeba.zip").write_bytes(b"")
    assert Celeba().checksums(root)[folder / "img_align_celeba.zip"] == known["img_align_celeba.zip"]
    assert hashlib.md5(listed.read_bytes()).hexdigest() != known[listed.name]


def test_missing_files_name_the_places_and_the_remedy(tmp_path, root):
    for use in (Celeba().load, Celeba().sources, Celeba().checksums):
        with pytest.raises(UserError) as problem:
            use(tmp_path / "elsewhere")
        message = str(problem.value)
        parts = (tmp_path / "elsewhere" / "celeba", "list_eval_partition.txt", "data fetch celeba", "DDPM_BENCH_DATA")
        assert all(str(part) in message for part in parts)
    (root / "celeba" / "img_align_celeba").rename(root / "unpacked")
    with pytest.raises(UserError, match="celeba has no directory img_align_celeba"):
        Celeba().sources(root)


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"no image", "cannot identify"), (None, "No such file"), (b"small", "20×300 pixels hold no square of 178")],
)
def test_an_image_that_cannot_be_used_is_named(root, content, text):
    path = root / "celeba" / "img_align_celeba" / NAMES[24]
    path.unlink()
    if content == b"small":
        Image.new("RGB", (20, 300)).save(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"CelebA: cannot read \S*{NAMES[24]}: .*{text}"):
        Celeba().load(root)


def test_images_that_are_not_used_are_not_opened(root):
    (root / "celeba" / "img_align_celeba" / NAMES[21]).write_bytes(b"of partition 1")
    assert len(Celeba().load(root).train) == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("000001.jpg 0\n000002.jpg\n", ":2: expected the name of an image and 0, 1 or 2, got '000002.jpg'"),
        ("000001.jpg 3\n", ":1: expected the name of an image and 0, 1 or 2, got '000001.jpg 3'"),
        ("000001.jpg 0\n", ": names no training or no test images"),
    ],
)
def test_a_damaged_list_is_refused(root, text, message):
    (root / "celeba" / "list_eval_partition.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as problem:
        Celeba().load(root)
    assert f"list_eval_partition.txt{message}" in str(problem.value)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"crop": 0}, {"num_train": 0}])
def test_ranges(wrong):
    with pytest.raises(FieldError, match=next(iter(wrong))):
        Celeba(**wrong)
