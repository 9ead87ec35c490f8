"""What the image data sets share: resizing, a seeded stratified hold-out, finding files."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddpm_bench.errors import UserError
from ddpm_bench.randomness import Stream

RESIZE = Image.Resampling.BILINEAR
"""The triangle filter, widened by the scale when it makes images smaller (antialiased), rounded to whole levels."""
DAMAGE = (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError)
"""What PIL raises for files that are not sound images."""


def resize(images: np.ndarray, size: int | None) -> np.ndarray:
    """Square images of side `size`, uint8 [N, C, size, size]; the images themselves where size is None or theirs.

    images: uint8 [N, C, H, W], C = 1 or 3. Values stay within the levels of the input, whatever their number.
    """
    if size is None or images.shape[2:] == (size, size):
        return images
    channels = images.shape[1]
    resized = np.empty((len(images), channels, size, size), dtype=np.uint8)
    for image, out in zip(images, resized, strict=True):
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0)) if channels == 3 else image[0]
        result = np.asarray(Image.fromarray(pixels).resize((size, size), RESIZE))
        out[...] = result.transpose(2, 0, 1) if channels == 3 else result
    return resized


def central_square(image: Image.Image, size: int, side: int | None = None) -> Image.Image:
    """The central square of a side (left out: the shorter one of the image), resized to `size`."""
    width, height = image.size
    side = side or min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image if (width, height) == (side, side) else image.crop((left, top, left + side, top + side))
    return square if side == size else square.resize((size, size), RESIZE)


def hold_out(num_images: int, num_held_out: int, labels: np.ndarray | None, purpose: str) -> np.ndarray:
    """Which images are held out: bool [N], seeded by `purpose`, each class in its proportion to within one image.

    The images are ordered by class, at random within a class, and the middle of each of num_held_out equal intervals
    of that order is taken, so an interval inside a class gives one image of it. labels: int64 [N], or None.
    """
    keys = Stream(0, purpose).uniform(0, torch.arange(num_images))[:, 0].numpy()
    order = np.lexsort((keys, np.zeros(num_images) if labels is None else labels))
    middles = (np.arange(num_held_out) + 0.5) * num_images / num_held_out
    held_out = np.zeros(num_images, dtype=bool)
    held_out[order[middles.astype(np.int64)]] = True
    return held_out


def find_folder(what: str, places: Sequence[Path], names: Sequence[str], remedy: str) -> Path:
    """The first of the places that has all the named files. Raises UserError with names, places and remedy."""
    for place in places:
        if all(find_file(place, name) for name in names):
            return place
    looked = ", ".join(str(place) for place in places)
    raise UserError(f"{what} not found: looked for {', '.join(names)} in {looked}. {remedy}")


def find_file(folder: Path, name: str) -> Path | None:
    """The file of this name; for a name that ends in .gz also the same without it. None where there is none."""
    return next((path for path in (folder / name, folder / name.removesuffix(".gz")) if path.is_file()), None)
