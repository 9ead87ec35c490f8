"""Data sets on this machine: what is there, getting what is published, checking it (`ddpm-bench data`)."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from ddpm_bench.datasets import Dataset, Published
from ddpm_bench.errors import UserError
from ddpm_bench.vision import import_torchvision

TIMEOUT = 30.0
"""Seconds without an answer after which a download is given up."""


def describe(dataset: Dataset, root: Path) -> list[str]:
    """What is in the data set, where it comes from, and where it was found or what is missing."""
    about = dataset.published
    counts = (
        "" if about.num_images is None else f"{about.num_images[0]} training and {about.num_images[1]} test images, "
    )
    levels = "real values" if dataset.levels is None else f"{dataset.levels} levels"
    lines = [f"{counts}{'×'.join(map(str, dataset.shape(root)))}, {levels}", provenance(about)]
    try:
        sources = dataset.sources(root)
    except UserError as problem:
        return [*lines, f"missing: {problem}"]
    return [*lines, f"found: {os.path.commonpath([path.parent for path in sources])}" if sources else "needs no files"]


def provenance(about: Published) -> str:
    """Where a data set comes from, its licence, and the size of the download."""
    size = f"; download: {about.download_size or 'of unknown size'}" if about.downloader else ""
    return f"origin: {about.origin}; licence: {about.licence or 'not stated there'}{size}"


def fetch(dataset: Dataset, root: Path) -> Path:
    """Download the published files with torchvision, which checks their MD5; all of them are put in place, or none.

    Returns where they lie. Raises UserError with the reason when that fails.
    """
    about = dataset.published
    assert about.downloader is not None, "who calls has looked"
    target = root / about.folder
    place = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    download = getattr(import_torchvision().datasets, about.downloader)
    try:
        with tempfile.TemporaryDirectory(prefix=".ddpm-bench-", dir=place) as scratch:
            with _impatient_sockets():
                download(root=scratch, download=True)
            _move(Path(scratch) / about.folder, target)
    except _failures() as problem:
        reason = " ".join(str(problem).split()).rstrip(".") or type(problem).__name__
        raise UserError(
            f"{dataset.name}: the download failed and nothing was put in {target}: {reason}. Repeat it on a machine "
            f"with a connection and copy {about.folder} from there, or see {about.origin}"
        ) from problem
    return target


@contextmanager
def _impatient_sockets() -> Iterator[None]:
    """Sockets that give up after TIMEOUT: torchvision sets no limit, and a silent host would keep it for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _failures() -> tuple[type[Exception], ...]:
    """What a failing download raises. torchvision has RuntimeError for a wrong MD5, mirrors that are all down and a
    package that it needs; gdown, which it uses for Google Drive, has exceptions of its own."""
    own = vars(sys.modules["gdown.exceptions"]).values() if "gdown.exceptions" in sys.modules else ()
    known = (thing for thing in own if isinstance(thing, type) and issubclass(thing, Exception))
    return OSError, HTTPException, RuntimeError, *known


def _move(source: Path, target: Path) -> None:
    """The folder in one step where there is none yet; else file by file, each replacing what has its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        source.rename(target)
        return
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)


def verify(dataset: Dataset, root: Path) -> Iterator[str]:
    """Check every file against its published MD5, then decode all images as a run would; a line for each result.

    Raises UserError naming what is missing or damaged.
    """
    check = import_torchvision().datasets.utils.check_integrity
    sums, damaged = dataset.checksums(root), []
    for path, md5 in sums.items():
        if check(path, md5):
            yield f"{path}: MD5 as published"
        else:
            damaged.append(f"{path}: its MD5 is not the published {md5}; delete it and fetch it again")
    others = [path for path in dataset.sources(root) if path not in sums]
    if others:
        yield f"without a published MD5: {others[0]}{f' and {len(others) - 1} more' if others[1:] else ''}"
    if damaged:
        raise UserError(damaged)
    images = dataset.load(root)
    found, shape = (len(images.train), len(images.test)), images.train.shape[1:]
    assert shape == dataset.shape(root) == images.test.shape[1:], f"{dataset.name} loads what it does not announce"
    yield f"decoded: {found[0]} training and {found[1]} test images, {'×'.join(map(str, shape))}"
    if images.levels is not None:
        values = (
            min(int(images.train.min()), int(images.test.min())),
            max(int(images.train.max()), int(images.test.max())),
        )
        yield f"grey levels {values[0]} to {values[1]} of 0 to {images.levels - 1}"
        if values[1] >= images.levels:
            raise UserError(f"{dataset.name}: a grey level of {values[1]}, where there are {images.levels}")
