import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from ddpm_bench.metrics import _frechet
from ddpm_bench.metrics._frechet import frechet_distance, moments, over_n, to_infinity
from ddpm_bench.metrics.frechet_distance import FrechetDistance
from ddpm_bench.vision import import_torch_fidelity


def distance(sets):
    return frechet_distance(moments(sets.generated), moments(sets.reference))


def with_moments(mean, covariance, n, seed):
    """n vectors with exactly this sample mean and (n − 1) sample covariance."""
    z = np.random.default_rng(seed).normal(size=(n, len(mean)))
    z -= z.mean(axis=0)
    whitening = np.linalg.inv(np.linalg.cholesky(z.T @ z / (n - 1)))
    return z @ whitening.T @ np.linalg.cholesky(covariance).T + mean


def exact(a, b):
    """Another way: tr (Σ_a Σ_b)^{1/2} is the sum of the singular values of A Bᵀ, A and B the centred sets divided by
    √(n − 1); no eigenvalues, and no covariance is formed."""
    a, b = a.astype(float), b.astype(float)
    first = (a - a.mean(axis=0)) / np.sqrt(len(a) - 1)
    second = (b - b.mean(axis=0)) / np.sqrt(len(b) - 1)
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + (first**2).sum() + (second**2).sum() - 2 * shared


def of_matrices(a, b, trace_of_root):
    """|μ_a − μ_b|² + tr Σ_a + tr Σ_b − 2 tr (Σ_a Σ_b)^{1/2} with numpy's mean and covariance in float64."""
    a, b = a.astype(float), b.astype(float)
    sigma_a, sigma_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    squared = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return squared + np.trace(sigma_a) + np.trace(sigma_b) - 2 * trace_of_root(sigma_a, sigma_b)


def by_sqrtm(sigma_a, sigma_b):
    return np.trace(scipy.linalg.sqrtm(sigma_a @ sigma_b)).real


def by_eigvalsh(sigma_a, sigma_b):
    """(Σ_a Σ_b)^{1/2} has the eigenvalues of (√Σ_a Σ_b √Σ_a)^{1/2}."""
    root = scipy.linalg.sqrtm(sigma_a).real
    return np.sqrt(np.clip(scipy.linalg.eigvalsh(root @ sigma_b @ root), 0, None)).sum()


def by_torch_fidelity(a, b):
    import_torch_fidelity()
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    first, second = (fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b))
    return fid_statistics_to_metric(first, second, verbose=False)[KEY_METRIC_FID]


def fixed_case(number):
    """Correlated, shifted features of several sizes and scales, more images than features; float32."""
    random = np.random.default_rng(number)
    d, n, m, scale = [(3, 50, 40, 1.0), (16, 400, 300, 0.01), (64, 500, 900, 1.0), (96, 600, 200, 100.0)][number]
    mix, other = random.normal(size=(d, d)), random.normal(size=(d, d))
    a = random.normal(size=(n, d)) @ mix
    b = random.normal(size=(m, d)) @ (mix + 0.3 * other) + random.normal(size=d)
    return (a * scale).astype(np.float32), (b * scale).astype(np.float32)


@pytest.mark.parametrize("number", range(4))
def test_equal_to_scipy_and_to_torch_fidelity(inputs, number):
    """Full rank, float64 throughout: a relative 1e-10 leaves room for the condition of the covariances (up to 1e5 here,
    times ε · d = 2e-14). torch-fidelity's means are float32: each is off by up to ε √n/2 of the features' size, 6e-8 ·
    √900, twice the difference of the means times that for every feature; relative to the distance below 1e-5."""
    a, b = fixed_case(number)
    assert FrechetDistance().compute(inputs(a, b))[""].value == by_torch_fidelity(a, b)  # what everybody has
    found = distance(inputs(a, b))
    assert found == pytest.approx(of_matrices(a, b, by_eigvalsh), rel=1e-9)
    assert found == pytest.approx(of_matrices(a, b, by_sqrtm), rel=1e-9)
    assert found == pytest.approx(exact(a, b), rel=1e-10)
    assert found == pytest.approx(by_torch_fidelity(a, b), rel=1e-5)
    assert found == pytest.approx(distance(inputs(b, a)), rel=1e-10)  # symmetric


