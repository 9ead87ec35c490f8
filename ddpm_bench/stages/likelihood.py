"""Stage likelihood: the bound of one reverse process from a score, term by term. Arithmetic only, no network call."""

from __future__ import annotations

import csv
import io

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.diffusion.likelihood import bits_per_dim, decoder_nll, mean_cost, prior_kl, variance_cost
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.reverse import THRESHOLDINGS
from ddpm_bench.metrics import Estimate
from ddpm_bench.spec import Reverse, chain, rebuild_reverse, rebuild_training
from ddpm_bench.stages import CHUNK, Context
from ddpm_bench.stages._images import split_values
from ddpm_bench.stages._model import scale_to_network
from ddpm_bench.store import write_text

VERSION = 1
TERMS = ("l_0", "mean_cost", "variance_cost", "l_T")
COLUMNS = ("t", "kl", "stderr", "kl_variance", "kl_mean", "epsilon_mse", "x0_mse")


def standard_error(values: Tensor) -> float | None:
    """Standard error of the mean over images (as a sample of a population); None for a single image."""
    return float(values.std(unbiased=True) / len(values) ** 0.5) if len(values) > 1 else None


def run(context: Context) -> None:
    """Writes per_image.npy float64 [n, 4] (L_0, mean cost, variance cost, L_T in bits/dim, in the order of TERMS),
    timesteps.csv (means over images at each kept t) and estimates.json."""
    spec, data = context.spec, context.input("data")
    training = rebuild_training(context.input("train").spec["training"])
    reverse: Reverse = rebuild_reverse(spec["reverse"])
    full = training.schedule.process(training.timesteps)
    process = chain(full, reverse.timesteps)
    columns = process.timesteps - 1
    scores = context.input_list("score")
    squared = {
        name: torch.cat([torch.from_numpy(np.load(s.path / f"squared_error_{name}.npy")) for s in scores])[:, columns]
        for name in ("none", reverse.thresholding)
    }
    first = context.input_list("first") if "first" in context.task.inputs else scores
    x_0_first = torch.cat([torch.from_numpy(np.load(s.path / "x_0_first.npy")) for s in first])
    indices = np.concatenate([np.load(s.path / "indices.npy") for s in scores])
    values = torch.from_numpy(np.array(split_values(data, spec["split"])[indices]))
    levels = data.manifest["info"]["levels"]
    x_0 = scale_to_network(values, levels)
    num_dims = x_0[0].numel()

    log_sigma2 = reverse.variance.log_sigma2(process, torch.arange(len(process)), first_step=reverse.first_step)
    per_mean = bits_per_dim(mean_cost(process, log_sigma2, squared[reverse.thresholding]), num_dims)
    per_variance = bits_per_dim(variance_cost(process, log_sigma2) * num_dims, num_dims)
    parts = zip(values.split(CHUNK), x_0_first.split(CHUNK), strict=True)  # the decoder's float64 is many times theirs
    threshold = THRESHOLDINGS[reverse.thresholding]
    nats = torch.cat([decoder_nll(target, threshold(mean.double()), log_sigma2[0], levels) for target, mean in parts])
    decoder = bits_per_dim(nats, num_dims)
    prior = bits_per_dim(prior_kl(x_0, process), num_dims)
    terms = torch.stack([decoder, per_mean.sum(1), per_variance.sum().expand(len(x_0)), prior], dim=1)
    np.save(context.out / "per_image.npy", terms.numpy())
    _write_timesteps(context, process, decoder, per_mean, per_variance, squared, reverse.thresholding, num_dims)
    context.write_json("estimates.json", _estimates(terms, spec, reverse, levels))


def _write_timesteps(
    context: Context,
    process: Process,
    decoder: Tensor,
    per_mean: Tensor,
    per_variance: Tensor,
    squared: dict[str, Tensor],
    thresholding: str,
    num_dims: int,
) -> None:
    epsilon_mse = squared["none"].double().mean(0) / num_dims * process.snr
    x_0_mse = squared[thresholding].double().mean(0) / num_dims
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for i, t in enumerate(process.timesteps.tolist()):
        per_image = decoder if i == 0 else per_mean[:, i] + per_variance[i]
        parts = ["", ""] if i == 0 else [float(per_variance[i]), float(per_mean[:, i].mean())]
        error = standard_error(per_image)
        row = [t, float(per_image.mean()), "" if error is None else error, *parts]
        writer.writerow([*row, float(epsilon_mse[i]), float(x_0_mse[i])])
    write_text(context.out / "timesteps.csv", text.getvalue())


def _estimates(terms: Tensor, spec: dict[str, object], reverse: Reverse, levels: int | None) -> dict[str, object]:
    protocol = {
        "split": spec["split"], "images": spec["images"], "estimator": spec["estimator"], "decoder": spec["decoder"],
        "levels": levels, "noise_draws_per_t": 1, "standard_error": "over images",
        "thresholding": reverse.thresholding, "first_step": reverse.first_step, "weights": reverse.weights,
        "sampling_steps": "all" if reverse.timesteps is None else len(reverse.timesteps),
    }  # fmt: skip

    def estimate(values: Tensor) -> dict[str, object]:
        return Estimate(
            float(values.mean()), standard_error(values), len(values), "bits/dim", False, protocol
        ).to_json()

    parts = {f"_{name}": estimate(terms[:, i]) for i, name in enumerate(TERMS)}
    return {"": estimate(terms.sum(1)), **parts}
