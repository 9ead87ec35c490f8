"""Stage data: decode a data set once into arrays, and take the validation split off the training split."""

from __future__ import annotations

import hashlib

import numpy as np

from ddpm_bench.datasets import Dataset, data_root
from ddpm_bench.randomness import derive_seed
from ddpm_bench.spec import rebuild
from ddpm_bench.stages import Context

VERSION = 1
VALIDATION_FRACTION = 0.1
"""Share of the training split that is never trained on: fits, pilots and curves use it."""


def validation_indices(num_train: int, labels: np.ndarray | None) -> np.ndarray:
    """Indices of the validation split, int64, ascending: seeded, stratified by class where there are labels."""
    rng = np.random.default_rng(derive_seed(0, "validation"))
    total = round(num_train * VALIDATION_FRACTION)
    order = rng.permutation(num_train)
    if labels is None:
        return np.sort(order[:total])
    # Largest remainders: each class gives its share, and the shares add up to the total.
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * (total / num_train)
    counts = np.floor(shares).astype(int)
    for i in np.argsort(counts - shares, kind="stable")[: total - counts.sum()]:
        counts[i] += 1
    chosen = [order[labels[order] == label][:count] for label, count in zip(classes, counts, strict=True)]
    return np.sort(np.concatenate(chosen))


def run(context: Context) -> None:
    """Writes train.npy, validation.npy, test.npy ([N, C, H, W], uint8 levels or float32) and info.json."""
    dataset: Dataset = rebuild(Dataset, context.spec["dataset"])
    images = dataset.load(data_root())
    held_out = validation_indices(len(images.train), images.train_labels)
    kept = np.setdiff1d(np.arange(len(images.train)), held_out)
    splits = {"train": images.train[kept], "validation": images.train[held_out], "test": images.test}
    labels = {"test": images.test_labels}
    if images.train_labels is not None:
        labels |= {"train": images.train_labels[kept], "validation": images.train_labels[held_out]}
    # The levels say what the integers mean: the digest stands for the data in every other key.
    digest = hashlib.sha256(f"levels {images.levels}".encode())
    for name, array in splits.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
        np.save(context.out / f"{name}.npy", array)
        of_split = labels.get(name)
        if of_split is not None:
            np.save(context.out / f"{name}_labels.npy", of_split)
    info = {
        "name": dataset.name,
        "shape": list(images.train.shape[1:]),
        "levels": images.levels,
        **{f"num_{name}": len(array) for name, array in splits.items()},
        "digest": digest.hexdigest(),
    }
    context.write_json("info.json", info)
    context.manifest["info"] = info
