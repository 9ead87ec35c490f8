import numpy as np
import pytest

from ddpm_bench.metrics.kernel_distance import KernelDistance


def kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def unbiased(x, y):
    """The squared maximum mean discrepancy of equally large sets without the pairs (i, i)."""
    m = len(x)
    same = sum(kernel(z, z).sum() - np.trace(kernel(z, z)) for z in (x, y)) / (m * (m - 1))
    return same - 2 * kernel(x, y).mean()


def test_against_a_second_implementation(inputs):
    """Float64, with the documented subsets: 100 of 40 out of 60 and 40, generated first, seed 0. torch-fidelity's
    kernels are float32: 6e-8 relative to kernels of mean 2, times the few roundings of a sum."""
    random = np.random.default_rng(1)
    sets = inputs(random.normal(size=(60, 5)), random.normal(0.5, 1, size=(40, 5)))
    draws = np.random.RandomState(0)
    values = []
    for _ in range(100):
        x = sets.generated.astype(float)[draws.choice(60, 40, replace=False)]
        y = sets.reference.astype(float)[draws.choice(40, 40, replace=False)]
        values.append(unbiased(x, y))
    found = KernelDistance().compute(sets)
    assert found[""].value == pytest.approx(np.mean(values), abs=2e-6)
    assert found["_subset_std"].value == pytest.approx(np.std(values), abs=2e-6)
    swapped = KernelDistance().compute(inputs(sets.reference, sets.generated))
    assert swapped[""].value != pytest.approx(found[""].value, abs=1e-4)


def population(mean_1, mean_2):
    """E k(x, x′) + E k(y, y′) − 2 E k(x, y) for N(mean_1, I) and N(mean_2, I), from their first three moments:
    E (x·y)^j is the sum over indices of the product of the j-th moment tensors."""
    d = len(mean_1)

    def moments(mean):
        eye, outer = np.eye(d), np.multiply.outer
        second = eye + outer(mean, mean)
        third = outer(outer(mean, mean), mean)
        third = third + outer(eye, mean) + outer(eye, mean).transpose(0, 2, 1) + outer(eye, mean).transpose(2, 0, 1)
        return mean, second, third

    def expected(a, b):
        first, second, third = ((p * q).sum() for p, q in zip(moments(a), moments(b), strict=True))
        return third / d**3 + 3 * second / d**2 + 3 * first / d + 1

    return expected(mean_1, mean_1) + expected(mean_2, mean_2) - 2 * expected(mean_1, mean_2)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_unbiased_for_gaussians(inputs, shift):
    """The mean over 40 independent pairs of sets is the population's value within four standard errors, n small."""
    random, d = np.random.default_rng(0), 4
    expected = population(np.zeros(d), np.full(d, shift))
    found = [
        KernelDistance().compute(inputs(random.normal(size=(60, d)), random.normal(shift, 1, size=(50, d))))[""].value
        for _ in range(40)
    ]
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / np.sqrt(len(found)))
    assert expected == 0 or expected > 6 * np.std(found) / np.sqrt(len(found))  # distinguishable from no shift


def test_identical_sets(inputs):
    """The cross term keeps the pairs (i, i), so a set against itself gives −2/m times the mean over pairs of
    k(x_i, x_i) − k(x_i, x_j): slightly below zero. Float32 sums of kernels around 2: 2e-6."""
    features = np.random.default_rng(0).normal(size=(50, 4))
    sets = inputs(features, features)
    kernels = kernel(sets.generated.astype(float), sets.generated.astype(float))
    diagonal = np.trace(kernels) / 50
    others = (kernels.sum() - np.trace(kernels)) / (50 * 49)
    found = KernelDistance().compute(sets)
    assert found[""].value == pytest.approx(-2 / 50 * (diagonal - others), abs=2e-6)
    assert found["_subset_std"].value < 2e-6  # every subset is the whole set


def test_a_collapsed_generator_is_far_away(inputs):
    random = np.random.default_rng(0)
    reference = random.normal(size=(100, 4))
    good = KernelDistance().compute(inputs(random.normal(size=(100, 4)), reference))[""].value
    collapsed = KernelDistance().compute(inputs(np.repeat(random.normal(size=(1, 4)), 100, axis=0), reference))[""]
    assert collapsed.value > 0.5 > 5 * abs(good)


@pytest.mark.parametrize(
    ("n_generated", "n_reference", "size"), [(360, 1293, 360), (5000, 700, 700), (5000, 4000, 1000)]
)
def test_protocol_states_the_subsets(n_generated, n_reference, size):
    assert KernelDistance().protocol(n_generated, n_reference, 1280) == {
        "n_generated": n_generated, "n_reference": n_reference, "subsets": 100, "subset_size": size, "seed": 0,
    }  # fmt: skip
