"""MNIST: handwritten digits, 28×28 grey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ddpm_bench.datasets import Published
from ddpm_bench.datasets._idx import IdxImages
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Mnist(IdxImages):
    """MNIST: 60 000 training and 10 000 test images of handwritten digits, 1×28×28, 256 grey levels, 10 classes.

    Read from MNIST/raw in the folder of local data sets (torchvision's layout; compressed or not). `size` resizes with
    an antialiased triangle filter and rounds to the 256 levels; 32 suits networks that halve more than twice, which 28
    does not.

    Source: LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition.
    """

    title: ClassVar[str] = "MNIST"
    remedy: ClassVar[str] = (
        "`ddpm-bench data fetch mnist` downloads it. Or put the four files of http://yann.lecun.com/exdb/mnist/ there "
        "(torchvision's download has the same layout), or set DDPM_BENCH_DATA to the folder that has MNIST/raw."
    )
    published: ClassVar[Published] = Published(
        origin="http://yann.lecun.com/exdb/mnist/",
        num_images=(60_000, 10_000),
        downloader="MNIST",
        download_size="11.6 MB",
        folder="MNIST/raw",
    )
