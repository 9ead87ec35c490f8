import numpy as np
import pytest

from ddpm_bench.metrics.frechet_distance import FrechetDistance


def distance(sets):
    return FrechetDistance().compute(sets)[""].value


def with_moments(mean, covariance, n, seed):
    """n vectors with exactly this sample mean and (n − 1) sample covariance."""
    z = np.random.default_rng(seed).normal(size=(n, len(mean)))
    z -= z.mean(axis=0)
    whitening = np.linalg.inv(np.linalg.cholesky(z.T @ z / (n - 1)))
    return z @ whitening.T @ np.linalg.cholesky(covariance).T + mean


def exact(a, b):
    """A second way: tr (Σ_a Σ_b)^{1/2} is the sum of the singular values of A Bᵀ, A and B the centred sets divided by
    √(n − 1); no eigenvalues, and no covariance is formed."""
    a, b = a.astype(float), b.astype(float)
    first = (a - a.mean(axis=0)) / np.sqrt(len(a) - 1)
    second = (b - b.mean(axis=0)) / np.sqrt(len(b) - 1)
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + (first**2).sum() + (second**2).sum() - 2 * shared


def test_gaussians_with_known_distance(inputs):
    """Diagonal covariances: Σ (m_1 − m_2)² + Σ (s_1 − s_2)². Features are float32 and torch-fidelity forms the mean in
    float32: 6e-8 · √500 per mean of size 2, twice that times the difference, 1e-5 in all."""
    mean_1, mean_2 = np.array([0.5, -1.0, 2.0]), np.array([0.0, 1.0, 2.5])
    s_1, s_2 = np.array([1.0, 0.5, 2.0]), np.array([2.0, 0.25, 2.0])
    sets = inputs(with_moments(mean_1, np.diag(s_1**2), 500, 1), with_moments(mean_2, np.diag(s_2**2), 300, 2))
    expected = ((mean_1 - mean_2) ** 2).sum() + ((s_1 - s_2) ** 2).sum()
    assert distance(sets) == pytest.approx(expected, abs=1e-5)


def test_rotated_gaussians(inputs):
    """Covariances that do not commute: for 2 × 2 matrices tr M^{1/2} = √(tr M + 2 √det M), M = Σ_1 Σ_2."""
    sigma_1, sigma_2 = np.array([[4.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 1.0], [1.0, 2.0]])
    product = sigma_1 @ sigma_2
    shared = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    sets = inputs(with_moments(np.zeros(2), sigma_1, 400, 1), with_moments(np.zeros(2), sigma_2, 500, 2))
    assert distance(sets) == pytest.approx(np.trace(sigma_1 + sigma_2) - 2 * shared, abs=1e-5)


def test_fewer_images_than_features(inputs):
    """Singular covariances. Rounding moves the eigenvalues of their product that should be zero to about ε · 100, and
    the root of each of the 300 − 39 enters: 261 · 2 · √(2e-16 · 100) = 8e-5, of a distance of about 300."""
    random = np.random.default_rng(0)
    sets = inputs(random.normal(size=(40, 300)), random.normal(size=(70, 300)) * 1.5)
    assert distance(sets) == pytest.approx(exact(sets.generated, sets.reference), abs=1e-3)
    assert exact(sets.generated, sets.reference) > 100


def test_identical_sets(inputs):
    """Zero up to the rounding of covariances of size 1: 8 dimensions."""
    features = np.random.default_rng(0).normal(size=(400, 8))
    assert distance(inputs(features, features)) == pytest.approx(0, abs=1e-9)


def test_two_samples_of_one_distribution(inputs):
    """The mean over repetitions is [2 Σλ_i + Σ_ij λ_iλ_j/(λ_i+λ_j) + ½ Σλ_i]/n up to O(1/n²): a relative d/n, 0.8 %.
    Beside it four standard errors of the mean of 2000 repetitions."""
    random, n = np.random.default_rng(0), 1000
    eigenvalues = 2.0 ** -np.arange(8)
    pairs = eigenvalues[:, None] * eigenvalues / (eigenvalues[:, None] + eigenvalues)
    expected = (2.5 * eigenvalues.sum() + pairs.sum()) / n
    draw = lambda: random.normal(size=(n, 8)) * np.sqrt(eigenvalues)  # noqa: E731
    found = [distance(inputs(draw(), draw())) for _ in range(2000)]
    tolerance = 4 * np.std(found) / np.sqrt(len(found)) + 8 / n * expected
    assert tolerance < 0.06 * expected  # small enough to miss no term: the least is a tenth
    assert np.mean(found) == pytest.approx(expected, abs=tolerance)


def test_a_collapsed_generator_is_far_away(inputs):
    """One image repeated at the mean: the distance is the trace of the reference covariance, 8 ± 4 · √(2 · 8/400)."""
    random = np.random.default_rng(0)
    reference = random.normal(size=(400, 8))
    good = distance(inputs(random.normal(size=(400, 8)), reference))
    collapsed = distance(inputs(np.zeros((400, 8)), reference))
    assert collapsed == pytest.approx(8, abs=0.8)
    assert collapsed > 20 * good


@pytest.mark.parametrize(("n_generated", "n_reference", "expected"), [(16, 16, False), (15, 16, True), (16, 15, True)])
def test_rank_deficient_below_twice_the_dimension(n_generated, n_reference, expected):
    assert FrechetDistance().protocol(n_generated, n_reference, 8)["rank_deficient"] is expected
