from pathlib import Path

import numpy as np
import pytest

from ddpm_bench.datasets.gaussian import Gaussian
from ddpm_bench.errors import FieldError

NOWHERE = Path("/nonexistent")


def test_shapes_and_kinds():
    data = Gaussian(size=4, channels=3, num_train=20, num_test=10)
    images = data.load(NOWHERE)
    assert images.train.shape == (20, *data.shape(NOWHERE)) == (20, 3, 4, 4)
    assert images.test.shape == (10, 3, 4, 4)
    assert images.train.dtype == np.float32
    assert images.levels is data.levels is images.train_labels is None
    assert data.gaussian == (0.0, 1.0)
    assert data.sources(NOWHERE) == []


@pytest.mark.parametrize(("mean", "standard_deviation"), [(0.0, 1.0), (0.5, 0.25), (-1.0, 2.0)])
def test_the_values_have_the_stated_law(mean, standard_deviation):
    values = Gaussian(mean=mean, standard_deviation=standard_deviation).load(NOWHERE).train.astype(float)
    scaled = (values - mean) / standard_deviation
    n = (
        scaled.size
    )  # 262 144: 4 standard errors are 4/√n of the mean, 4√(2/n) of the variance, 4√(96/n) of the kurtosis
    assert abs(scaled.mean()) < 4 / np.sqrt(n)
    assert abs((scaled**2).mean() - 1) < 4 * np.sqrt(2 / n)
    assert abs((scaled**4).mean() - 3) < 4 * np.sqrt(96 / n)
    # Neighbouring dimensions and images are uncorrelated: 4 standard errors again.
    assert abs((scaled[..., 1:] * scaled[..., :-1]).mean()) < 4 / np.sqrt(n * 7 / 8)
    assert abs((scaled[1:] * scaled[:-1]).mean()) < 4 / np.sqrt(n)


def test_image_i_does_not_depend_on_the_number_of_images():
    few, many = (Gaussian(num_train=n).load(NOWHERE).train for n in (5, 50))
    np.testing.assert_array_equal(few, many[:5])


def test_splits_and_seeds_share_nothing():
    images, other = Gaussian().load(NOWHERE), Gaussian(seed=1).load(NOWHERE)
    assert not np.intersect1d(images.train[:100], images.test[:100]).size > 100 * 64 * 1e-3
    assert not np.array_equal(images.train, other.train)


@pytest.mark.parametrize("field", ["standard_deviation", "size", "channels", "num_train", "num_test"])
def test_ranges(field):
    with pytest.raises(FieldError, match=field):
        Gaussian(**{field: 0})
