"""Stage baseline: codes that any model should beat, on the same images as the likelihood."""

from __future__ import annotations

import math

import numpy as np
import torch

from ddpm_bench.metrics import Estimate
from ddpm_bench.stages import Context
from ddpm_bench.stages._images import split_values, subset
from ddpm_bench.stages.likelihood import standard_error

VERSION = 1


def histogram_bits(train: np.ndarray, values: np.ndarray, levels: int) -> np.ndarray:
    """Bits per dimension of each image under independent per-pixel histograms, float64 [n].

    The probability of level v at a pixel is (count in the training split + 1) / (N + K), Laplace's rule of succession.
    train: uint8 [N, C, H, W]; values: uint8 [n, C, H, W].
    """
    flat, chosen = train.reshape(len(train), -1), values.reshape(len(values), -1)
    bits = np.zeros(len(chosen))
    for pixel in range(flat.shape[1]):
        counts = np.bincount(flat[:, pixel], minlength=levels) + 1.0
        bits -= np.log2(counts / counts.sum())[chosen[:, pixel]]
    return bits / flat.shape[1]


def run(context: Context) -> None:
    """Writes estimates.json: name → estimate. Empty for data without levels."""
    spec, data = context.spec, context.input("data")
    levels = data.manifest["info"]["levels"]
    found: dict[str, object] = {}
    if levels is not None:
        values = split_values(data, spec["split"])
        chosen = np.array(values[subset(len(values), spec["images"])])
        bits = torch.from_numpy(histogram_bits(np.array(split_values(data, "train")), chosen, levels))
        protocol = {"split": spec["split"], "images": spec["images"], "levels": levels}
        found["uniform code"] = Estimate(
            math.log2(levels), None, len(chosen), "bits/dim", False, protocol
        ).to_json()  # fmt: skip
        found["per-pixel histogram"] = Estimate(
            float(bits.mean()), standard_error(bits), len(chosen), "bits/dim", False,
            {**protocol, "fitted_on": "train"},
        ).to_json()  # fmt: skip
    context.write_json("estimates.json", found)
