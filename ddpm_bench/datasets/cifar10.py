"""CIFAR-10: photographs of ten kinds of things, 32×32 in colour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ddpm_bench.datasets import Dataset, Images, Published
from ddpm_bench.datasets._images import find_folder, resize
from ddpm_bench.errors import UserError, require
from ddpm_bench.registry import register
from ddpm_bench.vision import import_torchvision

FOLDER = "cifar-10-batches-py"
FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
ARCHIVE = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"


@register
@dataclass(frozen=True, kw_only=True)
class Cifar10(Dataset):
    """CIFAR-10: 50 000 training and 10 000 test images, 3×32×32, 256 levels, 10 classes.

    Read from cifar-10-batches-py (the published Python version; torchvision's layout) in the folder of local data sets
    or in its folder cifar10, each file checked against its published MD5. `size` resizes with an antialiased triangle
    filter and rounds to the 256 levels.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """

    size: int | None = None
    """Side of the images; left out: 32."""

    published: ClassVar[Published] = Published(
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        num_images=(50_000, 10_000),
        downloader="CIFAR10",
        download_size="163 MB",
        folder=FOLDER,
    )

    def __post_init__(self) -> None:
        require(self.size is None or self.size >= 1, "size", f"must be at least 1, got {self.size}")

    def load(self, root: Path) -> Images:
        """The images. Raises UserError when files are missing, or their MD5 is not the published one."""
        folder = self._folder(root)
        torchvision = import_torchvision()
        check = torchvision.datasets.utils.check_integrity
        damaged = [str(path) for path, md5 in self.checksums(root).items() if not check(path, md5)]
        if damaged:
            raise UserError(f"CIFAR-10: not the published files (their MD5 differs): {', '.join(damaged)}; {_remedy()}")
        cifar10 = torchvision.datasets.CIFAR10
        train, test = (cifar10(root=folder.parent, train=flag, download=False) for flag in (True, False))
        return Images(
            train=resize(np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)), self.size),
            test=resize(np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)), self.size),
            levels=self.levels,
            train_labels=np.array(train.targets, dtype=np.int64),
            test_labels=np.array(test.targets, dtype=np.int64),
        )

    def sources(self, root: Path) -> list[Path]:
        """The seven files."""
        folder = self._folder(root)
        return [folder / name for name in FILES]

    def checksums(self, root: Path) -> dict[Path, str]:
        """Of each of them."""
        folder, cifar10 = self._folder(root), import_torchvision().datasets.CIFAR10
        published = [*cifar10.train_list, *cifar10.test_list, (cifar10.meta["filename"], cifar10.meta["md5"])]
        return {folder / name: md5 for name, md5 in published}

    def shape(self, root: Path) -> tuple[int, int, int]:
        """(3, 32, 32), or as `size` says."""
        side = self.size or 32
        return 3, side, side

    def _folder(self, root: Path) -> Path:
        places = [root / FOLDER, root / "cifar10" / FOLDER]
        return find_folder("CIFAR-10", places, FILES, f"`ddpm-bench data fetch cifar10` downloads it. Or {_remedy()}")


def _remedy() -> str:
    return (
        f"unpack {ARCHIVE} in the folder of local data sets, or set DDPM_BENCH_DATA to the folder that has {FOLDER} "
        "(the data set image_folder reads JPEG or PNG copies)."
    )