def test_gaussians_with_known_distance(inputs):
    """Diagonal covariances: Σ (m_1 − m_2)² + Σ (s_1 − s_2)². Rounding the features to float32 moves every one by up to
    6e-8 of 4: means and deviations by less than 1e-7 on average, times 2 · 2 for each of three differences."""
    mean_1, mean_2 = np.array([0.5, -1.0, 2.0]), np.array([0.0, 1.0, 2.5])
    s_1, s_2 = np.array([1.0, 0.5, 2.0]), np.array([2.0, 0.25, 2.0])
    sets = inputs(with_moments(mean_1, np.diag(s_1**2), 500, 1), with_moments(mean_2, np.diag(s_2**2), 300, 2))
    expected = ((mean_1 - mean_2) ** 2).sum() + ((s_1 - s_2) ** 2).sum()
    assert distance(sets) == pytest.approx(expected, abs=1e-6)


def test_rotated_gaussians(inputs):
    """Covariances that do not commute: for 2 × 2 matrices tr M^{1/2} = √(tr M + 2 √det M), M = Σ_1 Σ_2."""
    sigma_1, sigma_2 = np.array([[4.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 1.0], [1.0, 2.0]])
    product = sigma_1 @ sigma_2
    shared = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    sets = inputs(with_moments(np.zeros(2), sigma_1, 400, 1), with_moments(np.zeros(2), sigma_2, 500, 2))
    assert distance(sets) == pytest.approx(np.trace(sigma_1 + sigma_2) - 2 * shared, abs=1e-5)


def test_fewer_images_than_features(inputs):
    """Singular covariances, of one side or both. Where there are more images than features, eigenvalues of a
    covariance that should be zero are up to ε · 500: their roots, 3e-7, meet directions of the other side in which it
    has a deviation of 1, at most 40 of them, 1e-5 of a distance above 100."""
    random = np.random.default_rng(0)
    few, other, many = (random.normal(size=(n, 300)) * scale for n, scale in ((40, 1.0), (70, 1.5), (400, 1.0)))
    many[:, 100:] = 0.0
    for generated, reference, tolerance in ((few, other, 1e-9), (few, many, 1e-5), (many, few, 1e-5)):
        sets = inputs(generated, reference)
        assert distance(sets) == pytest.approx(exact(sets.generated, sets.reference), abs=tolerance)
        assert exact(sets.generated, sets.reference) > 100


@pytest.mark.parametrize(("n", "d"), [(400, 8), (30, 200), (300, 150)])
def test_identical_sets(inputs, n, d):
    """Zero up to rounding: traces of d, each number right to ε, 2e-16 · 2 d at most, here below 1e-12 · d."""
    features = np.random.default_rng(0).normal(size=(n, d))
    assert distance(inputs(features, features)) == pytest.approx(0, abs=1e-12 * d)


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


def test_blocks_do_not_matter(inputs, monkeypatch):
    """Sums of 700 in another order: ε · 700 of features of size 1."""
    random = np.random.default_rng(0)
    sets = inputs(random.normal(size=(700, 20)), random.normal(0.3, 1, size=(650, 20)))
    whole = distance(sets)
    monkeypatch.setattr(_frechet, "BLOCK", 64)
    assert distance(sets) == pytest.approx(whole, rel=1e-12)


def test_moments_of_some_rows():
    features = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    rows = np.array([7, 3, 299, 20, 21, 22, 100])
    found = moments(features, rows)
    assert found.mean == pytest.approx(features[rows].astype(float).mean(axis=0), rel=1e-12)
    assert found.factor.T @ found.factor == pytest.approx(np.cov(features[rows].astype(float), rowvar=False), rel=1e-12)


def test_memory_is_bounded(tmp_path):
    """40,000 × 128 float32 in a file of 20 MB, in float64 41 MB: what is held is a few blocks (4096 · 128 · 8 = 4.2 MB)
    and matrices (128² · 8 = 0.1 MB), whatever the number of images."""
    path = tmp_path / "features.npy"
    np.save(path, np.random.default_rng(0).normal(size=(40_000, 128)).astype(np.float32))
    features = np.load(path, mmap_mode="c")
    tracemalloc.start()
    found = moments(features)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6
    assert found.factor.shape == (128, 128)


def test_the_extrapolation_of_a_line_is_its_end():
    points = [(n, 3.0 + 50.0 / n) for n in (100, 120, 150, 200)]
    value, stderr = to_infinity(points)
    assert value == pytest.approx(3.0, rel=1e-12)
    assert stderr == pytest.approx(0.0, abs=1e-12)


