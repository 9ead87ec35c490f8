"""What score artifacts hold, put together for the chain of one reverse process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.diffusion.estimators import Draws, Estimator
from ddpm_bench.diffusion.likelihood import decoder_nll, mean_cost, variance_cost
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.reverse import BOUND_THRESHOLDINGS
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.spec import Reverse, chain, rebuild, rebuild_training
from ddpm_bench.stages import CHUNK, Context
from ddpm_bench.stages._images import split_values
from ddpm_bench.stages._model import scale_to_network


@dataclass(frozen=True)
class Scored:
    """The draws of n images for one chain of S steps: M draws of later steps, R of the first one.

    target: integer levels or real values, x_0: the same in the scale of the network, [n, C, H, W]; squared:
    thresholding → |x_0 − x̂_0|² [n, M]; x_0_first, head_first [n, R, C, H, W]; eps_norm, head and log_sigma2 [n, M];
    head_costs: (variance cost, mean cost) of the head's own σ², nats [n, M].
    """

    process: Process
    estimator: Estimator
    draws: Draws
    indices: np.ndarray
    target: Tensor
    x_0: Tensor
    levels: int | None
    squared: dict[str, Tensor]
    x_0_first: Tensor
    eps_norm: Tensor | None
    head_first: Tensor | None
    head: Tensor | None
    log_sigma2: Tensor | None
    head_costs: tuple[Tensor, Tensor] | None

    @property
    def num_dims(self) -> int:
        """D."""
        return self.x_0[0].numel()

    def costs(self, variance: Variance, log_sigma2: Tensor | None, thresholding: str) -> tuple[Tensor, Tensor]:
        """(variance cost, mean cost) of every draw in nats, float64 [n, M].

        log_sigma2: ln σ²_t, float64 [S]; of a variance with a head None.
        """
        if variance.needs_head:
            assert self.head_costs is not None, "the plan scores the head on this chain"
            return self.head_costs
        assert log_sigma2 is not None
        at = variance_cost(self.process, log_sigma2)[self.draws.t] * self.num_dims
        weight = mean_cost(self.process, log_sigma2, torch.ones_like(log_sigma2))[self.draws.t]
        return at, weight * self.squared[thresholding].double()

    def decoder_nats(self, mean: Tensor, log_sigma2: Tensor, decoder: str) -> Tensor:
        """L_0 of every draw at the first step in nats, float64 [n, R].

        mean: μ_θ(x_1, 1), [n, R, C, H, W]; log_sigma2: ln σ²_1, a number or of the shape of mean.
        """
        columns = []
        for draw in range(mean.shape[1]):
            spread = log_sigma2[:, draw] if log_sigma2.dim() else log_sigma2
            # In parts: the float64 of the decoder is many times what is stored.
            nats = [
                decoder_nll(
                    self.target[part], mean[part, draw].double(), spread[part] if spread.dim() else spread,
                    self.levels, decoder,
                )
                for part in (slice(start, start + CHUNK) for start in range(0, len(mean), CHUNK))
            ]  # fmt: skip
            columns.append(torch.cat(nats))
        return torch.stack(columns, dim=1)


def load_scored(context: Context, reverse: Reverse, split: str) -> Scored:
    """The scores among the inputs of a task, for the chain of the reverse process."""
    data = context.input("data")
    training = rebuild_training(context.input("train").spec["training"])
    full = training.schedule.process(training.timesteps)
    process = chain(full, reverse.timesteps)
    scores = context.input_list("score")
    first = context.input_list("first") if "first" in context.task.inputs else scores
    estimator = rebuild(Estimator, scores[0].spec["estimator"])

    def load(name: str, source: list[Any] = scores) -> Tensor | None:
        files = [score.path / f"{name}.npy" for score in source]
        return torch.cat([torch.from_numpy(np.load(f)) for f in files]) if files[0].is_file() else None

    sampled = load("t")
    shared = sampled is None and scores[0].spec["timesteps"] is None
    kept = torch.arange(len(full) - 1) if reverse.timesteps is None else process.timesteps[1:] - 2

    def columns(name: str) -> Tensor | None:
        """The draws of the chain's later steps: all that were made for it, or the kept ones of a full chain's."""
        found = load(name)
        return found[:, kept] if shared and found is not None else found

    indices = np.concatenate([np.load(score.path / "indices.npy") for score in scores])
    target = torch.from_numpy(np.array(split_values(data, split)[indices]))
    levels = data.manifest["info"]["levels"]
    variance, mean = columns("kl_variance"), columns(f"kl_mean_{reverse.thresholding}")
    x_0_first = load("x_0_first", first)
    assert x_0_first is not None
    return Scored(
        process=process,
        estimator=estimator,
        draws=_draws(scores, process, len(indices), x_0_first.shape[1], sampled),
        indices=indices,
        target=target,
        x_0=scale_to_network(target, levels),
        levels=levels,
        squared={
            name: found for name in BOUND_THRESHOLDINGS if (found := columns(f"squared_error_{name}")) is not None
        },
        x_0_first=x_0_first,
        eps_norm=load("eps_norm"),
        head_first=load("head_first", first),
        head=columns("head"),
        log_sigma2=columns("log_sigma2"),
        head_costs=None if variance is None or mean is None else (variance.double(), mean.double()),
    )


def _draws(scores: list[Any], process: Process, count: int, num_first: int, t: Tensor | None) -> Draws:
    if t is None:  # every later step once
        every = torch.arange(1, len(process)).expand(count, -1)
        return Draws(t=every, num_first=num_first, probability=None, control=None)
    tables = {name: scores[0].path / f"{name}.npy" for name in ("probability", "control")}
    loaded = {name: torch.from_numpy(np.load(file)) if file.is_file() else None for name, file in tables.items()}
    return Draws(t=t.long(), num_first=num_first, **loaded)
