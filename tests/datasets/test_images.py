"""What the image data sets share."""

import numpy as np
import pytest

from ddpm_bench.datasets._images import find_folder, hold_out, resize
from ddpm_bench.errors import UserError


def test_resize_halves_with_the_triangle_filter():
    # Halving with a triangle of half-width 2 around the centre 1.5 of [0, 4): taps 1/8, 3/8, 3/8, 1/8, at the border
    # the taps inside the image, normalised: 3/7, 3/7, 1/7.
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(3, 3, 8, 8), dtype=np.uint8)
    taps = np.zeros((4, 8))
    for i in range(4):
        for j, weight in zip(range(2 * i - 1, 2 * i + 3), (1, 3, 3, 1), strict=True):
            if 0 <= j < 8:
                taps[i, j] = weight
    taps /= taps.sum(axis=1, keepdims=True)
    expected = taps @ images.astype(float) @ taps.T
    # Two passes, each rounded to whole levels: at most half a level each, the first one averaged.
    assert np.abs(resize(images, 4) - expected).max() <= 1.0
    assert resize(images, 4).dtype == np.uint8


def test_resize_keeps_channels_apart_and_constants():
    images = np.broadcast_to(np.array([3, 100, 255], dtype=np.uint8)[None, :, None, None], (2, 3, 5, 7))
    resized = resize(images, 11)
    assert resized.shape == (2, 3, 11, 11)
    np.testing.assert_array_equal(resized, np.broadcast_to(images[:, :, :1, :1], resized.shape))


def test_resize_to_the_same_size_is_nothing():
    images = np.zeros((2, 1, 8, 8), dtype=np.uint8)
    assert resize(images, None) is images
    assert resize(images, 8) is images


def test_hold_out_gives_each_class_its_share():
    labels = np.random.default_rng(0).choice(4, size=997, p=[0.6, 0.3, 0.09, 0.01])
    held_out = hold_out(997, 100, labels, "test")
    assert held_out.sum() == 100
    counts, totals = np.bincount(labels[held_out], minlength=4), np.bincount(labels, minlength=4)
    assert np.all(np.abs(counts - totals * 100 / 997) < 1)


def test_hold_out_without_labels_is_spread_and_fixed_by_its_purpose():
    first, again, other = hold_out(1000, 100, None, "a"), hold_out(1000, 100, None, "a"), hold_out(1000, 100, None, "b")
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # A random half of the images holds 50 of the 100 ± 4.7 (hypergeometric); 4 deviations, seed fixed.
    assert abs(first[:500].sum() - 50) < 19


def test_hold_out_of_nothing():
    assert hold_out(0, 0, None, "test").shape == (0,)
    assert not hold_out(3, 0, None, "test").any()


def test_find_folder_takes_the_first_complete_place_and_decompressed_files(tmp_path):
    for place, names in {"a": ["x.gz"], "b": ["x.gz", "y"], "c": ["x.gz", "y.gz"]}.items():
        (tmp_path / place).mkdir()
        for name in names:
            (tmp_path / place / name).touch()
    places = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    assert find_folder("It", places, ["x.gz", "y.gz"], "Fetch it.") == tmp_path / "b"
    with pytest.raises(UserError) as problem:
        find_folder("It", places, ["x.gz", "z"], "Fetch it.")
    message = str(problem.value)
    assert message.startswith("It not found: looked for x.gz, z in ")
    assert all(str(place) in message for place in places)
    assert message.endswith(". Fetch it.")
