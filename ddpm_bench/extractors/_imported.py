"""Extractors whose weights somebody published: the user downloads the file, `ddpm-bench weights import` puts it in
place. What a file is, its SHA-256 says, and nothing opens one before that is checked."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ddpm_bench.errors import UserError
from ddpm_bench.extractors import Extractor, LoadedExtractor, file_digest, full_precision, metric_word, weights_root
from ddpm_bench.registry import get, names

if TYPE_CHECKING:
    from torch import Tensor

DAMAGE = (
    pickle.UnpicklingError, struct.error, EOFError, RuntimeError, LookupError, ValueError, AttributeError, TypeError,
    AssertionError,
)  # fmt: skip
"""What torch raises for files that hold no tensors, or damaged ones: pickle takes almost every letter as a command."""


@dataclass(frozen=True)
class Published:
    """A weight file as it was published. file: its name here; sha256: all 64 hex digits."""

    file: str
    url: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where it lies once it was imported."""
        return weights_root() / self.file


@dataclass(frozen=True, kw_only=True)
class ImportedExtractor(Extractor):
    """An extractor that works with a published weight file, or, marked as unverified, with another one."""

    weights_file: str | None = None
    """Another weight file, a state dict. Unless it is the published one, the names of results end in _unverified."""

    files: ClassVar[tuple[Published, ...]]
    """The published files, one for each `configurations()`."""

    @classmethod
    def configurations(cls) -> list[ImportedExtractor]:
        """The extractor with each of its published files."""
        return [cls()]

    @property
    def published(self) -> Published:
        """The file that this configuration asks for."""
        (file,) = self.files
        return file

    def network(self, weights: bytes) -> Any:
        """The network in evaluation mode: images uint8 → (features,) or (features, logits).

        weights: the published file as it is, or a file that holds nothing but the tensors of another one, by name.
        Raises RuntimeError, KeyError or ValueError when they are not the network's.
        """
        raise NotImplementedError

    def weights(self) -> Path:
        """The weight file. Raises UserError when it is missing, or not the published one where that is asked for."""
        path = self._path()
        if self.weights_file is None:
            self._check(path, file_digest(path))
        return path

    @property
    def label(self) -> str:
        """The name and what is no default of it; without the published weights `…_unverified`. Raises UserError for a
        missing weights_file."""
        parts = [self.name, *(str(value) for key, value in self.parameters().items() if key != "weights_file")]
        published = self.weights_file is None or self.digest() == self.published.sha256
        return metric_word("_".join(parts if published else [*parts, "unverified"]))

    def load(self, device: str) -> LoadedExtractor:
        """The network in evaluation mode. Raises UserError when the weights are missing or not what they should be."""
        path = self._path()
        # What is opened are the very bytes that were checked.
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if self.weights_file is None:
            self._check(path, digest)
        if digest != self.published.sha256:
            data = self._plain_state(path, data)
        try:
            network = self.network(data)
        except (RuntimeError, KeyError, ValueError) as problem:
            raise UserError(f"extractor {self.name}: {path} does not fit the network: {problem}") from problem
        return _Loaded(network.to(device), device)

    def _path(self) -> Path:
        if self.weights_file is not None:
            path = Path(self.weights_file).expanduser()
            if not path.is_file():
                raise UserError(f"extractor {self.name}: weights_file {path} does not exist")
            return path
        file = self.published
        if not file.path.is_file():
            raise UserError(
                f"extractor {self.name}: its weights are missing (looked for {file.path}); download {file.url} and run "
                f"`ddpm-bench weights import {file.url.rpartition('/')[2]}`"
            )
        return file.path

    def _check(self, path: Path, digest: str) -> None:
        file = self.published
        if digest != file.sha256:
            raise UserError(
                f"extractor {self.name}: {path} is not the published file: its SHA-256 is {digest}, expected "
                f"{file.sha256}; download {file.url} and run `ddpm-bench weights import {file.url.rpartition('/')[2]}`,"
                " or use other weights knowingly with the extractor's field weights_file"
            )

    def _plain_state(self, path: Path, data: bytes) -> bytes:
        """The tensors of an unpublished weight file, read without executing anything, as a file again."""
        import torch

        state = read_state(data, f"extractor {self.name}: {path}")
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()


def read_state(data: bytes, what: str) -> dict[str, Tensor]:
    """A state dict, read without executing anything that a file may contain. Raises UserError naming `what`."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'torch.load' received a zip file that looks like a TorchScript")
            state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DAMAGE as problem:  # its text is left out: torch advises to open the file without restriction
        raise UserError(f"{what} is no file of tensors that can be read without executing code") from problem
    if not isinstance(state, dict) or not all(isinstance(item, torch.Tensor) for item in state.values()):
        raise UserError(f"{what} holds no state dict (names with tensors)")
    return state


def imported_extractors() -> Iterator[ImportedExtractor]:
    """Every extractor that wants an imported file, with each of its files."""
    for name in names("extractors"):
        cls = get("extractors", name)
        if issubclass(cls, ImportedExtractor):
            yield from cls.configurations()


def import_weights(source: Path) -> tuple[ImportedExtractor, Path]:
    """Copy a published weight file to the folder of weights: (the extractor that wants it, where it lies).

    The file is recognised by its SHA-256, whatever its name. The copy appears whole or not at all. Raises UserError
    when it is none of the published files.
    """
    if source.is_dir():
        raise UserError(f"{source}: is a folder; name the weight file in it")
    if not source.is_file():
        raise UserError(f"{source}: no such file")
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = None
    for extractor in imported_extractors():
        if extractor.published.sha256 == digest:
            _copy(source, extractor.published)
            return extractor, extractor.published.path
        if source.name in (extractor.published.file, extractor.published.url.rpartition("/")[2]):
            wanted = extractor.published
    if wanted is None:
        raise UserError(
            f"{source} is none of the published weight files (`ddpm-bench weights list` shows them): its SHA-256 is "
            f"{digest}; name it as weights_file of an extractor to use it (results are then marked unverified)"
        )
    raise UserError(
        f"{source} is not {wanted.file}: its SHA-256 is {digest}, expected {wanted.sha256}; download {wanted.url}, or "
        "name the file as weights_file of the extractor (results are then marked unverified)"
    )


def _copy(source: Path, published: Published) -> None:
    """In pieces: weight files are as large as a gigabyte. What was copied is what was asked for, or nothing is left."""
    target = published.path
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    copied = hashlib.sha256()
    try:
        with source.open("rb") as old, part.open("wb") as new:
            while piece := old.read(1 << 20):
                copied.update(piece)
                new.write(piece)
        if copied.hexdigest() != published.sha256:
            raise UserError(f"{source} changed while it was copied; try again")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


class _Loaded(LoadedExtractor):
    def __init__(self, network: Any, device: str):
        self.network, self.device = network, device

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        import torch

        with torch.no_grad(), full_precision():
            features, *logits = self.network(images.to(self.device))
        return features.cpu(), logits[0].cpu() if logits else None
