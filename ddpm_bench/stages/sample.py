"""Stage sample: one chunk of generated images. Image i depends on (seed, i) alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.diffusion.reverse import p_x_0, split_head
from ddpm_bench.randomness import Stream
from ddpm_bench.spec import chain, rebuild_reverse
from ddpm_bench.stages import CHUNK, Context
from ddpm_bench.stages._model import load_model

VERSION = 1


def to_levels(x: Tensor, levels: int) -> Tensor:
    """x in [−1, 1] to the nearest level 0…K−1, uint8: v = round((x + 1)(K − 1)/2), clamped."""
    return ((x + 1.0) * ((levels - 1) / 2.0)).round().clamp(0, levels - 1).to(torch.uint8)


def run(context: Context) -> None:
    """Writes samples.npy [count, C, H, W]: uint8 levels of the data, or float32 for data without levels."""
    spec, train = context.spec, context.input("train")
    reverse = rebuild_reverse(spec["reverse"])
    model = load_model(train, reverse.weights, context.device)
    training, process = model.training, chain(model.process, reverse.timesteps)
    index = spec["chunk"] * CHUNK + torch.arange(spec["count"], device=context.device)
    noises = Stream(training.seed, "sample")
    fit = (
        torch.from_numpy(np.load(context.input("fit").path / "log_sigma2.npy"))
        if "fit" in context.task.inputs
        else None
    )
    calls = 0

    def denoise(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        original = process.original_index(t)
        output, head = split_head(model(x_t, original), model.shape[0])
        # The network's output belongs to the chain it was trained on, also where a respaced one is walked.
        pred_x_0 = p_x_0(output, x_t, original, model.process, training.prediction, reverse.thresholding)
        calls += 1
        context.log.progress(calls * len(index), len(process) * len(index), "calls")
        return pred_x_0, reverse.variance.log_sigma2(process, t, head=head, fit=fit, first_step=reverse.first_step)

    def noise(i: int) -> Tensor:
        return noises.normal(int(process.timesteps[i]), index, model.shape)

    with torch.inference_mode():
        x_T = noises.normal(0, index, model.shape)
        x_0 = reverse.sampler.sample(denoise, x_T, process, process.timesteps, noise)
    levels = model.levels
    samples = x_0 if levels is None else to_levels(x_0, levels)
    np.save(context.out / "samples.npy", samples.cpu().numpy())
    context.manifest["info"] = {"network_calls": calls * len(index), "levels": levels}
