"""What a cell is: one variant with its data, network and training, and how its parts enter identities.

The dataclasses below are the tables of a suite. `bind` turns a cell into what is hashed: `Training` (all that changes
the weights) and `Reverse` (how the weights are used). Cells that differ only in `Reverse` share a training.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from ddpm_bench.datasets import Dataset
from ddpm_bench.diffusion.losses import Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import kept_timesteps, respace
from ddpm_bench.diffusion.samplers import Sampler
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.variances import FirstStep, Variance
from ddpm_bench.errors import FieldError, require
from ddpm_bench.fields import coerce
from ddpm_bench.identity import canonical
from ddpm_bench.networks import Network
from ddpm_bench.registry import Entry, get


def _default(axis: str, name: str) -> Any:
    return field(default_factory=lambda: get(axis, name)())


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """The table [diffusion]."""

    timesteps: int = 1000
    """T, the steps of the forward process."""
    prediction: Prediction = _default("predictions", "epsilon")
    schedule: Schedule = _default("schedules", "linear")
    loss: Loss = _default("losses", "simple")

    def __post_init__(self) -> None:
        require(self.timesteps >= 1, "timesteps", f"must be at least 1, got {self.timesteps}")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The table [training]: everything about optimisation."""

    steps: int = 1000
    """Optimiser steps; 0 leaves the initial weights."""
    batch_size: int = 128
    micro_batch: int | None = None
    """Images per forward pass; left out: the batch. Not in the key: moves last bits, and which units dropout drops."""
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    """Decoupled weight decay, adamw only."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly to its value."""
    gradient_clip: float | None = None
    """Bound on the norm of the gradient; left out: no clipping."""
    ema_decay: float = 0.9999
    """Decay of the average of the weights, warmed up as min(decay, (1 + n)/(10 + n)); 0: no averaging."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast of the network; weights, loss and averages stay float32."""
    tf32: bool = False
    """TensorFloat-32 matrix products and convolutions (GPU)."""
    compile: bool = False
    """torch.compile of the network (pays on GPUs; on a CPU it takes minutes and gains nothing). Not part of the key."""
    horizontal_flips: bool = False
    validate_every: int | None = None
    """Steps between two points of the validation curve; left out: a tenth of the training. Not part of the key."""

    def __post_init__(self) -> None:
        require(self.steps >= 0, "steps", f"must not be negative, got {self.steps}")
        require(self.batch_size >= 1, "batch_size", f"must be at least 1, got {self.batch_size}")
        require(self.micro_batch is None or self.micro_batch >= 1, "micro_batch", "must be at least 1")
        require(self.learning_rate > 0, "learning_rate", f"must be positive, got {self.learning_rate}")
        require(self.weight_decay >= 0, "weight_decay", f"must not be negative, got {self.weight_decay}")
        require(self.weight_decay == 0 or self.optimizer == "adamw", "weight_decay", 'needs optimizer = "adamw"')
        require(self.warmup_steps >= 0, "warmup_steps", f"must not be negative, got {self.warmup_steps}")
        clip = self.gradient_clip
        require(
            clip is None or clip > 0, "gradient_clip", f"must be positive, got {clip}; leave it out for no clipping"
        )
        require(0 <= self.ema_decay < 1, "ema_decay", f"must lie in [0, 1), got {self.ema_decay}")
        require(self.validate_every is None or self.validate_every >= 1, "validate_every", "must be at least 1")

    RECORDED = ("micro_batch", "compile", "validate_every")
    """Fields that do not change the weights by design: recorded with an artifact, never hashed."""


