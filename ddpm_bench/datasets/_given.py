"""Images that somebody else generated, read as the data set that they are compared with has its own.

Nothing is resized, cropped or converted: what another shape would become is for whoever made the images to decide.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_bench.datasets.image_folder import DAMAGE, SUFFIXES, image_names, open_images
from ddpm_bench.errors import UserError

MODES = {"L": 1, "RGB": 3}
"""PIL's modes of eight bits without palette or transparency → channels."""
ARRAY_DAMAGE = (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile)
"""What numpy raises for files that are no sound archive of arrays."""


@dataclass(frozen=True)
class Wanted:
    """What images have to be: those of a data set. shape: (C, H, W); levels: K."""

    dataset: str
    shape: tuple[int, int, int]
    levels: int


@dataclass
class Seen:
    """What was seen of the images. largest: grey value; between: pixels with a value between the levels of the data,
    of num_pixels."""

    num_images: int = 0
    largest: int = 0
    between: int = 0
    num_pixels: int = 0

    def notes(self, path: str, wanted: Wanted) -> list[str]:
        """What a user should know: values that were rounded, or levels where grey values are expected."""
        top = wanted.levels - 1
        if top < 255 and self.largest <= top:
            return [
                f"{path}: no grey value above {top}, of 255: if these are the levels 0…{top} of {wanted.dataset}, "
                f"multiply them by 255/{top}"
            ]
        if self.between:
            share = 100 * self.between / self.num_pixels
            return [
                f"{path}: {share:.2g} % of the pixels lie between the {wanted.levels} levels of {wanted.dataset} and "
                "were rounded to the nearest"
            ]
        return []


def sources(path: Path) -> list[Path]:
    """The files that reading takes: the images of a directory, else the file itself."""
    return [path / name for name in image_names(path)] if path.is_dir() else [path]


def read(path: Path, wanted: Wanted, seen: Seen) -> Iterator[np.ndarray]:
    """The images as levels of the data, uint8 [C, H, W], in the order of their names or of the array.

    path: a directory or zip file of images, or an .npz with one array of images; grey values 0…255, which become the
    nearest of K levels, round(v (K − 1)/255). seen: counts what comes by.
    Raises UserError: nothing there, nothing in it, another shape, or a file that cannot be read (it is named).
    """
    if not path.exists():
        raise UserError(f"{path}: no such directory or file")
    if path.suffix == ".npy":
        raise UserError(f"{path}: a .npy cannot be read here; save the array as an .npz (numpy.savez)")
    top = wanted.levels - 1
    nearest = np.round(np.arange(256) * (top / 255)).astype(np.uint8)
    exact = np.round(nearest * (255 / top)) == np.arange(256)
    for image in _arrays(path, wanted) if path.suffix == ".npz" else _files(path, wanted):
        counts = np.bincount(image.reshape(-1), minlength=256)
        seen.num_images += 1
        seen.largest = max(seen.largest, int(image.max()))
        seen.between += int(counts[~exact].sum())
        seen.num_pixels += image.size
        yield nearest[image]
    if not seen.num_images:
        raise UserError(f"{path}: no images ({', '.join(SUFFIXES)})")


def _files(path: Path, wanted: Wanted) -> Iterator[np.ndarray]:
    """uint8 [C, H, W] of each image file."""
    with open_images(path, ", nor an .npz") as (names, read_file):
        for name in names:
            try:
                with Image.open(io.BytesIO(read_file(name))) as image:
                    mode, (width, height) = image.mode, image.size
                    pixels = np.asarray(image)
            except DAMAGE as problem:
                raise UserError(f"{path}: cannot read {name}: {problem}; repair or remove it") from problem
            if mode not in MODES:
                raise UserError(
                    f"{path}: {name} is of mode {mode}; expected L (grey) or RGB, 8 bits without transparency"
                )
            _check(f"{path}: {name}", (MODES[mode], height, width), wanted)
            yield pixels.transpose(2, 0, 1) if mode == "RGB" else pixels[None]


def _check(what: str, shape: tuple[int, ...], wanted: Wanted) -> None:
    if shape != wanted.shape:
        raise UserError(
            f"{what} is {_by(shape)} (channels × height × width), the images of {wanted.dataset} are "
            f"{_by(wanted.shape)}; convert them first, or choose the data set's parameters (size)"
        )


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _arrays(path: Path, wanted: Wanted) -> Iterator[np.ndarray]:
    """uint8 [C, H, W] of each image of the one array of images, NCHW, NHWC or, of grey images, NHW."""
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise UserError(f"{path}: is one .npy array under another name, not an .npz; save it with numpy.savez")
        with archive:
            arrays = {name: item for name in archive.files if isinstance(item := archive[name], np.ndarray)}
    except ARRAY_DAMAGE as problem:
        raise UserError(f"{path}: cannot be read as an .npz of arrays: {problem}") from problem
    images = {name: array for name, array in arrays.items() if array.ndim in (3, 4)}
    if len(images) != 1:
        found = ", ".join(f"{name} {_by(array.shape)}" for name, array in arrays.items()) or "nothing"
        raise UserError(f"{path}: expected one array of images (three or four dimensions), found {found}")
    [(name, array)] = images.items()
    if not len(array):
        raise UserError(f"{path}: {name} is {_by(array.shape)}: it holds no image")
    if array.dtype != np.uint8:
        raise UserError(f"{path}: {name} is {array.dtype}; expected uint8, grey values 0…255")
    channels, height, width = wanted.shape
    if array.shape[1:] == (height, width, channels) != wanted.shape:
        array = array.transpose(0, 3, 1, 2)
    if array.ndim == 3:
        array = array[:, None]
    _check(f"{path}: {name}", array.shape[1:], wanted)
    yield from array
