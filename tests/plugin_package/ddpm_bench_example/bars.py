"""Images of bars."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddpm_bench.datasets import Dataset, Images
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Bars(Dataset):
    """Grey images of one bar each, upright or lying, anywhere, of any brightness in the upper half of 256 levels."""

    size: int = 8
    """Side of the images."""
    num_train: int = 256
    num_test: int = 64

    def __post_init__(self) -> None:
        for name in ("size", "num_train", "num_test"):
            require(getattr(self, name) >= 2, name, f"must be at least 2, got {getattr(self, name)}")

    def load(self, root: Path) -> Images:
        """The images, drawn with a fixed seed; root is not used."""
        random = np.random.default_rng(0)
        count = self.num_train + self.num_test
        images = np.zeros((count, 1, self.size, self.size), dtype=np.uint8)
        place, lying = random.integers(self.size, size=count), random.integers(2, size=count)
        for image, where, flat in zip(images[:, 0], place, lying, strict=True):
            (image if flat else image.T)[where] = random.integers(128, 256)
        return Images(
            images[: self.num_train], images[self.num_train :], levels=256, train_labels=lying[: self.num_train]
        )

    def shape(self, root: Path) -> tuple[int, int, int]:
        """(1, size, size)."""
        return 1, self.size, self.size
