from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ddpm_bench.datasets.digits import Digits
from ddpm_bench.errors import FieldError

NOWHERE = Path("/nonexistent")


def test_the_two_splits_are_scikit_learns_digits_once_each():
    images = Digits().load(NOWHERE)
    assert images.train.shape == (1437, 1, 8, 8)
    assert images.test.shape == (360, 1, 8, 8)
    assert images.train.dtype == images.test.dtype == np.uint8
    data = load_digits()
    rows = np.concatenate([images.train, images.test]).reshape(1797, 64)
    labelled = np.column_stack([rows, np.concatenate([images.train_labels, images.test_labels])])
    expected = np.column_stack([data.data.astype(int), data.target])
    np.testing.assert_array_equal(labelled[np.lexsort(labelled.T)], expected[np.lexsort(expected.T)])


def test_seventeen_levels_all_in_use():
    images = Digits().load(NOWHERE)
    assert images.levels == Digits().levels == 17
    np.testing.assert_array_equal(np.unique(images.train), np.arange(17))


def test_each_digit_has_its_share_of_the_test_split():
    images = Digits().load(NOWHERE)
    test = np.bincount(images.test_labels)
    total = test + np.bincount(images.train_labels)
    assert np.all(np.abs(test - total * 360 / 1797) < 1)


def test_the_split_is_fixed():
    # The test images are known by their places in scikit-learn's order: published numbers depend on them.
    places = {row.tobytes(): i for i, row in enumerate(load_digits().images.astype(np.uint8))}
    assert sorted(places[image[0].tobytes()] for image in Digits().load(NOWHERE).test)[:6] == FIRST_TEST_IMAGES


FIRST_TEST_IMAGES = [2, 3, 7, 15, 17, 24]


def test_resized_images_keep_the_levels_and_the_labels():
    images, original = Digits(size=16).load(NOWHERE), Digits().load(NOWHERE)
    assert images.test.shape == (360, *Digits(size=16).shape(NOWHERE)) == (360, 1, 16, 16)
    assert images.levels == 17
    assert images.train.max() <= 16
    np.testing.assert_array_equal(images.test_labels, original.test_labels)
    # The triangle filter keeps the mean away from borders; rounding to levels moves it by less than half a level.
    assert abs(images.test.mean() - original.test.mean()) < 0.5


def test_refuses_an_empty_image():
    with pytest.raises(FieldError, match="size: must be at least 1"):
        Digits(size=0)
