"""Stage forward: the forward process of a schedule on the test images. No network, so that every cell shares it."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.diffusion.likelihood import bits_per_dim, kl_to_noise
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.randomness import Stream
from ddpm_bench.spec import rebuild
from ddpm_bench.stages import Context
from ddpm_bench.stages._images import split_values, subset
from ddpm_bench.stages._model import scale_to_network

VERSION = 1
SPLIT = "test"
SHOWN = 4
"""Images that are noised, a seeded subset of the split."""
STEPS = 8
"""t > 0 at which they are, and at which pixel values are counted: T/8, 2T/8, …, T."""
BINS = 161
LIMIT = 4.0
"""The bins of pixel values fill ±4, or more where x_0 has values above 1. Their number is odd: −1, 0 and 1, which
pixels often have, lie inside of bins."""
MAX_REAL_VALUES = 2**16
"""Pixel values of data without levels whose law is added up, those of a seeded subset; of levels all are counted."""
BLOCK_VALUES = 2**22
"""Values in float64 at a time (32 MB)."""
COLUMNS = ("t", "alpha_bar", "snr", "beta", "beta_tilde", "kl", "stderr")


@dataclass(frozen=True)
class Pixels:
    """What the forward process needs to know of a split, in the scale of the network.

    squared_norm: |x_0|² of each image, float64 [N]; values, counts: the different pixel values and how often each
    occurs, float64 [K] each.
    """

    squared_norm: Tensor
    values: Tensor
    counts: Tensor


def pixels_of(images: np.ndarray, levels: int | None) -> Pixels:
    """images: [N, C, H, W], uint8 levels or real values (levels None), read in blocks."""
    flat = images.reshape(len(images), -1)
    scale = None if levels is None else torch.arange(levels, dtype=torch.float64) * (2.0 / (levels - 1)) - 1.0
    counts = torch.zeros(levels or 0, dtype=torch.float64)
    norms = []
    for rows in np.array_split(flat, math.ceil(flat.size / BLOCK_VALUES)):
        block = torch.from_numpy(np.array(rows))
        if scale is None:
            x_0 = block.double()
        else:
            x_0 = scale[block.long()]
            counts += torch.bincount(block.flatten().long(), minlength=len(scale))
        norms.append(x_0.square().sum(1))
    if scale is not None:
        return Pixels(torch.cat(norms), scale[counts > 0], counts[counts > 0])
    chosen = flat[subset(len(flat), max(1, MAX_REAL_VALUES // flat.shape[1]))]
    values, times = np.unique(chosen.astype(np.float64), return_counts=True)
    return Pixels(torch.cat(norms), torch.from_numpy(values), torch.from_numpy(times).double())


def times_of(num_timesteps: int) -> list[int]:
    """0, T/8, 2T/8, …, T, rounded (halves up); t = 0 is the image itself. All of a shorter chain."""
    count = min(STEPS, num_timesteps)
    return [math.floor(num_timesteps * j / count + 0.5) for j in range(count + 1)]


def array_bytes(num_timesteps: int, num_images: int, num_dims: int) -> int:
    """Bytes of the values in the arrays of an artifact that shows so many images."""
    times = len(times_of(num_timesteps))
    return num_images * times * num_dims * 4 + (times * BINS + BINS + 1) * 8


def noise_levels(process: Process, times: list[int]) -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1−ᾱ_t) at these t, float64 each; 1 and 0 at t = 0."""
    index = torch.tensor(times)
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    signal, noise = torch.cat([ends[:1], process.alpha_bar]), torch.cat([ends[1:], process.one_minus_alpha_bar])
    return signal[index].sqrt(), noise[index].sqrt()


