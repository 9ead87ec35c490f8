"""Stage likelihood: the bound of one reverse process from a score, term by term. Arithmetic only, no network call."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.diffusion.estimators import mean_and_contrast
from ddpm_bench.diffusion.likelihood import bits_per_dim, distortion, prior_kl, rate, variance_cost
from ddpm_bench.diffusion.reverse import BOUND_THRESHOLDINGS, THRESHOLDINGS
from ddpm_bench.identity import canonical
from ddpm_bench.metrics import Estimate
from ddpm_bench.spec import Reverse, plain, rebuild_reverse
from ddpm_bench.stages import Context
from ddpm_bench.stages._scored import Scored, load_scored
from ddpm_bench.store import write_text

VERSION = 2
TERMS = ("l_0", "mean_cost", "variance_cost", "l_T")
COLUMNS = (
    "t", "kl", "stderr", "kl_variance", "kl_mean", "epsilon_mse", "x0_mse", "log_snr", "log_sigma2", "head", "rate",
    "distortion",
)  # fmt: skip


def standard_error(values: Tensor) -> float | None:
    """Standard error of the mean over images (as a sample of a population); None for a single image."""
    return float(values.std(unbiased=True) / len(values) ** 0.5) if len(values) > 1 else None


def noise_error(contrast: Tensor) -> float | None:
    """Standard error over the noise of a mean over images held fixed, from their contrasts [n]; None if unknown."""
    error = float(contrast.square().sum().sqrt() / len(contrast))
    return error if np.isfinite(error) else None


@dataclass(frozen=True)
class Bound:
    """The bound of every image in bits/dim, float64.

    terms [n, 4] in the order of TERMS; network [n]; contrasts [n, 4]: see `diffusion.estimators`; first [n, R]: L_0 of
    each draw; variance, mean [n, M]: the two parts of each draw of a later step; log_sigma2 [S] of a σ² without a head;
    log_sigma2_first: ln σ²_1, its mean over images and dimensions where a head decides it.
    """

    terms: Tensor
    network: Tensor
    contrasts: Tensor
    network_contrast: Tensor
    first: Tensor
    variance: Tensor
    mean: Tensor
    log_sigma2: Tensor | None
    log_sigma2_first: float


def run(context: Context) -> None:
    """Writes per_image.npy float64 [n, 4] (L_0, mean cost, variance cost, L_T in bits/dim, in the order of TERMS),
    noise.npy float64 [n] (the contrast of their sum over the noise), indices.npy [n], timesteps.csv (means over images
    at each t that was scored) and estimates.json."""
    spec = context.spec
    reverse = rebuild_reverse(spec["reverse"])
    scored = load_scored(context, reverse, spec["split"])
    fit = (
        torch.from_numpy(np.load(context.input("fit").path / "log_sigma2.npy")) if reverse.variance.needs_fit else None
    )
    bound = compute(scored, reverse, fit, spec["decoder"])
    np.save(context.out / "per_image.npy", bound.terms.numpy())
    np.save(context.out / "noise.npy", bound.contrasts.sum(1).numpy())
    np.save(context.out / "indices.npy", scored.indices)
    write_timesteps(context, scored, reverse, bound)
    context.write_json("estimates.json", estimates(context, scored, reverse, bound))


def compute(scored: Scored, reverse: Reverse, fit: Tensor | None, decoder: str) -> Bound:
    """The bound of a reverse process on scored images."""
    process, variance = scored.process, reverse.variance
    means = THRESHOLDINGS[reverse.thresholding](scored.x_0_first)
    if variance.needs_head:
        assert scored.head_first is not None, "the plan scores the head on this chain"
        flat = scored.head_first.flatten(0, 1)
        at_first = torch.zeros(len(flat), dtype=torch.int64)
        log_sigma2 = None
        log_sigma2_first = variance.log_sigma2(process, at_first, head=flat).reshape(scored.head_first.shape)
    else:
        steps = torch.arange(len(process))
        log_sigma2 = variance.log_sigma2(process, steps, fit=fit, first_step=reverse.first_step)
        log_sigma2_first = log_sigma2[0]

    def in_bits(nats: Tensor) -> Tensor:
        return bits_per_dim(nats, scored.num_dims)

    def total(values: Tensor) -> tuple[Tensor, Tensor]:
        return scored.estimator.total(values, scored.draws, scored.eps_norm, scored.num_dims)

    first = in_bits(scored.decoder_nats(means, log_sigma2_first, decoder))
    perfect = in_bits(scored.decoder_nats(scored.x_0.unsqueeze(1).expand_as(means), log_sigma2_first, decoder))
    variance_part, mean_part = (in_bits(nats) for nats in scored.costs(variance, log_sigma2, reverse.thresholding))
    l_0, l_0_contrast = mean_and_contrast(first)
    excess, excess_contrast = mean_and_contrast(first - perfect)
    mean_total, mean_contrast = total(mean_part)
    if log_sigma2 is None:
        variance_total, variance_contrast = total(variance_part)
    else:  # the same for every image: added exactly, never sampled
        variance_total = in_bits(variance_cost(process, log_sigma2).sum() * scored.num_dims).expand(len(l_0))
        variance_contrast = torch.zeros_like(l_0)
    prior = in_bits(prior_kl(scored.x_0, process))
    return Bound(
        terms=torch.stack([l_0, mean_total, variance_total, prior], dim=1),
        network=excess + mean_total,
        contrasts=torch.stack([l_0_contrast, mean_contrast, variance_contrast, torch.zeros_like(prior)], dim=1),
        network_contrast=excess_contrast + mean_contrast,
        first=first,
        variance=variance_part,
        mean=mean_part,
        log_sigma2=log_sigma2,
        log_sigma2_first=float(log_sigma2_first.mean()),
    )


def by_step(values: Tensor, t: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
    """(mean, standard error) over the draws at each step of the chain, float64 [S]; NaN where there are none (or one).

    values, t: [n, M].
    """
    flat, place = values.double().flatten(), t.flatten()
    zeros = torch.zeros(num_steps, dtype=torch.float64)
    count = zeros.index_add(0, place, torch.ones_like(flat))
    mean = zeros.index_add(0, place, flat) / count
    squares = zeros.index_add(0, place, (flat - mean[place]).square())
    return mean, (squares / (count - 1) / count).sqrt()


def write_timesteps(context: Context, scored: Scored, reverse: Reverse, bound: Bound) -> None:
    """timesteps.csv: COLUMNS at each t (1…T of the original chain) that was scored."""
    process, draws, num_dims = scored.process, scored.draws, scored.num_dims
    steps = len(process)
    later = {
        "kl": bound.variance + bound.mean, "kl_variance": bound.variance, "kl_mean": bound.mean,
        **{f"mse_{name}": squared / num_dims for name, squared in scored.squared.items()},
        **({"head": scored.head, "log_sigma2": scored.log_sigma2} if reverse.variance.needs_head else {}),
    }  # fmt: skip
    table, errors = {}, {}
    for name, values in later.items():
        assert values is not None
        table[name], errors[name] = by_step(values, draws.t, steps)
    first_error = {
        name: (scored.x_0.unsqueeze(1) - THRESHOLDINGS[name](scored.x_0_first)).square().double().mean()
        for name in BOUND_THRESHOLDINGS
    }
    for name, value in first_error.items():
        table[f"mse_{name}"][0] = value
    table["kl"][0] = bound.first.mean()
    table["stderr"] = errors["kl"]
    first_stderr = standard_error(bound.first.mean(1))
    table["stderr"][0] = torch.nan if first_stderr is None else first_stderr
    table["epsilon_mse"], table["x0_mse"] = table["mse_none"] * process.snr, table[f"mse_{reverse.thresholding}"]
    table["log_snr"] = torch.log(process.snr)
    if bound.log_sigma2 is not None:
        table["log_sigma2"] = bound.log_sigma2
    else:
        assert scored.head_first is not None
        table["head"][0], table["log_sigma2"][0] = scored.head_first.double().mean(), bound.log_sigma2_first
    if draws.probability is None:
        table["rate"] = rate(table["kl"], bound.terms[:, TERMS.index("l_T")].mean())
    if scored.levels is not None:
        table["distortion"] = distortion(table["mse_clip"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for i, t in enumerate(process.timesteps.tolist()):
        row = [float(table[name][i]) if name in table else torch.nan for name in COLUMNS[1:]]
        if np.isfinite(row[0]):
            writer.writerow([t, *(value if np.isfinite(value) else "" for value in row)])
    write_text(context.out / "timesteps.csv", text.getvalue())


def estimates(context: Context, scored: Scored, reverse: Reverse, bound: Bound) -> dict[str, Any]:
    """Ending of the result's name → estimate."""
    spec = context.spec
    protocol = {
        "split": spec["split"], "images": spec["images"], "estimator": plain(canonical(scored.estimator)),
        "decoder": spec["decoder"], "levels": scored.levels,
        "standard_error": "over images", "noise_error": "over the noise, images held fixed",
        "thresholding": reverse.thresholding, "first_step": reverse.first_step, "weights": reverse.weights,
        "sampling_steps": "all" if reverse.timesteps is None else len(reverse.timesteps),
        **({"precision": reverse.precision} if reverse.precision else {}),  # else that of the training
    }  # fmt: skip

    def estimate(values: Tensor, contrast: Tensor) -> dict[str, Any]:
        return Estimate(
            value=float(values.mean()),
            stderr=standard_error(values),
            num_samples=len(values),
            unit="bits/dim",
            higher_is_better=False,
            protocol=protocol,
            stderr_noise=noise_error(contrast),
        ).to_json()

    parts = {f"_{name}": estimate(bound.terms[:, i], bound.contrasts[:, i]) for i, name in enumerate(TERMS)}
    return {
        "": estimate(bound.terms.sum(1), bound.contrasts.sum(1)),
        **parts,
        "_network": estimate(bound.network, bound.network_contrast),
    }
