import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from ddpm_bench.datasets.image_folder import ImageFolder
from ddpm_bench.errors import FieldError, UserError


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="PNG")
    return stream.getvalue()


def colour(value: int, size: tuple[int, int] = (4, 4)) -> bytes:
    return png(np.full((*size, 3), value, dtype=np.uint8))


def make(folder, files: dict[str, bytes]):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def make_zip(path, files: dict[str, bytes]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def flat(num: int) -> dict[str, bytes]:
    return {f"{i:03}.png": colour(i) for i in range(num)}


def load(path, **fields):
    return ImageFolder(path=str(path), size=4, **fields).load(path.parent)


def test_directories_train_and_test_are_the_splits_and_the_ones_below_the_classes(tmp_path):
    files = {f"train/{c}/{i}.png": colour(10 * k + i) for k, c in enumerate(["cat", "dog"]) for i in range(6)}
    files |= {"test/dog/a.PNG": colour(99), "test/dog/note.txt": b"no image", "test/.hidden/b.png": b"no image"}
    images = load(make(tmp_path / "data", files))
    np.testing.assert_array_equal(images.train[:, 0, 0, 0], [*range(6), *range(10, 16)])
    np.testing.assert_array_equal(images.train_labels, [0] * 6 + [1] * 6)
    np.testing.assert_array_equal(images.test[:, 2, 3, 3], [99])
    np.testing.assert_array_equal(images.test_labels, [1])
    assert images.levels == 256


def test_splits_without_classes_have_no_labels(tmp_path):
    files = {f"train/{i:02}.png": colour(i) for i in range(10)} | {"test/a.png": colour(77)}
    images = load(make(tmp_path / "data", files))
    assert images.train_labels is images.test_labels is None
    assert (len(images.train), len(images.test)) == (10, 1)


def test_a_zip_file_is_the_same_as_its_directory(tmp_path):
    files = {f"top/a-{i % 3}/{i}.png": colour(i) for i in range(40)} | {"top/a/x.png": colour(200)}
    one = load(make(tmp_path / "data", files))
    other = load(make_zip(tmp_path / "data.zip", dict(reversed(files.items()))))
    for name in ("train", "test", "train_labels", "test_labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_seeded_split_takes_its_share_of_every_class_once(tmp_path):
    files = {f"{c}/{i:02}.png": colour(30 * k + i) for k, c in enumerate("abc") for i in range(30)}
    images = load(make(tmp_path / "data", files), test_fraction=0.2)
    np.testing.assert_array_equal(np.bincount(images.test_labels), [6, 6, 6])
    values = np.concatenate([images.train, images.test])[:, 0, 0, 0]
    np.testing.assert_array_equal(np.sort(values), np.arange(90))
    np.testing.assert_array_equal(images.test[:, 0, 0, 0] // 30, images.test_labels)
    assert not np.array_equal(images.test[:, 0, 0, 0] % 30, np.tile(images.test[:6, 0, 0, 0], 3))


def test_images_outside_the_given_splits_are_an_error(tmp_path):
    files = {"train/a.png": colour(1), "test/b.png": colour(2), "valid/c.png": colour(3)}
    with pytest.raises(UserError, match=r"valid/c\.png lies beside the directories train and test"):
        load(make(tmp_path / "data", files))


def test_center_cuts_a_square_and_none_squeezes(tmp_path):
    wide = np.zeros((4, 12, 3), dtype=np.uint8)
    wide[:, 4:8] = 200
    folder = make(tmp_path / "data", {f"{i}.png": png(wide) for i in range(12)})
    np.testing.assert_array_equal(load(folder).train, 200)
    squeezed = load(folder, crop="none").train[0, 0, 0]
    # Each of the four columns is a third of a block away from the pattern's edges: dark, then mixed, symmetric.
    assert squeezed[0] < 20
    assert 60 < squeezed[1] < 200
    np.testing.assert_array_equal(squeezed, squeezed[::-1])


def test_resizing_is_antialiased(tmp_path):
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    folder = make(tmp_path / "data", {f"{i}.png": png(stripes) for i in range(12)})
    # Every kernel spans 32 columns, half of them bright; sampling single pixels would give 0 or 200. At the border
    # half of the triangle is cut off, which leaves an imbalance of at most one tap, 1/16 of 200.
    assert np.abs(load(folder).train.astype(int) - 100).max() <= 200 / 16


def test_grey_becomes_colour_and_colour_becomes_grey(tmp_path):
    grey = np.full((4, 4), 50, dtype=np.uint8)
    green = np.zeros((4, 4, 3), dtype=np.uint8)
    green[..., 1] = 100
    folder = make(tmp_path / "data", {f"a{i:02}.png": png(grey) for i in range(6)} | {"b.png": png(green)})
    folder = make(folder, {f"c{i}.png": png(grey) for i in range(6)})
    images = load(folder, test_fraction=0.08)
    everything = np.concatenate([images.train, images.test])
    assert everything.shape == (13, 3, 4, 4)
    assert (everything == 50).all(axis=(1, 2, 3)).sum() == 12
    images = load(folder, test_fraction=0.08, channels=1)
    everything = np.concatenate([images.train, images.test])
    assert everything.shape == (13, 1, 4, 4)
    # The luminance of green is 0.587 (ITU-R 601), 58.7 of 100, rounded.
    assert sorted({int(value) for value in everything.ravel()}) == [50, 59]


@pytest.mark.parametrize(
    "content", [b"", b"not an image", colour(3)[:-30], colour(3)[:45] + b"\xff\xff\xff" + colour(3)[48:]]
)
@pytest.mark.parametrize("kind", [make, make_zip])
def test_an_image_that_cannot_be_read_is_named(tmp_path, content, kind):
    path = kind(tmp_path / "data.zip", flat(12) | {"sub/broken.png": content})
    with pytest.raises(UserError, match=r"data\.zip: cannot read sub/broken\.png"):
        load(path)


def test_a_damaged_member_of_a_zip_file_is_named(tmp_path):
    path = make_zip(tmp_path / "data.zip", flat(12))
    content = bytearray(path.read_bytes())
    place = content.index(b"IHDR")  # stored uncompressed: the checksum of the first member no longer fits
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read 000\.png"):
        load(path)


def test_sixteen_bits_are_refused_rather_than_cut(tmp_path):
    deep = png(np.full((4, 4), 40_000, dtype=np.uint16))
    with pytest.raises(UserError, match=r"cannot read deep\.png: more than 8 bits per channel"):
        load(make(tmp_path / "data", flat(12) | {"deep.png": deep}))


@pytest.mark.parametrize("num", [0, 1, 10])
def test_too_few_images_are_refused(tmp_path, num):
    folder = make(tmp_path / "data", {"readme.txt": b"", **flat(num)})
    with pytest.raises(UserError, match=r"training and \d test images .* at least 10 and 1 are needed"):
        load(folder)


def test_a_file_that_is_no_zip_file_is_refused(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"data\.zip: neither a directory nor a sound zip file"):
        load(tmp_path / "data.zip")


def test_a_missing_path_names_the_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (ImageFolder(path="birds", size=4).load, ImageFolder(path="birds", size=4).sources):
        with pytest.raises(UserError) as problem:
            use(tmp_path / "root")
        assert str(tmp_path / "birds") in str(problem.value)
        assert str(tmp_path / "root" / "birds") in str(problem.value)


def test_a_relative_path_is_found_in_the_folder_of_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "root" / "birds", flat(12))
    data = ImageFolder(path="birds", size=8)
    assert data.load(tmp_path / "root").train.shape == (11, *data.shape(tmp_path)) == (11, 3, 8, 8)
    assert [path.name for path in data.sources(tmp_path / "root")] == list(flat(12))


def test_the_source_of_a_zip_file_is_the_file(tmp_path):
    path = make_zip(tmp_path / "data.zip", flat(12))
    assert ImageFolder(path=str(path), size=4).sources(tmp_path) == [path]


@pytest.mark.parametrize("wrong", [{"size": 0}, {"test_fraction": 0.0}, {"test_fraction": 1.0}])
def test_ranges(wrong):
    with pytest.raises(FieldError, match=next(iter(wrong))):
        ImageFolder(**{"path": "x", "size": 4, **wrong})