def law_of_pixels(pixels: Pixels, signal: Tensor, noise: Tensor, edges: Tensor) -> Tensor:
    """The probability that a pixel of x_t lies between two edges, float64 [times, bins]: exact, nothing is drawn.

    A pixel of x_t is one of x_0, chosen at random, times signal, plus noise · N(0, 1): the mean over pixels of
    Φ((b − √ᾱ_t x_0)/√(1−ᾱ_t)) at the edges b, and differences of that. Without noise: the share of values in [b, b').
    Source: Ho et al. 2020, eq. 4 (the law of each x_t given x_0).
    """
    shares = pixels.counts / pixels.counts.sum()
    found = []
    for scale, spread in zip(signal, noise, strict=True):
        below = torch.zeros(len(edges), dtype=torch.float64)
        for values, weight in zip(pixels.values.split(2**14), shares.split(2**14), strict=True):
            distance = edges.unsqueeze(1) - scale * values
            under = torch.special.ndtr(distance / spread) if spread > 0 else (distance > 0).double()
            below += under @ weight
        found.append(below.diff())
    return torch.stack(found)


def noised(x_0: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε, float32 [images, times, C, H, W]: the ε of an image is that of every t and schedule.

    Source: Ho et al. 2020, eq. 4.
    """
    eps = Stream(0, "forward").normal(0, torch.arange(len(x_0)), x_0.shape[1:])
    table = (-1, 1, 1, 1)
    x_t = signal.reshape(table) * x_0.double().unsqueeze(1) + noise.reshape(table) * eps.double().unsqueeze(1)
    return x_t.float()


def rows_of(process: Process, squared_norm: Tensor, num_dims: int) -> list[list[object]]:
    """The rows of forward.csv, t = 1…T; kl and its standard error over images in bits/dim (empty for one image)."""
    kl = bits_per_dim(kl_to_noise(squared_norm.mean(), num_dims, process.alpha_bar), num_dims)
    # KL is affine in |x_0|² with the slope ½ ᾱ_t, and so is its standard error.
    several = len(squared_norm) > 1
    error = float(squared_norm.std(unbiased=True)) / math.sqrt(len(squared_norm)) if several else math.nan
    errors = bits_per_dim(0.5 * process.alpha_bar * error, num_dims)
    tables = (process.alpha_bar, process.snr, process.beta, process.beta_tilde, kl, errors)
    numbers = zip(*(table.tolist() for table in tables), strict=True)
    return [[t, *row[:-1], row[-1] if several else ""] for t, row in enumerate(numbers, start=1)]


def run(context: Context) -> None:
    """Writes forward.csv, noised.npy, pixels.npy, edges.npy and forward.json.

    forward.csv: t = 1…T, ᾱ_t, SNR_t, β_t, β̃_t, and KL(q(x_t | x_0) ‖ N(0, I)) in bits/dim, the mean over the test
    images with its standard error. noised.npy float32 [images, times, C, H, W]: a few test images at the t of
    forward.json (t = 0: as they are). pixels.npy float64 [times, bins]: the probability that a pixel of x_t lies
    between two edges, edges.npy float64 [bins + 1]; what lies outside is missing from their sum.
    """
    spec, data = context.spec, context.input("data")
    process: Process = rebuild(Schedule, spec["schedule"]).process(spec["timesteps"])
    images, levels = split_values(data, SPLIT), data.manifest["info"]["levels"]
    num_dims = math.prod(images.shape[1:])
    pixels, times = pixels_of(images, levels), times_of(len(process))
    signal, noise = noise_levels(process, times)
    with open(context.out / "forward.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([COLUMNS, *rows_of(process, pixels.squared_norm, num_dims)])
    limit = max(LIMIT, math.ceil(float(pixels.values.abs().max()) + 3.0))
    edges = torch.linspace(-limit, limit, BINS + 1, dtype=torch.float64)
    np.save(context.out / "edges.npy", edges.numpy())
    np.save(context.out / "pixels.npy", law_of_pixels(pixels, signal, noise, edges).numpy())
    chosen = subset(len(images), SHOWN)
    x_0 = scale_to_network(torch.from_numpy(np.array(images[chosen])), levels)
    np.save(context.out / "noised.npy", noised(x_0, signal, noise).numpy())
    context.write_json(
        "forward.json",
        {"split": SPLIT, "num_images": len(images), "levels": levels, "times": times, "images": chosen.tolist()},
    )
