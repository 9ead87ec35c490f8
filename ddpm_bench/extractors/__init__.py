"""Feature extractors: images → the features in which generated and real images are compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_bench.registry import Entry

if TYPE_CHECKING:
    from torch import Tensor


class Extractor(Entry, axis="extractors"):
    """The configuration of an extractor; made ready by `load`, then called."""

    def weights(self) -> Path:
        """The weight file. Raises UserError, which says how to get it, when it is missing or not the expected one."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256 of the weight file: part of every key and protocol. Raises UserError like `weights`."""
        raise NotImplementedError

    @property
    def num_features(self) -> int:
        """The dimension d of a feature vector."""
        raise NotImplementedError

    def load(self, device: str) -> LoadedExtractor:
        """The extractor on a device, ready to be called. Raises UserError like `weights`."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The name that metrics carry, such as efficientnet_lite0."""
        return self.name.rpartition("/")[2]


class LoadedExtractor:
    """An extractor with its weights in memory."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(features float32 [B, d], class logits float32 [B, classes] or None) of images uint8 [B, 3, H, W]."""
        raise NotImplementedError


def weights_root() -> Path:
    """The folder of imported weights: DDPM_BENCH_WEIGHTS, else ~/.cache/ddpm-bench/weights."""
    return Path(os.environ.get("DDPM_BENCH_WEIGHTS") or Path.home() / ".cache" / "ddpm-bench" / "weights")
