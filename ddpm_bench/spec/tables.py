"""The tables of a suite, one dataclass each: their fields are its keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ddpm_bench.diffusion.estimators import Estimator
from ddpm_bench.diffusion.losses import Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.samplers import Sampler
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.variances import FirstStep, Variance
from ddpm_bench.errors import FieldError, require
from ddpm_bench.registry import get


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
    thresholding: Literal["clip", "none", "dynamic"] | None = None
    """What is done to x̂_0. Left out: clip for data with levels, none for real-valued data."""
    first_step: FirstStep = "beta_tilde_2"
    weights: Literal["ema", "raw"] = "ema"
    precision: Literal["float32", "bfloat16"] | None = None
    """Of the network in likelihood and sampling (bfloat16: autocast). Left out: as it was trained."""

    def __post_init__(self) -> None:
        steps = self.sampling_steps
        require(steps == "all" or steps >= 1, "sampling_steps", f'must be at least 1 or "all", got {steps}')


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """The table evaluation.landscape: the loss around the path of a training, in the plane that holds most of it.

    One for each training of the first seed (the longest of those that differ in `steps` alone): checkpoints · 2 times
    the bytes of the network, and (points² + 2 checkpoints) · images · 9 network calls.
    """

    checkpoints: int = 21
    """Weights of the path, evenly spread over the steps: those before the first step, those after the last."""
    points: int = 15
    """Points of the grid in each direction."""
    images: int = 64
    """Test images that each point is measured on, at 9 t each: the same for all points, variants and seeds."""

    def __post_init__(self) -> None:
        require(self.checkpoints >= 3, "checkpoints", f"must be at least 3 (they span a plane), got {self.checkpoints}")
        require(self.points >= 3, "points", f"must be at least 3, got {self.points}")
        require(self.images >= 1, "images", f"must be at least 1, got {self.images}")

    def steps_of(self, total: int) -> list[int]:
        """The steps of the checkpoints of a training with that many: 0 … total."""
        return [round(i * total / (self.checkpoints - 1)) for i in range(self.checkpoints)]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The table [evaluation]: one protocol for the whole suite."""

    metrics: tuple[str, ...] = ("bits_per_dim", "timestep_kl")
    """Names of metrics, generic (frechet_distance) or resolved (fd_efficientnet_lite0)."""
    extractors: tuple[Any, ...] = ()
    """Entries of the axis extractors (the suite's key is `extractor`: a name, a table or a list of them)."""
    samples: int = 1000
    """Generated images per cell."""
    generations: int = 1
    """Independent sets of that many images: quality is their mean, with a standard error from two sets on."""
    splits: tuple[Literal["train", "validation", "test"], ...] = ("test",)
    """Splits whose likelihood is evaluated."""
    reference_split: Literal["both", "train", "test"] = "both"
    images: int | Literal["all"] = "all"
    """Images of a split that are scored: a seeded subset, or all."""
    estimator: Estimator = _default("estimators", "full")
    """How the sum over t is evaluated: every t, or a sample of them."""
    decoder: Literal["exact", "tanh"] = "exact"
    """Φ in the decoder's L_0; tanh: the approximation, and the clamp, of published code, for comparison with it."""
    fit_images: int | Literal["all"] = 256
    """Images of the validation split that a fitted variance is fitted to, at every t."""
    gallery: bool = True
    """Progressive generation, interpolations and nearest training images of each cell (data with levels)."""
    landscape: Landscape | None = None
    """The test loss around the path of each training of the first seed: true, or a table of `Landscape`. Off: false."""

    def __post_init__(self) -> None:
        require(self.samples >= 1, "samples", f"must be at least 1, got {self.samples}")
        require(self.generations >= 1, "generations", f"must be at least 1, got {self.generations}")
        images = self.images
        require(images == "all" or images >= 1, "images", f'must be at least 1 or "all", got {images}')
        fit = self.fit_images
        require(fit == "all" or fit >= 1, "fit_images", f'must be at least 1 or "all", got {fit}')
        if not self.metrics:
            raise FieldError("metrics", "is empty: nothing would be measured")
        require(bool(self.splits), "splits", "is empty: name at least one of train, validation, test")
        require(len(set(self.splits)) == len(self.splits), "splits", "names a split twice")
