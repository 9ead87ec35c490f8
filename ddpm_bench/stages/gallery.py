"""Stage gallery: x̂_0 along the chain of the first samples, and interpolations between pairs of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.stages import Context
from ddpm_bench.stages._gallery import along_arcs, evenly, in_order
from ddpm_bench.stages._model import sub_batch
from ddpm_bench.stages._sampling import load_chain
from ddpm_bench.stages.sample import to_levels

VERSION = 1


def num_images(images: int, points: int) -> int:
    """Images that walk the chain: the shown samples, and points − 2 between those of each pair."""
    return images + images // 2 * (points - 2)


def run(context: Context) -> None:
    """Writes progressive.npy uint8 [images, kept, C, H, W] and interpolation.npy uint8 [images/2, points, C, H, W].

    The images are samples 0, 1, … of the cell (same noise; equal to 1e-4, since other numbers of images share a network
    call). progressive: x̂_0 after thresholding, from noise to image; the manifest has the t of the columns.
    interpolation: from one sample to the next; x_T and the noise of every step lie on the arc between theirs, so that
    chains which add noise interpolate too. All of them walk one chain, a fixed number of images for every cell.
    """
    spec, walked = context.spec, load_chain(context)
    levels, images, points = walked.model.levels, spec["images"], spec["points"]
    assert levels is not None, "the plan has galleries for images alone"
    num_steps, total = len(walked.process), num_images(images, points)
    walked.model = replace(walked.model, batch=min(total, sub_batch(walked.model.shape, context.device)))
    x_T, noise = walked.noise(torch.arange(images, device=context.device))
    kept, found, calls = set(evenly(num_steps, spec["kept"])), dict[int, Tensor](), 0

    def seen(t: Tensor, x_t: Tensor, pred_x_0: Tensor) -> None:
        nonlocal calls
        i = int(t[0])
        if i in kept:
            found[i] = pred_x_0[:images].clone()
        calls += len(x_t)
        context.log.progress(calls, num_steps * total, "calls")

    x_0 = walked.walk(along_arcs(x_T, points), lambda i: along_arcs(noise(i), points), seen)
    shown = sorted(found, reverse=True)
    progressive = torch.stack([found[i] for i in shown], dim=1)
    for name, values in (("progressive", progressive), ("interpolation", in_order(x_0, images, points))):
        np.save(context.out / f"{name}.npy", to_levels(values, levels).cpu().numpy())
    timesteps = walked.process.timesteps.tolist()
    context.manifest["info"] = {"network_calls": calls, "levels": levels, "timesteps": [timesteps[i] for i in shown]}