@dataclass(frozen=True, kw_only=True)
class ReverseOptions:
    """The table [reverse]: how the trained network is used."""

    variance: Variance = _default("variances", "beta")
    sampler: Sampler = _default("samplers", "ancestral")
    sampling_steps: int | Literal["all"] = "all"
    spacing: Literal["linspace", "leading", "trailing", "quadratic"] = "linspace"
    thresholding: Literal["clip", "none"] | None = None
    """What is done to x̂_0. Left out: clip for data with levels, none for real-valued data."""
    first_step: FirstStep = "beta_tilde_2"
    weights: Literal["ema", "raw"] = "ema"

    def __post_init__(self) -> None:
        steps = self.sampling_steps
        require(steps == "all" or steps >= 1, "sampling_steps", f'must be at least 1 or "all", got {steps}')


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant with everything that produces its numbers, as the suite wrote it."""

    dataset: Dataset
    network: Network
    diffusion: Diffusion
    training: TrainingOptions
    reverse: ReverseOptions
    seed: int

    def entries(self) -> list[Entry]:
        """Every registered entry of the cell, entries inside entries included."""
        found: list[Entry] = []

        def walk(value: Any) -> None:
            if isinstance(value, Entry):
                found.append(value)
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                for item in dataclasses.fields(value):
                    walk(getattr(value, item.name))

        walk(self)
        return found

    @property
    def thresholding(self) -> str:
        """The thresholding in force: the default depends on the data."""
        return self.reverse.thresholding or ("none" if self.dataset.levels is None else "clip")

    def process(self) -> Process:
        """The full forward process."""
        return self.diffusion.schedule.process(self.diffusion.timesteps)

    def kept_timesteps(self) -> list[int]:
        """The t (1-based, of the original process) that the reverse chain walks. Raises ValueError."""
        steps, total = self.reverse.sampling_steps, self.diffusion.timesteps
        count = total if steps == "all" else int(steps)
        return [int(t) for t in kept_timesteps(self.reverse.spacing, total, count)]


def illegal(cell: Cell) -> str | None:
    """Why the cell makes no sense, or None: its own rules first, then every entry's `refuse`."""
    if cell.dataset.levels is None and cell.reverse.thresholding not in (None, "none"):
        return (
            f'thresholding "{cell.reverse.thresholding}" with dataset {cell.dataset.name}: its values have no bounded '
            'range to clip to; use thresholding = "none"'
        )
    try:
        cell.kept_timesteps()
    except ValueError as problem:
        return str(problem)
    for item in cell.entries():
        reason = item.refuse(cell)
        if reason is not None:
            return reason
    return None


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
        schedule=cell.diffusion.schedule,
        prediction=cell.diffusion.prediction,
        loss=loss.canonical(cell.diffusion.prediction),
        learned_variance=cell.reverse.variance.needs_head,
        options=options,
        seed=cell.seed,
    )
    reverse = Reverse(
        variance=cell.reverse.variance,
        first_step=cell.reverse.first_step,
        sampler=cell.reverse.sampler,
        timesteps=tuple(kept) if len(kept) < cell.diffusion.timesteps else None,
        thresholding=cell.thresholding,
        weights=cell.reverse.weights,
    )
    return training, reverse


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The table [evaluation]: one protocol for the whole suite."""

    metrics: tuple[str, ...] = ("bits_per_dim", "timestep_kl")
    """Names of metrics, generic (frechet_distance) or resolved (fd_efficientnet_lite0)."""
    extractors: tuple[Any, ...] = ()
    """Entries of the axis extractors (the suite's key is `extractor`: a name, a table or a list of them)."""
    samples: int = 1000
    """Generated images per cell."""
    splits: tuple[Literal["train", "validation", "test"], ...] = ("test",)
    """Splits whose likelihood is evaluated."""
    reference_split: Literal["both", "train", "test"] = "both"
    images: int | Literal["all"] = "all"
    """Images of a split that are scored: a seeded subset, or all."""
    estimator: Literal["full"] = "full"
    decoder: Literal["exact"] = "exact"

    def __post_init__(self) -> None:
        require(self.samples >= 1, "samples", f"must be at least 1, got {self.samples}")
        images = self.images
        require(images == "all" or images >= 1, "images", f'must be at least 1 or "all", got {images}')
        if not self.metrics:
            raise FieldError("metrics", "is empty: nothing would be measured")
        require(bool(self.splits), "splits", "is empty: name at least one of train, validation, test")
        require(len(set(self.splits)) == len(self.splits), "splits", "names a split twice")


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
