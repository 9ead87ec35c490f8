"""Which images of a split are evaluated, and in which chunks."""

from __future__ import annotations

import numpy as np

from ddpm_bench.randomness import derive_seed
from ddpm_bench.stages import CHUNK
from ddpm_bench.store import Artifact


def chunk_sizes(count: int) -> list[int]:
    """Images of each chunk: full ones, and the rest in the last."""
    return [min(CHUNK, count - start) for start in range(0, count, CHUNK)]


def subset(total: int, count: int) -> np.ndarray:
    """Indices of `count` of `total` images, int64 ascending: all of them, or a seeded subset."""
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(derive_seed(0, "subset")).permutation(total)[:count])


def chunk_of(indices: np.ndarray, chunk: int) -> np.ndarray:
    """The part of the indices that a chunk evaluates."""
    return indices[chunk * CHUNK : (chunk + 1) * CHUNK]


def split_values(data: Artifact, split: str) -> np.ndarray:
    """The images of a split, [N, C, H, W], memory-mapped."""
    values: np.ndarray = np.load(data.path / f"{split}.npy", mmap_mode="r")
    return values
