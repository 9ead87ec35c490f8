"""Feature extractors: images → the features in which generated and real images are compared."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ddpm_bench.registry import Entry

if TYPE_CHECKING:
    from torch import Tensor


class Extractor(Entry, axis="extractors"):
    """The configuration of an extractor; made ready by `load`, then called."""

    classes_of: ClassVar[str | None] = None
    """The data set whose labels the logits stand for, in their order: there alone its classes are the data's."""
    class_names: ClassVar[tuple[str, ...]] = ()
    """The names of the classes, where `classes_of` names a data set."""

    def weights(self) -> Path:
        """The weight file. Raises UserError, which says how to get it, when it is missing or not the expected one."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256 of the weight file: part of every key and protocol. Raises UserError like `weights`."""
        return file_digest(self.weights())

    @property
    def num_features(self) -> int:
        """The dimension d of a feature vector."""
        raise NotImplementedError

    @property
    def preprocessing(self) -> str:
        """What happens to the uint8 image before the network, in words, for protocols: resize, rounding, scale."""
        return "the extractor's own"

    def load(self, device: str) -> LoadedExtractor:
        """The extractor on a device, ready to be called. Raises UserError like `weights`."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The name that metrics carry, such as efficientnet_lite0; parameters that are not defaults are appended
        (efficientnet_lite0_112). Made of a-z, 0-9 and _."""
        parts = [self.name.rpartition("/")[2], *(str(value) for value in self.parameters().values())]
        return metric_word("_".join(parts))


class LoadedExtractor:
    """An extractor with its weights in memory."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(features float32 [B, d], class logits float32 [B, classes] or None) of images uint8 [B, 3, H, W].

        Images may be on any device; the results are on the CPU.
        """
        raise NotImplementedError


def weights_root() -> Path:
    """The folder of imported weights: DDPM_BENCH_WEIGHTS, else ~/.cache/ddpm-bench/weights."""
    return Path(os.environ.get("DDPM_BENCH_WEIGHTS") or Path.home() / ".cache" / "ddpm-bench" / "weights")


def metric_word(text: str) -> str:
    """The text as a part of a metric name: lower case, everything but a-z, 0-9 and _ replaced by _."""
    return re.sub(r"[^a-z0-9_]", "_", text.lower())


def file_digest(path: Path) -> str:
    """SHA-256 of a file, remembered while its size and time of change stay the same."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products without TensorFloat-32, whatever a training in the same process has switched on.

    GPUs round the factors of convolutions to 10 bits by default, and features would then depend on the machine.
    """
    import torch

    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before
