"""Gaussian data: everything about a diffusion of it has a formula."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ddpm_bench.datasets import Dataset, Images, Published
from ddpm_bench.errors import require
from ddpm_bench.randomness import Stream
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Gaussian(Dataset):
    """Independent normal values, x_0 ~ N(mean, standard_deviation²) in every dimension: data with known answers.

    The values are real, not grey levels: the decoder of L_0 is a density and x̂_0 is not clipped. With the network
    closed_form every term of the bound has a formula. Image i of a split is the same whatever the number of images.
    """

    mean: float = 0.0
    standard_deviation: float = 1.0
    size: int = 8
    """Side of the images."""
    channels: int = 1
    num_train: int = 4096
    num_test: int = 2048
    seed: int = 0
    """Seed of the draws; the seeds of a suite change training and evaluation, never the data."""

    published: ClassVar[Published] = Published(origin="a random generator with a seed", licence="none")

    def __post_init__(self) -> None:
        positive = "must be positive, got"
        require(self.standard_deviation > 0, "standard_deviation", f"{positive} {self.standard_deviation}")
        for name in ("size", "channels", "num_train", "num_test"):
            require(getattr(self, name) >= 1, name, f"must be at least 1, got {getattr(self, name)}")

    def load(self, root: Path) -> Images:
        """The draws, float32; root is not used."""
        return Images(train=self._draw("train", self.num_train), test=self._draw("test", self.num_test), levels=None)

    def shape(self, root: Path) -> tuple[int, int, int]:
        """(channels, size, size)."""
        return self.channels, self.size, self.size

    @property
    def levels(self) -> None:
        """None: real values."""
        return None

    @property
    def gaussian(self) -> tuple[float, float]:
        """(mean, standard_deviation)."""
        return self.mean, self.standard_deviation

    def _draw(self, split: str, num_images: int) -> np.ndarray:
        normal = Stream(self.seed, f"gaussian/{split}").normal(0, torch.arange(num_images), self.shape(Path()))
        values: np.ndarray = (self.mean + self.standard_deviation * normal).numpy()
        return values
