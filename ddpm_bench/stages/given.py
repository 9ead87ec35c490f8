"""Stage given: images that somebody else generated, as levels of the data, where samples would lie."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_bench.datasets._given import Seen, Wanted, read
from ddpm_bench.stages import Context

VERSION = 1


def wanted(spec: dict[str, Any]) -> Wanted:
    """What the images of a specification have to be."""
    return Wanted(spec["dataset"], tuple(spec["shape"]), spec["levels"])


def run(context: Context) -> None:
    """Writes samples.npy uint8 [N, C, H, W]. The digest of the images stands for them in other keys.

    Raises UserError when they are not what the data set's are.
    """
    spec, seen = context.spec, Seen()
    shape = (spec["num_images"], *spec["shape"])
    digest = hashlib.sha256(f"levels {spec['levels']} {shape}".encode())
    samples = np.lib.format.open_memmap(context.out / "samples.npy", mode="w+", dtype=np.uint8, shape=shape)
    for place, image in zip(samples, read(Path(spec["path"]), wanted(spec), seen), strict=True):
        place[...] = image
        digest.update(np.ascontiguousarray(image).data)
    samples.flush()
    context.manifest["info"] = {**asdict(seen), "levels": spec["levels"], "digest": digest.hexdigest()}