def test_the_error_of_an_extrapolation_is_that_of_a_regression():
    random = np.random.default_rng(0)
    points = [(n, 3.0 + 50.0 / n + random.normal(0, 0.05)) for n in (100, 114, 133, 160, 200)]
    line = scipy.stats.linregress([1 / n for n, _ in points], [value for _, value in points])
    assert to_infinity(points) == pytest.approx((line.intercept, line.intercept_stderr), rel=1e-9)


def test_points_over_n():
    """Five sizes evenly spaced in 1/n from n/2 on; each value is the mean over the two ends of a shuffled order."""
    random = np.random.default_rng(0)
    generated = random.normal(size=(200, 3)).astype(np.float32)
    reference = moments(random.normal(size=(500, 3)).astype(np.float32))
    points = over_n(generated, reference)
    assert [n for n, _ in points] == [100, 115, 134, 160, 200]
    assert points[-1] == (200, frechet_distance(moments(generated), reference))
    order = np.random.default_rng([0, 115]).permutation(200)
    halves = [frechet_distance(moments(generated[part]), reference) for part in (order[:115], order[85:])]
    assert points[1][1] == pytest.approx(sum(halves) / 2, rel=1e-9)
    assert points == over_n(generated, reference)


def test_the_table_holds_what_the_extrapolation_saw(inputs):
    random = np.random.default_rng(0)
    found = FrechetDistance().measure(inputs(random.normal(size=(64, 4)), random.normal(size=(80, 4))))
    rows = found.tables["frechet_over_n"]
    value, stderr = to_infinity([(row["n"], row["value"]) for row in rows])
    assert (found.values["_infinity"].value, found.values["_infinity"].stderr) == (value, stderr)
    # The value is torch-fidelity's, whose means are float32.
    assert rows[-1] == {"n": 64, "value": pytest.approx(found.values[""].value, rel=1e-5)}
    assert found.values["_infinity"].protocol["standard_error"] == "of the line"


@pytest.mark.parametrize(("n_generated", "n_reference"), [(15, 400), (400, 15)])
def test_no_extrapolation_below_twice_the_dimension(inputs, n_generated, n_reference):
    random = np.random.default_rng(0)
    sets = inputs(random.normal(size=(n_generated, 8)), random.normal(size=(n_reference, 8)))
    measured = FrechetDistance().measure(sets)
    assert measured.values[""].value > 0
    assert measured.values["_infinity"].value is None
    assert measured.values["_infinity"].reason == "an extrapolation needs 2d = 16 generated and reference images"
    assert measured.tables == {}
    found = FrechetDistance().compute(inputs(*(random.normal(size=(16, 8)) for _ in range(2))))
    assert found["_infinity"].value is not None


def test_the_extrapolation_takes_the_bias_away(inputs):
    """Generated features of N(m, s²) against a reference that is all but infinite: at n = 5d the distance is mostly
    bias, and the extrapolated one is the exact Σ (m − m_r)² + (s − s_r)² to a fifth of that bias (measured: a
    twentieth, d/n of it) within four standard errors of the mean of 60 repetitions."""
    random, d, n = np.random.default_rng(0), 16, 80
    shift, scale = 0.05, 1.1
    exact_distance = d * (shift**2 + (scale - 1) ** 2)
    reference = with_moments(np.zeros(d), np.eye(d), 20_000, 1)
    plain, extrapolated = [], []
    for _ in range(60):
        found = FrechetDistance().compute(inputs(random.normal(shift, scale, size=(n, d)), reference))
        plain.append(found[""].value)
        extrapolated.append(found["_infinity"].value)
    bias = np.mean(plain) - exact_distance
    assert bias > 4 * exact_distance
    tolerance = 4 * np.std(extrapolated) / np.sqrt(60)
    assert tolerance < 0.1 * bias
    assert np.mean(extrapolated) == pytest.approx(exact_distance, abs=0.2 * bias + tolerance)


def test_the_error_of_the_line_covers_the_choice_of_subsets(inputs):
    """Other subsets of the same images move the extrapolated value by about its standard error."""
    random = np.random.default_rng(0)
    generated, reference = random.normal(size=(160, 8)).astype(np.float32), moments(random.normal(size=(2000, 8)))
    found = []
    for _ in range(40):
        points = over_n(random.permutation(generated), reference)
        found.append(to_infinity(points))
    values, errors = np.array(found).T
    assert 0.4 < errors.mean() / values.std(ddof=1) < 2.5
