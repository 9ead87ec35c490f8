"""From a cell to what is hashed, and from a canonical identity back to objects."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from ddpm_bench.diffusion.losses import Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import respace
from ddpm_bench.diffusion.samplers import Sampler
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.variances import FirstStep, Variance
from ddpm_bench.fields import coerce
from ddpm_bench.identity import canonical
from ddpm_bench.networks import Network
from ddpm_bench.spec.cell import Cell
from ddpm_bench.spec.tables import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Training:
    """All that changes the weights beside the data (whose digest enters the key) and the number of steps (N steps are a
    place on the trajectory of this)."""

    network: Network
    timesteps: int
    schedule: Schedule
    prediction: Prediction
    loss: Loss
    learned_variance: bool
    options: dict[str, Any]
    seed: int
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class Reverse:
    """How weights become a likelihood or samples."""

    variance: Variance
    first_step: FirstStep
    sampler: Sampler
    timesteps: tuple[int, ...] | None
    """The t (1-based) that the chain walks; None: all of them."""
    thresholding: str
    weights: Literal["ema", "raw"]
    precision: Literal["float32", "bfloat16"] | None = field(default=None, metadata={"omit_at": None})
    """Of the network's arithmetic; None: that of the training."""


def bind(cell: Cell) -> tuple[Training, Reverse]:
    """The identities of a legal cell. The only place where the cell's σ² enters its loss.

    A loss that uses σ² and leaves its field `variance` out gets the cell's own, with the cell's first-step rule.
    """
    loss, kept = cell.diffusion.loss, cell.kept_timesteps()
    if "variance" in {item.name for item in dataclasses.fields(loss)} and loss.variance is None:  # type: ignore[arg-type]
        first_step = loss.first_step or cell.reverse.first_step  # type: ignore[attr-defined]
        loss = replace(loss, variance=cell.reverse.variance, first_step=first_step)  # type: ignore[type-var]
    options = {
        item.name: getattr(cell.training, item.name)
        for item in dataclasses.fields(cell.training)
        if item.name != "steps" and item.name not in TrainingOptions.RECORDED
    }
    training = Training(
        network=cell.network,
        timesteps=cell.diffusion.timesteps,
        schedule=cell.diffusion.schedule.canonical(cell.diffusion.timesteps),
        prediction=cell.diffusion.prediction,
        loss=loss.canonical(cell.diffusion.prediction),
        learned_variance=cell.learned_variance,
        options=options,
        seed=cell.seed,
    )
    reverse = Reverse(
        variance=cell.reverse.variance,
        first_step=cell.reverse.first_step if cell.reverse.variance.uses_first_step else "beta_tilde_2",
        sampler=cell.reverse.sampler,
        timesteps=tuple(kept) if len(kept) < cell.diffusion.timesteps else None,
        thresholding=cell.thresholding,
        weights=cell.reverse.weights,
        precision=cell.reverse.precision,
    )
    return training, reverse


def chain(process: Process, timesteps: tuple[int, ...] | None) -> Process:
    """The chain over the kept t (1-based); the whole process for None."""
    return process if timesteps is None else respace(process, torch.tensor(timesteps, dtype=torch.int64))


def plain(value: Any) -> Any:
    """A canonical identity as a suite would write it: without the versions and source digests of entries."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if not ("name" in value and k in ("version", "source"))}
    return [plain(item) for item in value] if isinstance(value, list) else value


def rebuild(annotation: Any, identity: Any) -> Any:
    """The object of a canonical identity (from a manifest or plan.json). Raises ValueError if it does not fit."""
    problems: list[str] = []
    value = coerce(annotation, plain(identity), "", lambda path, text: problems.append(f"{path} {text}".strip(" .")))
    if problems:
        raise ValueError("; ".join(problems))
    if canonical(value) != identity:
        raise ValueError(f"the code or version of {identity.get('name')} is not the one of the plan; run again")
    return value


def rebuild_training(identity: dict[str, Any]) -> Training:
    """The `Training` of a canonical identity."""
    hints = {"network": Network, "schedule": Schedule, "prediction": Prediction, "loss": Loss}
    entries = {name: rebuild(axis, identity[name]) for name, axis in hints.items()}
    return Training(**{**identity, **entries})


def rebuild_reverse(identity: dict[str, Any]) -> Reverse:
    """The `Reverse` of a canonical identity."""
    entries = {name: rebuild(axis, identity[name]) for name, axis in (("variance", Variance), ("sampler", Sampler))}
    timesteps = None if identity["timesteps"] is None else tuple(identity["timesteps"])
    return Reverse(**{**identity, **entries, "timesteps": timesteps})
