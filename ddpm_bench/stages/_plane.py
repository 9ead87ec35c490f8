"""The plane that holds most of a path of weights, and how much of it a random walk would put into its own.

n: points of the path, D: weights; X [n, D] holds the points in order. Everything is about the mean of the points,
X_c = H X with H = I − 11ᵀ/n, and follows from the Gram matrix G = X_c X_cᵀ [n, n]: exact for any D. numpy, float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FLAT = 1e-12
"""Share of the variance below which a second component is rounding."""


@dataclass(frozen=True)
class Plane:
    """The first two principal components of a path.

    shares [n − 1]: of the variance, of every component, descending. coordinates [n, 2]: of the points, in units of the
    weights. combination [n, 2]: the unit directions are X_cᵀ combination, [D, 2].
    """

    shares: np.ndarray
    coordinates: np.ndarray
    combination: np.ndarray


def centred(gram: np.ndarray) -> np.ndarray:
    """H gram H: the Gram matrix of the same points about their mean. [n, n]."""
    rows = gram - gram.mean(axis=0)
    return rows - rows.mean(axis=1, keepdims=True)


def shares_of(gram: np.ndarray) -> np.ndarray:
    """Share of the variance of each principal component, descending: eigenvalues of a centred `gram` over its trace.

    gram: [n, n] → [n − 1], since the mean takes one dimension.
    """
    values = np.linalg.eigvalsh(gram)[:0:-1].clip(min=0)
    return values / values.sum()


def principal_plane(gram: np.ndarray) -> Plane:
    """The plane of the two components of greatest variance, from the centred Gram matrix of the points.

    G = Σ_j λ_j u_j u_jᵀ: direction v_j = X_cᵀ u_j/√λ_j, coordinates X_c v_j = √λ_j u_j, share λ_j/Σλ. Signs are such
    that the last point has no negative coordinate.

    gram: [n, n], n ≥ 3. Raises ValueError where the points lie on a line: no plane is theirs then.

    Source: Jolliffe 2002, Principal Component Analysis, § 3.5 (components from the singular value decomposition).
    """
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[:-3:-1], vectors[:, :-3:-1]
    if values[1] <= FLAT * values[0]:
        raise ValueError("the checkpoints lie on a line in the space of the weights: no plane goes through them")
    vectors = vectors * np.where(vectors[-1] < 0, -1.0, 1.0)
    return Plane(shares_of(gram), vectors * np.sqrt(values), vectors / np.sqrt(values))


def walk_gram(steps: Sequence[int], decays: np.ndarray | None = None) -> np.ndarray:
    """X Xᵀ/D of a random walk seen after these numbers of steps, as D → ∞: min(s_i, s_j), [n, n], not centred.

    The steps are independent and isotropic, of one size (1 per dimension). decays: d_m after each step m = 1…N, at
    least the last of `steps`; then what is seen is the average a_m = d_m a_{m−1} + (1 − d_m) x_m of the walk x, a_0 =
    x_0. Step l has the weight w_m(l) = 1 − Π_{k=l}^{m} d_k in a_m (0 for l > m), and the entries are Σ_l w_{s_i}(l)
    w_{s_j}(l).

    Centred, n points at equal distances, no average: eigenvalues 1/(4 sin²(kπ/2n)), k = 1…n−1, whose sum is (n² − 1)/6,
    so that the first two have 6/π² (1 + ¼) = 76 % of the variance for many points, and more for few.

    Source: Antognini & Sohl-Dickstein 2018, PCA of high dimensional random walks with comparison to neural network
    training (eigenvalues of the walk). The average is linear in the steps, so that its matrix follows.
    """
    at = np.asarray(steps)
    if decays is None:
        return np.minimum.outer(at, at).astype(np.float64)
    log_product = np.concatenate([[0.0], np.cumsum(np.log(decays))])
    found = np.zeros((len(at), len(at)))
    for first, last in zip([0, *steps[:-1]], steps, strict=True):
        before = np.arange(first, last)  # of each step l = first + 1 … last, the l − 1 decays it did not see
        weights = -np.expm1(np.minimum(log_product[at][:, None] - log_product[before], 0.0))
        found += weights @ weights.T
    return found
