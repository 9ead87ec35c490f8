"""Stage features: an extractor's features of a chunk of samples, of a split, or of uniform noise.

Memory: one batch and its features, whatever the number of images (benchmarks/feature_memory.py measures it).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.extractors import Extractor, LoadedExtractor
from ddpm_bench.randomness import Stream
from ddpm_bench.spec import rebuild
from ddpm_bench.stages import Context
from ddpm_bench.stages._images import split_values

VERSION = 2
BATCH = {"cpu": 16, "cuda": 128}
"""Images per call of the extractor, by kind of device: on a CPU small batches stay in the cache. Calls are always of
this size: fewer images go through other kernels, and the bits of a feature would depend on who is in its artifact."""


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
    size = BATCH[torch.device(context.device).type]
    with torch.inference_mode():
        for start in range(0, total, size):
            stop = min(start + size, total)
            images = to_rgb(batch_of(start, stop).to(context.device), levels)
            padding = images[-1:].expand(size - len(images), -1, -1, -1)
            for name, values in zip(("features", "logits"), loaded(torch.cat([images, padding])), strict=True):
                if values is not None:
                    _append(context.out / f"{name}.npy", values[: stop - start].cpu().numpy(), total)
            context.log.progress(stop, total, "images")


def _append(file: Path, rows: np.ndarray, total: int) -> None:
    """Append rows to an array file of `total` rows in the end: neither memory nor memory mapping grows with them."""
    assert rows.dtype == np.float32, f"features are float32, not {rows.dtype}"
    with file.open("ab") as stream:
        if stream.tell() == 0:
            header = {"descr": "<f4", "fortran_order": False, "shape": (total, *rows.shape[1:])}
            np.lib.format.write_array_header_1_0(stream, header)
        stream.write(np.ascontiguousarray(rows).tobytes())


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
