"""CelebA: aligned photographs of faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from ddpm_bench.datasets import Dataset, Images, Published
from ddpm_bench.datasets._images import DAMAGE, central_square, find_folder
from ddpm_bench.errors import UserError, require
from ddpm_bench.randomness import Stream
from ddpm_bench.registry import register
from ddpm_bench.vision import import_torchvision

FOLDER, IMAGES, PARTITION = "celeba", "img_align_celeba", "list_eval_partition.txt"
ARCHIVE = f"{IMAGES}.zip"
TRAIN, TEST = "0", "2"


@register
@dataclass(frozen=True, kw_only=True)
class Celeba(Dataset):
    """CelebA: 162 770 training and 19 962 test photographs of faces, 256 levels, cut to a square and made smaller.

    Read from celeba in the folder of local data sets, torchvision's layout: the aligned images (178×218) in
    img_align_celeba and list_eval_partition.txt, which says what belongs where. Training images are partition 0 and
    test images partition 2. Partition 1, the published validation split of 19 867 images, is not used: validation is
    split off the training images, for all data sets in the same way. Persons of one partition are in no other, so the
    test persons are new to the network, those of the validation split are not.

    The central square of side `crop` is resized with an antialiased triangle filter and rounded to the 256 levels;
    only images that are used are decoded, one at a time, into arrays of N · 3 · size² bytes. No labels are read.

    Source: Liu, Luo, Wang & Tang 2015, Deep Learning Face Attributes in the Wild. Bagge & Rørhauge 2024, § 6.1, have
    subsets of 50 000 and 150 000 images, centred and made 32×32, without more detail.
    """

    size: int = 32
    """Side of the images."""
    crop: int = 178
    """Side of the central square of a photograph that is used; 178 is its whole width, 140 little but the face."""
    num_train: int | None = None
    """Training images (validation split included): a seeded subset, a smaller one part of a larger; left out: all."""

    published: ClassVar[Published] = Published(
        origin="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        num_images=(162_770, 19_962),
        licence="its own agreement, which excludes commercial use",
        downloader="CelebA",
        download_size="about 1.4 GB, from Google Drive (needs the package gdown)",
        folder=FOLDER,
    )

    def __post_init__(self) -> None:
        for name in ("size", "crop", "num_train"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, f"must be at least 1, got {value}")

    def load(self, root: Path) -> Images:
        """The images. Raises UserError when files are missing or cannot be read (the first one is named)."""
        folder = self._folder(root)
        train, test = _partition(folder / PARTITION)
        return Images(
            train=self._decode(folder / IMAGES, self._subset(train)),
            test=self._decode(folder / IMAGES, test),
            levels=self.levels,
        )

    def sources(self, root: Path) -> list[Path]:
        """The list of partitions and the directory of images: 200 000 files would make a record of their own."""
        folder = self._folder(root)
        return [folder / PARTITION, folder / IMAGES]

    def checksums(self, root: Path) -> dict[Path, str]:
        """Of the list of partitions, and of the archive where the download left it; the images have none."""
        folder = self._folder(root)
        known = {name: md5 for _, md5, name in import_torchvision().datasets.CelebA.file_list}
        return {folder / name: known[name] for name in (PARTITION, ARCHIVE) if (folder / name).is_file()}

    def shape(self, root: Path) -> tuple[int, int, int]:
        """(3, size, size)."""
        return 3, self.size, self.size

    def _folder(self, root: Path) -> Path:
        remedy = (
            f"`ddpm-bench data fetch celeba` downloads it. Or get {ARCHIVE} and {PARTITION} from "
            f"{self.published.origin} and unpack the former beside the latter, or set DDPM_BENCH_DATA to the folder "
            f"that has {FOLDER}."
        )
        folder = find_folder("CelebA", [root / FOLDER], [PARTITION], remedy)
        if not (folder / IMAGES).is_dir():
            raise UserError(f"CelebA not found: {folder} has no directory {IMAGES}. {remedy}")
        return folder

    def _subset(self, names: Sequence[str]) -> list[str]:
        """num_train of the names, in their order. Raises UserError when there are fewer."""
        if self.num_train is None:
            return list(names)
        if self.num_train > len(names):
            raise UserError(f"CelebA has {len(names)} training images; correct dataset.num_train = {self.num_train}")
        keys = Stream(0, "celeba/train").uniform(0, torch.arange(len(names)))[:, 0].numpy()
        return [names[i] for i in np.sort(np.argsort(keys, kind="stable")[: self.num_train])]

    def _decode(self, folder: Path, names: Sequence[str]) -> np.ndarray:
        """uint8 [N, 3, size, size]. Raises UserError naming the first image that is missing, damaged or too small."""
        images = np.empty((len(names), 3, self.size, self.size), dtype=np.uint8)
        for name, out in zip(names, images, strict=True):
            try:
                with Image.open(folder / name) as opened:
                    if min(opened.size) < self.crop:
                        raise ValueError(f"{opened.size[0]}×{opened.size[1]} pixels hold no square of {self.crop}")
                    square = central_square(opened.convert("RGB"), self.size, self.crop)
            except DAMAGE as problem:
                raise UserError(f"CelebA: cannot read {folder / name}: {problem}; fetch it again") from problem
            out[...] = np.asarray(square).transpose(2, 0, 1)
        return images


def _partition(path: Path) -> tuple[list[str], list[str]]:
    """The file names of the training and of the test images, from lines of a name and 0, 1 or 2. Raises UserError."""
    found: dict[str, list[str]] = {TRAIN: [], "1": [], TEST: []}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split()
        if len(parts) != 2 or parts[1] not in found:
            raise UserError(
                f"{path}:{number}: expected the name of an image and 0, 1 or 2, got {line!r}; fetch it again"
            )
        found[parts[1]].append(parts[0])
    if not found[TRAIN] or not found[TEST]:
        raise UserError(f"{path}: names no training or no test images; fetch it again")
    return found[TRAIN], found[TEST]
