"""Stage features: an extractor's features of a chunk of samples, of a split, or of uniform noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.extractors import Extractor
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


def run(context: Context) -> None:
    """Writes features.npy float32 [n, d] and, if the extractor has classes, logits.npy float32 [n, classes]."""
    spec = context.spec
    images, levels = _images(context)
    extractor: Extractor = rebuild(Extractor, spec["extractor"])
    loaded = extractor.load(context.device)
    features, logits = [], []
    size = BATCH[torch.device(context.device).type]
    with torch.inference_mode():
        for start in range(0, len(images), size):
            batch = torch.from_numpy(np.array(images[start : start + size])).to(context.device)
            found, classes = loaded(to_rgb(batch, levels))
            features.append(found.cpu().numpy())
            if classes is not None:
                logits.append(classes.cpu().numpy())
            context.log.progress(min(start + size, len(images)), len(images), "images")
    np.save(context.out / "features.npy", np.concatenate(features))
    if logits:
        np.save(context.out / "logits.npy", np.concatenate(logits))


def _images(context: Context) -> tuple[np.ndarray, int]:
    spec = context.spec
    if spec["source"] == "samples":
        artifact = context.input("images")
        levels = context.store.get(*artifact.manifest["inputs"]["train"]).manifest["info"]["levels"]
        return np.load(artifact.path / "samples.npy", mmap_mode="r"), levels
    data = context.input("images")
    levels = data.manifest["info"]["levels"]
    if spec["source"] == "split":
        return split_values(data, spec["split"]), levels
    assert spec["source"] == "uniform noise"
    draws = Stream(0, "uniform noise").uniform(
        0, torch.arange(spec["count"]), int(np.prod(data.manifest["info"]["shape"]))
    )
    return (draws * levels).floor().to(torch.uint8).reshape(-1, *data.manifest["info"]["shape"]).numpy(), levels
