"""Data sets: real images, and Gaussian data with known answers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ddpm_bench.registry import Entry


@dataclass(frozen=True)
class Images:
    """Decoded images. train, test: [N, C, H, W], uint8 levels 0…K−1 (levels = K), or float32 values (levels = None);
    labels: int64 [N] or None."""

    train: np.ndarray
    test: np.ndarray
    levels: int | None
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Published:
    """What `ddpm-bench data` says of a data set, and how it fetches it. Nothing of this enters a key."""

    origin: str
    """Where it comes from: a web page, a package, a random generator."""
    num_images: tuple[int, int] | None = None
    """Training and test images; None where parameters decide."""
    licence: str | None = None
    """None where the origin states none."""
    downloader: str | None = None
    """The class of torchvision.datasets that downloads the files and knows their MD5; None: nothing is downloaded."""
    download_size: str | None = None
    """Of the download, in words; None where it is not known."""
    folder: str = ""
    """Where the downloader puts the files, below the folder of local data sets."""


class Dataset(Entry, axis="datasets"):
    """A source of images. The validation split is taken off the training split centrally (see stages/data.py)."""

    published: ClassVar[Published] = Published(origin="not stated")
    """Where the data come from, for a person."""

    def load(self, root: Path) -> Images:
        """The images, decoded. root: the folder of local data sets (`data_root`).

        Raises UserError with the places looked at and what to do when they are missing or damaged.
        """
        raise NotImplementedError

    def sources(self, root: Path) -> list[Path]:
        """The files that `load` would read, empty for data that lives in a package or is drawn.

        They are found, not opened. Raises UserError when they are missing.
        """
        return []

    def checksums(self, root: Path) -> dict[Path, str]:
        """MD5 of those files whose sum is published. Raises UserError like `sources`."""
        return {}

    def shape(self, root: Path) -> tuple[int, int, int]:
        """(C, H, W) of an image, known without decoding. Raises UserError when it depends on missing files."""
        raise NotImplementedError

    @property
    def levels(self) -> int | None:
        """Grey levels K of the data; None for real values."""
        return 256

    @property
    def gaussian(self) -> tuple[float, float] | None:
        """(mean, standard deviation) per dimension where the data are independent normals, else None."""
        return None


def data_root() -> Path:
    """The folder of local data sets: DDPM_BENCH_DATA, else ~/.cache/ddpm-bench/data."""
    return Path(os.environ.get("DDPM_BENCH_DATA") or Path.home() / ".cache" / "ddpm-bench" / "data")
