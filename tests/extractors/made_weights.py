"""Weight files made here, in the role of published ones."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_bench.extractors._imported import ImportedExtractor


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def as_published(patch: pytest.MonkeyPatch, cls: type[ImportedExtractor], path: Path, index: int = 0) -> None:
    """Let the extractor's published file (of several, the one at `index`) be this one."""
    files = list(cls.files)
    files[index] = replace(files[index], sha256=digest_of(path))
    patch.setattr(cls, "files", tuple(files))


def kaiming(network: nn.Module) -> None:
    """Weights with which activations neither die out nor explode on their way: seeded."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)


def images(count: int, seed: int = 0) -> Tensor:
    """Noise whose colour and contrast differ from image to image: even a random network tells them apart."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (count, 3, 8, 8)) * random.random((count, 3, 1, 1))
    return torch.from_numpy(noise.astype(np.uint8))
