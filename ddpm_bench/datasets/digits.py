"""Handwritten digits of 8×8 pixels, shipped with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ddpm_bench.datasets import Dataset, Images, Published
from ddpm_bench.datasets._images import hold_out, resize
from ddpm_bench.errors import require
from ddpm_bench.registry import register

NUM_TEST = 360


@register
@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """1797 handwritten digits, 1×8×8, in 17 grey levels (0…16): seconds on a laptop, nothing to download.

    1437 images to train on and 360 to test, split once and for all at random, each digit in its proportion. The
    published data have no split by writer, so one writer may be in both. `size` resizes with an antialiased triangle
    filter and rounds to the 17 levels.

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository;
    sklearn.datasets.load_digits.
    """

    size: int | None = None
    """Side of the images; left out: 8."""

    published: ClassVar[Published] = Published(
        origin="the package scikit-learn", num_images=(1797 - NUM_TEST, NUM_TEST)
    )

    def __post_init__(self) -> None:
        require(self.size is None or self.size >= 1, "size", f"must be at least 1, got {self.size}")

    def load(self, root: Path) -> Images:
        """The images of scikit-learn; root is not used."""
        from sklearn.datasets import load_digits

        data = load_digits()
        images = resize(data.images.astype(np.uint8)[:, None], self.size)
        labels = data.target.astype(np.int64)
        test = hold_out(len(images), NUM_TEST, labels, "digits/test")
        return Images(
            train=images[~test],
            test=images[test],
            levels=self.levels,
            train_labels=labels[~test],
            test_labels=labels[test],
        )

    def shape(self, root: Path) -> tuple[int, int, int]:
        """(1, 8, 8), or as `size` says."""
        side = self.size or 8
        return 1, side, side

    @property
    def levels(self) -> int:
        """17."""
        return 17
