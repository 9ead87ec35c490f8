"""The Fréchet distance of two feature sets in float64 and bounded memory, and its extrapolation to infinite n."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 4096
"""Rows that are held in float64 at once."""
SIZES = 5
"""Numbers of images that an extrapolation looks at, evenly spaced in 1/n from n/2 to n."""
SUBSETS = 2
"""Subsets of each size but the largest: the first and the last images of a shuffled order, which hold all of them."""
SEED = 0


@dataclass(frozen=True)
class Moments:
    """Mean μ [d] and a factor A [r, d] of the covariance Σ = AᵀA, float64."""

    mean: np.ndarray
    factor: np.ndarray


def moments(features: np.ndarray, rows: np.ndarray | None = None) -> Moments:
    """The moments of n ≥ 2 feature vectors, Σ with n − 1.

    features: float32 [N, d], may be memory-mapped; rows: which of them, int64 [n], None for all. Beside the result it
    takes BLOCK rows in float64, and for n > d the d × d covariance. With n ≤ d the centred features are the factor
    themselves: nothing is lost where Σ is singular.
    Source: torch-fidelity's code, fid_features_to_statistics (mean, and covariance with n − 1).
    """
    index = np.arange(len(features)) if rows is None else np.sort(rows)
    number, dimension = len(index), features.shape[1]
    blocks = [index[start : start + BLOCK] for start in range(0, number, BLOCK)]
    mean = np.sum([features[block].sum(axis=0, dtype=np.float64) for block in blocks], axis=0) / number
    if number <= dimension:
        return Moments(mean, (features[index].astype(np.float64) - mean) / np.sqrt(number - 1))
    covariance = np.zeros((dimension, dimension))
    for block in blocks:
        centred = features[block].astype(np.float64) - mean
        covariance += centred.T @ centred
    eigenvalues, vectors = np.linalg.eigh(covariance / (number - 1))
    # A feature that is constant leaves an eigenvalue of zero up to rounding, of either sign.
    return Moments(mean, (vectors * np.sqrt(eigenvalues.clip(min=0))).T)


def frechet_distance(first: Moments, second: Moments) -> float:
    """|μ_1 − μ_2|² + tr(Σ_1 + Σ_2 − 2 (Σ_1 Σ_2)^{1/2}).

    tr (Σ_1 Σ_2)^{1/2} is the sum of the singular values of A_1 A_2ᵀ, whose rounding is ε times the largest; the
    eigenvalues of a product of covariances would lose half of the digits where Σ is (nearly) singular.

    Source: Dowson & Landau 1982, The Fréchet distance between multivariate normal distributions, abstract.
    """
    shared = np.linalg.svd(first.factor @ second.factor.T, compute_uv=False).sum()
    traces = np.square(first.factor).sum() + np.square(second.factor).sum()
    return float(np.square(first.mean - second.mean).sum() + traces - 2 * shared)


def over_n(generated: np.ndarray, reference: Moments) -> list[tuple[int, float]]:
    """(n, Fréchet distance of n generated images, mean over SUBSETS seeded subsets) for SIZES numbers n.

    generated: float32 [N, d]. The last point is the distance of all N.
    Source: Chong & Forsyth 2020, Effectively unbiased FID and Inception score, § 4 (there with random subsets).
    """
    total = len(generated)
    points = []
    for n in np.ceil(1 / np.linspace(2 / total, 1 / total, SIZES)[:-1]).astype(int).tolist():
        order = np.random.default_rng([SEED, n]).permutation(total)
        subsets = (order[:n], order[total - n :])
        values = [frechet_distance(moments(generated, rows), reference) for rows in subsets]
        points.append((n, sum(values) / SUBSETS))
    return [*points, (total, frechet_distance(moments(generated), reference))]


def to_infinity(points: list[tuple[int, float]]) -> tuple[float, float]:
    """(value at 1/n = 0, its standard error) of the least-squares line through the distances over 1/n.

    The standard error is that of the line, from the points' scatter about it: it says which subsets were drawn, and
    nothing of other images.

    Source: Chong & Forsyth 2020, Effectively unbiased FID and Inception score, § 4.
    """
    x = np.array([1 / n for n, _ in points])
    y = np.array([value for _, value in points])
    centred = x - x.mean()
    spread = np.square(centred).sum()
    slope = (centred * y).sum() / spread
    residuals = y - y.mean() - slope * centred
    variance = np.square(residuals).sum() / (len(points) - 2)
    return float(y.mean() - slope * x.mean()), float(np.sqrt(variance * (1 / len(points) + x.mean() ** 2 / spread)))
