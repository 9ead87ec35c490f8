"""The user's own images: a directory or a zip file."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from ddpm_bench.datasets import Dataset, Images, Published
from ddpm_bench.datasets._images import DAMAGE as IMAGE_DAMAGE
from ddpm_bench.datasets._images import RESIZE, central_square, hold_out
from ddpm_bench.errors import UserError, require
from ddpm_bench.registry import register

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
DAMAGE = (*IMAGE_DAMAGE, zipfile.BadZipFile)
"""What PIL and zipfile raise for files that are not sound."""
MIN_TRAIN = 10
"""Training images below which a tenth of them is no validation split."""


@register
@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """The images in a directory or zip file, searched recursively, in the order of their paths.

    Splits: where the top level (after directories that hold everything) has both train and test, these are the
    splits; otherwise test_fraction of the images is held out, at random but the same each time, each class in its
    proportion. Classes are the names of the directories that hold the images, where there are at least two.

    Each image is converted to `channels`, cut to its central square (crop = "center"; "none" squeezes the whole image
    into the square) and resized with an antialiased triangle filter, rounded to 256 levels. Transparency and EXIF
    orientation are ignored; of an animation the first frame counts. The arrays take N · channels · size² bytes.
    """

    path: str
    """A directory or zip file; a relative path is looked up in the working directory, then in the folder of data."""
    size: int
    """Side of the images."""
    crop: Literal["center", "none"] = "center"
    channels: Literal[1, 3] = 3
    """3: colour, grey images repeated; 1: grey, the luminance of colour images."""
    test_fraction: float = 0.1
    """Share of the images held out, unless directories say it."""

    published: ClassVar[Published] = Published(
        origin="a directory or zip file of yours, named by path and size", licence="that of your images"
    )

    def __post_init__(self) -> None:
        require(self.size >= 1, "size", f"must be at least 1, got {self.size}")
        require(0 < self.test_fraction < 1, "test_fraction", f"must lie between 0 and 1, got {self.test_fraction}")

    def load(self, root: Path) -> Images:
        """The images. Raises UserError when there are too few, or one cannot be read (it is named)."""
        path = self._locate(root)
        with open_images(path) as (names, read):
            test, labels = _splits(names, self.test_fraction)
            num_train, num_test = int((~test).sum()), int(test.sum())
            if num_train < MIN_TRAIN or num_test < 1:
                raise UserError(
                    f"{path}: {num_train} training and {num_test} test images ({', '.join(SUFFIXES)}); at least "
                    f"{MIN_TRAIN} and 1 are needed"
                )
            images = np.empty((len(names), *self.shape(root)), dtype=np.uint8)
            for name, out in zip(names, images, strict=True):
                try:
                    out[...] = self._decode(read(name))
                except DAMAGE as problem:
                    raise UserError(f"{path}: cannot read {name}: {problem}; repair or remove it") from problem
        return Images(
            train=images[~test],
            test=images[test],
            levels=self.levels,
            train_labels=None if labels is None else labels[~test],
            test_labels=None if labels is None else labels[test],
        )

    def sources(self, root: Path) -> list[Path]:
        """The zip file, or the image files of the directory."""
        path = self._locate(root)
        return [path / name for name in image_names(path)] if path.is_dir() else [path]

    def shape(self, root: Path) -> tuple[int, int, int]:
        """(channels, size, size)."""
        return self.channels, self.size, self.size

    def _locate(self, root: Path) -> Path:
        given = Path(self.path).expanduser()
        places = [given] if given.is_absolute() else [Path.cwd() / given, root / given]
        for place in places:
            if place.exists():
                return place
        looked = ", ".join(str(place) for place in places)
        raise UserError(f"image_folder: no directory or zip file {looked}; correct dataset.path")

    def _decode(self, content: bytes) -> np.ndarray:
        """uint8 [channels, size, size]. Raises one of DAMAGE."""
        with Image.open(io.BytesIO(content)) as opened:
            if opened.mode[0] in "IF":
                raise ValueError(f"more than 8 bits per channel (mode {opened.mode})")
            image = opened.convert("RGB" if self.channels == 3 else "L")
        if self.crop == "center":
            image = central_square(image, self.size)
        elif image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), RESIZE)
        pixels = np.asarray(image)
        return pixels.transpose(2, 0, 1) if self.channels == 3 else pixels[None]


def _wanted(name: str) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    return name.lower().endswith(SUFFIXES) and not hidden


def image_names(path: Path) -> list[str]:
    """Sorted relative paths of the images, with slashes: the order is that of a zip file of the directory."""
    found = (Path(folder, file) for folder, _, files in os.walk(path) for file in files)
    return sorted(name for name in (file.relative_to(path).as_posix() for file in found) if _wanted(name))


@contextmanager
def open_images(path: Path, others: str = "") -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """The sorted names of the images and a function that reads one. Raises UserError for a file that is no zip.

    others: what else the caller reads, for that message.
    """
    if path.is_dir():
        yield image_names(path), lambda name: (path / name).read_bytes()
        return
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as problem:
        raise UserError(f"{path}: neither a directory nor a sound zip file{others} ({problem})") from problem
    with archive:
        yield sorted(name for name in archive.namelist() if _wanted(name)), archive.read


def _splits(names: list[str], test_fraction: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Which of the names are test images (bool [N]), and classes (int64 [N], or None)."""
    parents = [PurePosixPath("/", name).parent for name in names]
    common = os.path.commonpath(parents) if parents else "/"
    inside = [parent.relative_to(common).parts for parent in parents]
    tops = {parts[0] if parts else "" for parts in inside}
    given = {"train", "test"} <= tops
    if given and len(tops) > 2:
        stray = next(
            name for name, parts in zip(names, inside, strict=True) if parts[:1] not in (("train",), ("test",))
        )
        raise UserError(f"image_folder: {stray} lies beside the directories train and test: to which split does it go?")
    if given:
        test = np.array([parts[0] == "test" for parts in inside], dtype=bool)
        inside = [parts[1:] for parts in inside]
    holders = [parts[-1] if parts else "" for parts in inside]
    classes = sorted(set(holders))
    labels = None
    if len(classes) >= 2 and "" not in classes:
        number = {name: i for i, name in enumerate(classes)}
        labels = np.array([number[name] for name in holders], dtype=np.int64)
    if not given:
        test = hold_out(len(names), round(len(names) * test_fraction), labels, "image_folder/test")
    return test, labels
