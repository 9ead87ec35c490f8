"""Stage features: an extractor's features of a chunk of samples, of a split, or of uniform noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.extractors import Extractor, LoadedExtractor
from ddpm_bench.randomness import Stream
from ddpm_bench.spec import rebuild
from ddpm_bench.stages import Context
from ddpm_bench.stages._images import split_values

VERSION = 1
BATCH = {"cpu": 16, "cuda": 128}
"""Images per call of the extractor, by kind of device: on a CPU small batches stay in the cache."""


def to_rgb(values: Tensor, levels: int) -> Tensor:
    """Levels 0…K−1 [B, C, H, W] to uint8 [B, 3, H, W]: v · 255/(K−1), rounded; grey repeated."""
    scaled = (values.to(torch.float32) * (255.0 / (levels - 1))).round().to(torch.uint8)
    return scaled.expand(-1, 3, -1, -1) if scaled.shape[1] == 1 else scaled


@lru_cache(maxsize=1)
def _loaded(extractor: Extractor, device: str) -> LoadedExtractor:
    """The extractor in memory: a worker that looks at hundreds of chunks reads its weights once."""
    return extractor.load(device)


def run(context: Context) -> None:
    """Writes features.npy float32 [n, d] and, if the extractor has classes, logits.npy float32 [n, classes]."""
    total, levels, batch_of = _images(context)
    loaded = _loaded(rebuild(Extractor, context.spec["extractor"]), context.device)
    features, logits = [], []
    size = BATCH[torch.device(context.device).type]
    with torch.inference_mode():
        for start in range(0, total, size):
            stop = min(start + size, total)
            found, classes = loaded(to_rgb(batch_of(start, stop).to(context.device), levels))
            features.append(found.cpu().numpy())
            if classes is not None:
                logits.append(classes.cpu().numpy())
            context.log.progress(stop, total, "images")
    np.save(context.out / "features.npy", np.concatenate(features))
    if logits:
        np.save(context.out / "logits.npy", np.concatenate(logits))


def _images(context: Context) -> tuple[int, int, Callable[[int, int], Tensor]]:
    """(number, grey levels, batch_of) of the images; batch_of(start, stop) → uint8 [stop − start, C, H, W]."""
    spec, artifact = context.spec, context.input("images")
    info = artifact.manifest["info"]
    levels = info["levels"]
    if spec["source"] == "uniform noise":
        stream, shape = Stream(0, "uniform noise"), info["shape"]

        def draw(start: int, stop: int) -> Tensor:
            draws = stream.uniform(0, torch.arange(start, stop), math.prod(shape))
            return (draws * levels).floor().to(torch.uint8).reshape(-1, *shape)

        return spec["count"], levels, draw
    if spec["source"] == "split":
        images = split_values(artifact, spec["split"])
    else:
        assert spec["source"] == "samples"
        images = np.load(artifact.path / "samples.npy", mmap_mode="r")
    return len(images), levels, lambda start, stop: torch.from_numpy(np.array(images[start:stop]))
