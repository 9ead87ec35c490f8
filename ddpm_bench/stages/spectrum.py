"""Stage spectrum: the eigenvalues of the covariance of training images. They say which steps of a chain are noisy."""

from __future__ import annotations

import numpy as np
import torch

from ddpm_bench.stages import Context
from ddpm_bench.stages._images import split_values, subset
from ddpm_bench.stages._model import scale_to_network

VERSION = 1
BLOCK_VALUES = 2**22
"""Values in float64 at a time (32 MB), beside the images as they are stored and the smaller Gram matrix."""


def covariance_eigenvalues(values: np.ndarray, levels: int | None) -> np.ndarray:
    """Eigenvalues of the covariance of images, float64 [D], descending, never negative, exact zeros included.

    values: [n, C, H, W], uint8 levels or real values (levels None); covariance: (1/n) Σ (x − mean)(x − mean)ᵀ of
    x in the scale of the network. XᵀX [D, D] and XXᵀ [n, n] have the same eigenvalues but for zeros: the smaller is
    used. n images have at most n − 1 eigenvalues above 0; the dimensions that they do not reach count as constant.

    Source: Bishop 2006, Pattern Recognition and Machine Learning, eq. 12.3 and § 12.1.4 (eq. 12.26–12.28).
    """
    flat = torch.from_numpy(values.reshape(len(values), -1))
    n, num_dims = flat.shape
    size = min(n, num_dims)
    mean = torch.zeros(num_dims, dtype=torch.float64)
    for columns in torch.arange(num_dims).split(max(1, BLOCK_VALUES // n)):
        mean[columns] = scale_to_network(flat[:, columns], levels).double().mean(0)
    gram = torch.zeros(size, size, dtype=torch.float64)
    if num_dims <= n:
        for rows in flat.split(max(1, BLOCK_VALUES // num_dims)):
            centred = scale_to_network(rows, levels).double() - mean
            gram += centred.T @ centred
    else:
        for columns in torch.arange(num_dims).split(max(1, BLOCK_VALUES // n)):
            centred = scale_to_network(flat[:, columns], levels).double() - mean[columns]
            gram += centred @ centred.T
    found = np.zeros(num_dims)
    found[:size] = torch.linalg.eigvalsh(gram / n).flip(0).clamp(min=0.0).numpy()
    # Rounding leaves about 1e-16 of the largest in directions that do not vary.
    found[found <= found[0] * size * np.finfo(np.float64).eps] = 0.0
    return found


def run(context: Context) -> None:
    """Writes eigenvalues.npy float64 [D]: of spec["images"] training images, or of all if there are fewer."""
    data = context.input("data")
    values = split_values(data, "train")
    chosen = np.array(values[subset(len(values), context.spec["images"])])
    np.save(context.out / "eigenvalues.npy", covariance_eigenvalues(chosen, data.manifest["info"]["levels"]))
    context.manifest["info"] = {"images": len(chosen)}
