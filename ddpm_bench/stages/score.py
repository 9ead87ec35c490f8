"""Stage score: the denoising errors of a chunk of images at every t (or at one), one network call per (x_t, t).

Every fixed σ², thresholding and respacing is arithmetic on what is stored here.
"""

from __future__ import annotations

import numpy as np
import torch

from ddpm_bench.diffusion.reverse import THRESHOLDINGS, split_head
from ddpm_bench.randomness import Stream
from ddpm_bench.stages import Context
from ddpm_bench.stages._images import chunk_of, split_values, subset
from ddpm_bench.stages._model import load_model, scale_to_network

VERSION = 1


def run(context: Context) -> None:
    """Writes indices.npy [n], squared_error_<thresholding>.npy float32 [n, T] (|x_0 − x̂_0|², summed over dimensions)
    for each thresholding, and x_0_first.npy float32 [n, C, H, W] (x̂_0 at the first t, no thresholding).

    spec["first"] is null, or the one t to score: the first step of a respaced chain that does not keep t = 1.

    x_t of image i at t has the noise of (seed, split, t, i), the same for every variant of that seed.
    """
    spec = context.spec
    model = load_model(context.input("train"), spec["weights"], context.device)
    values = split_values(context.input("data"), spec["split"])
    indices = chunk_of(subset(len(values), spec["images"]), spec["chunk"])
    x_0 = scale_to_network(torch.from_numpy(np.array(values[indices])), model.levels)
    x_0 = x_0.to(context.device)
    index = torch.from_numpy(indices).to(context.device)
    stream = Stream(model.training.seed, f"score {spec['split']}")
    steps = range(len(model.process)) if spec["first"] is None else [spec["first"] - 1]
    total = len(steps)
    errors = {name: np.empty((len(indices), total), dtype=np.float32) for name in THRESHOLDINGS}
    with torch.inference_mode():
        for column, i in enumerate(steps):
            t = torch.full((len(x_0),), i, dtype=torch.int64, device=context.device)
            x_t = model.process.q_sample(x_0, t, stream.normal(i + 1, index, model.shape))
            output, _ = split_head(model(x_t, t), model.shape[0])
            pred_x_0 = model.training.prediction.to_x_0(output, x_t, t, model.process)
            for name, threshold in THRESHOLDINGS.items():
                errors[name][:, column] = (x_0 - threshold(pred_x_0)).square().flatten(1).sum(1).cpu().numpy()
            if column == 0:
                np.save(context.out / "x_0_first.npy", pred_x_0.cpu().numpy())
            context.log.progress((column + 1) * len(indices), total * len(indices), "calls")
    for name, array in errors.items():
        np.save(context.out / f"squared_error_{name}.npy", array)
    np.save(context.out / "indices.npy", indices)
    context.manifest["info"] = {"network_calls": total * len(indices)}
