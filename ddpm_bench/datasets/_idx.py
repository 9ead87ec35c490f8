"""Data sets in the four IDX files of MNIST: 28×28 grey images with labels."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ddpm_bench.datasets import Dataset, Images
from ddpm_bench.datasets._images import find_file, find_folder, resize
from ddpm_bench.errors import UserError, require
from ddpm_bench.vision import import_torchvision

SIDE = 28
SHAPES: dict[str, tuple[int, ...]] = {
    "train-images-idx3-ubyte.gz": (60_000, SIDE, SIDE),
    "train-labels-idx1-ubyte.gz": (60_000,),
    "t10k-images-idx3-ubyte.gz": (10_000, SIDE, SIDE),
    "t10k-labels-idx1-ubyte.gz": (10_000,),
}
"""File (or the same decompressed, without .gz) → shape of its array."""


@dataclass(frozen=True, kw_only=True)
class IdxImages(Dataset):
    """What such data sets share; each says what it is called and what to do where its files are missing."""

    title: ClassVar[str]
    remedy: ClassVar[str]

    size: int | None = None
    """Side of the images; left out: 28."""

    def __post_init__(self) -> None:
        require(self.size is None or self.size >= 1, "size", f"must be at least 1, got {self.size}")

    def places(self, root: Path) -> list[Path]:
        """The folders that are searched, in this order."""
        return [root / self.published.folder]

    def load(self, root: Path) -> Images:
        """The images. Raises UserError when files are missing or damaged."""
        files = zip(self.sources(root), SHAPES.values(), strict=True)
        train, train_labels, test, test_labels = (read_idx(path, shape) for path, shape in files)
        return Images(
            train=resize(train[:, None], self.size),
            test=resize(test[:, None], self.size),
            levels=self.levels,
            train_labels=train_labels.astype(np.int64),
            test_labels=test_labels.astype(np.int64),
        )

    def sources(self, root: Path) -> list[Path]:
        """The four files."""
        folder = find_folder(self.title, self.places(root), list(SHAPES), self.remedy)
        return [path for name in SHAPES if (path := find_file(folder, name))]

    def checksums(self, root: Path) -> dict[Path, str]:
        """Of the compressed files where the download puts them. Decompressed, or packed by others, they have none."""
        assert self.published.downloader is not None
        known = dict(getattr(import_torchvision().datasets, self.published.downloader).resources)
        folder = root / self.published.folder
        return {path: known[path.name] for path in self.sources(root) if path.parent == folder and path.name in known}

    def shape(self, root: Path) -> tuple[int, int, int]:
        """(1, 28, 28), or as `size` says."""
        side = self.size or SIDE
        return 1, side, side


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array in an IDX file, compressed where its name ends in .gz, after checking that it has this shape.

    The format: two zero bytes, 0x08 for uint8, the number of dimensions, each dimension as a big-endian 32-bit number,
    the values. Raises UserError naming the file when its header, length or compression is wrong.

    Source: LeCun, Cortes & Burges, The MNIST database of handwritten digits, "the IDX file format".
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise UserError(f"{path}: not a sound gzip file ({problem}); replace it") from problem
    header = bytes((0, 0, 8, len(shape))) + np.array(shape, dtype=">u4").tobytes()
    if content[: len(header)] != header or len(content) != len(header) + math.prod(shape):
        raise UserError(f"{path}: not an IDX file of {' × '.join(map(str, shape))} bytes; replace it")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape).copy()
