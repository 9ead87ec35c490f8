"""Known answers of the example package: what the contracts of ddpm-bench cannot know."""

import numpy as np
import pytest
import torch
from ddpm_bench_example.bars import Bars
from ddpm_bench_example.energy_distance import EnergyDistance
from ddpm_bench_example.log_linear import LogLinear
from ddpm_bench_example.soft_min_snr import SoftMinSnr

from ddpm_bench.datasets import data_root
from ddpm_bench.errors import FieldError
from ddpm_bench.metrics import FeatureInputs


def test_the_log_snr_is_a_straight_line():
    log_snr = torch.log(LogLinear(first=4.0, last=-4.0).process(8).snr)
    # At t = 8 the ratio ᾱ_8/ᾱ_7 loses about two digits to the cap's subtraction: 1e-12 leaves room.
    torch.testing.assert_close(log_snr, torch.linspace(3.0, -4.0, 8, dtype=torch.float64), rtol=0, atol=1e-12)
    with pytest.raises(FieldError, match="must be larger than last"):
        LogLinear(first=-10.0)


def test_the_weighting_lies_below_the_minimum_and_meets_it_at_both_ends():
    snr = torch.logspace(-6, 6, 25, dtype=torch.float64)
    weight = SoftMinSnr(gamma=4.0).weight(snr)
    assert (weight < snr.clamp(max=4.0)).all()
    # w/min = 1/(1 + SNR/gamma) at the small end, where SNR/gamma = 2.5e-7, and 1/(1 + gamma/SNR) at the large one.
    torch.testing.assert_close(weight[[0, -1]], torch.tensor([1e-6, 4.0], dtype=torch.float64), rtol=5e-6, atol=0)


def features(generated, reference):
    return FeatureInputs(np.array(generated, np.float32), np.array(reference, np.float32), None, None)


def test_the_energy_distance_of_points_on_a_line():
    # |X − Y|: 3, 5, 2, 4, mean 3.5; |X − X'| = 1, |Y − Y'| = 2: 7 − 1 − 2.
    found = EnergyDistance().values(features([[0.0], [1.0]], [[3.0], [5.0]]))
    assert found == {"": 4.0}
    assert EnergyDistance().unable(features([[0.0]], [[3.0], [5.0]])) is not None


def test_bars_are_bars():
    images = Bars(size=5, num_train=40, num_test=10).load(data_root())
    assert images.train.shape == (40, *Bars(size=5).shape(data_root()))
    assert images.test.shape[0] == 10
    for image in np.concatenate([images.train, images.test])[:, 0]:
        assert (image > 0).sum() == 5
        assert (image > 0).all(axis=0).any() or (image > 0).all(axis=1).any()
        assert image[image > 0].min() == image.max() >= 128
