"""A stand-in for a large feature network: 2048 numbers of an image at the cost of one matrix product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddpm_bench.extractors import Extractor, LoadedExtractor
from ddpm_bench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

NUM_FEATURES = 2048


@register
@dataclass(frozen=True, kw_only=True)
class RandomFeatures(Extractor):
    """max(0, W x) with W from N(0, 1/D), seeded: 2048 numbers of an image of D values."""

    @property
    def num_features(self) -> int:
        """2048, as Inception's."""
        return NUM_FEATURES

    def load(self, device: str) -> LoadedExtractor:
        """W is drawn when the first images come."""
        return _Loaded()


class _Loaded(LoadedExtractor):
    matrix: Tensor | None = None

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        import torch

        x = images.flatten(1).float()
        if self.matrix is None:
            generator = torch.Generator().manual_seed(0)
            self.matrix = torch.randn((x.shape[1], NUM_FEATURES), generator=generator) / x.shape[1] ** 0.5
        return (x @ self.matrix).relu(), None
