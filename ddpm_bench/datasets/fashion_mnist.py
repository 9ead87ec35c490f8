"""Fashion-MNIST: articles of clothing, 28×28 grey."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ddpm_bench.datasets import Published
from ddpm_bench.datasets._idx import IdxImages
from ddpm_bench.registry import register

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""


@register
@dataclass(frozen=True, kw_only=True)
class FashionMnist(IdxImages):
    """Fashion-MNIST: 60 000 training and 10 000 test images of clothing, 1×28×28, 256 grey levels, 10 classes.

    Read from FashionMNIST/raw in the folder of local data sets (torchvision's layout; compressed or not), or from
    Debian's package. `size` resizes with an antialiased triangle filter and rounds to the 256 levels: 16 makes
    training on a CPU bearable, and a network that halves more than twice needs a side that 28 is not.

    Source: Xiao, Rasul & Vollgraf 2017, Fashion-MNIST: a novel image dataset for benchmarking.
    """

    title: ClassVar[str] = "Fashion-MNIST"
    remedy: ClassVar[str] = (
        "`ddpm-bench data fetch fashion_mnist` downloads it. Or put the four files of "
        "https://github.com/zalandoresearch/fashion-mnist there (torchvision's download has the same layout), install "
        "Debian's package dataset-fashion-mnist, or set DDPM_BENCH_DATA to the folder that has FashionMNIST/raw."
    )
    published: ClassVar[Published] = Published(
        origin="https://github.com/zalandoresearch/fashion-mnist",
        num_images=(60_000, 10_000),
        licence="MIT",
        downloader="FashionMNIST",
        download_size="about 31 MB",
        folder="FashionMNIST/raw",
    )

    def places(self, root: Path) -> list[Path]:
        """torchvision's folder, then Debian's."""
        return [*super().places(root), DEBIAN]
