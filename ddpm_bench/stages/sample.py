"""Stage sample: one chunk of generated images. Image i depends on (seed, i) alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.stages import CHUNK, Context
from ddpm_bench.stages._sampling import load_chain

VERSION = 1


def to_levels(x: Tensor, levels: int) -> Tensor:
    """x in [−1, 1] to the nearest level 0…K−1, uint8: v = round((x + 1)(K − 1)/2), clamped."""
    return ((x + 1.0) * ((levels - 1) / 2.0)).round().clamp(0, levels - 1).to(torch.uint8)


def run(context: Context) -> None:
    """Writes samples.npy [count, C, H, W]: uint8 levels of the data, or float32 for data without levels."""
    spec, walked = context.spec, load_chain(context)
    index = spec["chunk"] * CHUNK + torch.arange(spec["count"], device=context.device)
    calls, total = 0, len(walked.process) * len(index)

    def seen(t: Tensor, x_t: Tensor, pred_x_0: Tensor) -> None:
        nonlocal calls
        calls += len(index)
        context.log.progress(calls, total, "calls")

    x_0 = walked.walk(*walked.noise(index), seen)
    levels = walked.model.levels
    samples = x_0 if levels is None else to_levels(x_0, levels)
    np.save(context.out / "samples.npy", samples.cpu().numpy())
    context.manifest["info"] = {"network_calls": calls, "levels": levels}
