"""Stage nearest: the training image nearest to each of some images, in pixels or in features.

Also asked: are samples nearer to the training images than images are that the network has never seen? A model that
copies is; one that has learned the law of the data is neither nearer nor farther. Simple images (blurred, few strokes)
are near to others whether copied or not, so a high share calls for a look at the pairs, and is no proof.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ddpm_bench.stages import Context
from ddpm_bench.stages._images import split_values, subset

VERSION = 1
BLOCK_VALUES = 2**22
"""Values of training images in float64 at a time (32 MB), beside the images that are looked up."""
SHOWN = 16
"""Images whose nearest training image is kept as a picture."""


def nearest(images: np.ndarray, training: np.ndarray, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """(index int64 [n], distance float64 [n]): argmin_j |x_i − y_j|, and that distance; of equals the lowest j.

    images x: [n, …]; training y: [N, …], read in blocks. Distances are compared as |x|² + |y|² − 2 x·y in float64,
    which is exact for grey levels (integers far below 2⁵³): neither blocks nor device nor threads can change a result.
    """
    queries = torch.from_numpy(images.reshape(len(images), -1)).to(device, torch.float64)
    flat = training.reshape(len(training), -1)
    size, lengths = max(1, BLOCK_VALUES // queries.shape[1]), queries.square().sum(1, keepdim=True)
    best = torch.full((len(queries),), math.inf, dtype=torch.float64, device=device)
    index = torch.zeros(len(queries), dtype=torch.int64, device=device)
    for start in range(0, len(flat), size):
        block = torch.from_numpy(np.array(flat[start : start + size])).to(device, torch.float64)
        squared = torch.addmm(lengths + block.square().sum(1), queries, block.T, alpha=-2.0)
        least, where = squared.min(dim=1)
        index = torch.where(least < best, where + start, index)
        best = torch.minimum(least, best)
    chosen = index.cpu().numpy()
    # From the difference itself: 0 for a copy also where features have no exact products.
    exact = torch.from_numpy(np.array(flat[chosen])).double() - queries.cpu()
    return chosen, exact.square().sum(1).sqrt().numpy()


def nearer(samples: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """How often samples are nearer to the training images than held-out images are; ½ for samples of the data's law.

    nearer: P̂(d < d') over all pairs of a sample (its distance d to the nearest training image) and a held-out image
    (d'), ties counted half: the Mann–Whitney statistic. Its standard error is that over samples and held-out images,
    √(s²_1/n + s²_2/m), with the variances of each sample's share of farther held-out images and of each held-out
    image's share of nearer samples; where these do not vary (every sample is a copy) that of `below_median` with the
    smaller number of images; None for fewer than two of either.
    below_median: the share of samples with d below the median of the d', ties half. Its standard error is over the
    samples alone, binomial: √(p̃(1 − p̃)/(n + 3)), p̃ = (k + 1)/(n + 2), which is not 0 where k is 0 or n.

    samples: float64 [n]; held_out: float64 [m].
    Source: Meehan, Chaudhuri & Dasgupta 2020, A Non-Parametric Test to Detect Data-Copying in Generative Models (the
    statistic, over the whole space); DeLong, DeLong & Clarke-Pearson 1988 (its standard error).
    """
    n, m = len(samples), len(held_out)
    median = float(np.median(held_out))
    below = float(np.mean(samples < median) + 0.5 * np.mean(samples == median))
    of_samples, of_held_out = _farther(samples, held_out), 1.0 - _farther(held_out, samples)
    value, fewer = float(of_samples.mean()), min(n, m)
    variance = float(of_samples.var(ddof=1) / n + of_held_out.var(ddof=1) / m) if fewer > 1 else None
    if variance == 0.0:
        variance = _smoothed_variance(value, fewer)
    return {
        "nearer": {
            "value": value, "stderr": None if variance is None else math.sqrt(variance),
            "num_samples": n, "unit": "share",
        },
        "below_median": {
            "value": below, "stderr": math.sqrt(_smoothed_variance(below, n)), "num_samples": n, "unit": "share",
        },
        "num_held_out": m, "median_distance": float(np.median(samples)), "median_distance_held_out": median,
    }  # fmt: skip


def _smoothed_variance(share: float, number: int) -> float:
    """p̃(1 − p̃)/(n + 3), p̃ = (n·share + 1)/(n + 2): of a binomial share, not 0 where the share is 0 or 1."""
    smoothed = (share * number + 1) / (number + 2)
    return smoothed * (1 - smoothed) / (number + 3)


def _farther(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Of each of ours, the share of theirs that is larger, ties half: float64 [n]."""
    ordered = np.sort(theirs)
    above = len(ordered) - np.searchsorted(ordered, ours, side="right")
    equal = np.searchsorted(ordered, ours, side="right") - np.searchsorted(ordered, ours, side="left")
    found: np.ndarray = (above + 0.5 * equal) / len(ordered)
    return found


def run(context: Context) -> None:
    """Writes index.npy int64 [n] (into the training split) and distance.npy float64 [n], in levels or features.

    Of samples also images.npy uint8 [min(n, 16), C, H, W], the nearest training images of the first ones, and
    nearer.json: see `nearer`.
    """
    spec, data = context.spec, context.input("data")
    training = split_values(data, "train")
    if "reference" in context.task.inputs:
        reference = np.load(context.input("reference").path / "features.npy", mmap_mode="r")
        name = "features"
    else:
        reference, name = training, "samples" if spec["source"] == "samples" else spec["split"]
    parts = [np.load(artifact.path / f"{name}.npy", mmap_mode="r") for artifact in context.input_list("images")]
    images = np.concatenate([np.array(part) for part in parts])
    images = images[: spec["count"]] if spec["source"] == "samples" else images[subset(len(images), spec["count"])]
    index, distance = nearest(images, reference, context.device)
    np.save(context.out / "index.npy", index)
    np.save(context.out / "distance.npy", distance)
    if "held_out" in context.task.inputs:
        np.save(context.out / "images.npy", np.array(training[index[:SHOWN]]))
        found = nearer(distance, np.load(context.input("held_out").path / "distance.npy"))
        context.write_json("nearer.json", {"space": spec["space"], **found, "num_train": len(training)})
