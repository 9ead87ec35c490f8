"""Inception-v3 as FID, KID and the Inception score define it, with weights that the user imports once."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_bench.errors import UserError
from ddpm_bench.extractors import Extractor, LoadedExtractor, file_digest, full_precision, weights_root
from ddpm_bench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of the published file, whose name ends in the first eight digits of it."""

LAYERS = ("2048", "logits_unbiased")


@register
@dataclass(frozen=True, kw_only=True)
class Inception(Extractor):
    """Inception-v3-compat: 2048 features and 1008 logits without bias, as TensorFlow's FID network computes them.

    The image is resized to 299 × 299 as TensorFlow 1 did, then (pixel − 128)/128. Only with the published weights do
    results bear the names fid, kid and inception_score; the file is never downloaded, `ddpm-bench weights import FILE`
    puts it in place.

    Source: Heusel et al. 2017 (FID); torch-fidelity's inception-v3-compat.
    """

    weights_file: str | None = None
    """Another weight file. Unless it is the published one, results are named …_inception_unverified."""

    def weights(self) -> Path:
        """The weight file. Raises UserError when it is missing, or not the published one where that is asked for."""
        path = self._path()
        if self.weights_file is None:
            _check(path, file_digest(path))
        return path

    @property
    def num_features(self) -> int:
        """2048."""
        return 2048

    @property
    def preprocessing(self) -> str:
        """Resize and normalisation."""
        return "bilinear as TensorFlow 1 to 299, not rounded; (x - 128)/128"

    @property
    def label(self) -> str:
        """inception with the published weights, else inception_unverified. Raises UserError for a missing
        weights_file."""
        if self.weights_file is None or self.digest() == SHA256:
            return "inception"
        return "inception_unverified"

    def load(self, device: str) -> LoadedExtractor:
        """The network in evaluation mode. Raises UserError when the weights are missing or not what they should be."""
        from ddpm_bench.vision import import_torch_fidelity

        network_class = import_torch_fidelity().FeatureExtractorInceptionV3
        path = self._path()
        # torch_fidelity unpickles what it is given without restriction: it gets the very bytes that were checked.
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if self.weights_file is None:
            _check(path, digest)
        if digest != SHA256:
            data = _plain_state(path, data)
        try:
            network = network_class(
                "inception-v3-compat", list(LAYERS), feature_extractor_weights_path=io.BytesIO(data)
            )
        except RuntimeError as problem:
            raise UserError(f"extractor inception: {path} does not fit the network: {problem}") from problem
        return _Loaded(network.to(device), device)

    def _path(self) -> Path:
        if self.weights_file is not None:
            path = Path(self.weights_file).expanduser()
            if not path.is_file():
                raise UserError(f"extractor inception: weights_file {path} does not exist")
            return path
        path = weights_root() / FILE
        if not path.is_file():
            raise UserError(
                f"extractor inception: its weights are missing (looked for {path}); download {URL} and run "
                f"`ddpm-bench weights import {FILE}`"
            )
        return path


def import_weights(source: Path) -> Path:
    """Copy the published weight file to the folder of weights and return where it lies.

    The copy appears whole or not at all. Raises UserError unless the file is the published one.
    """
    if not source.is_file():
        raise UserError(f"{source}: no such file")
    data = source.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise UserError(
            f"{source} is not {FILE}: its SHA-256 is {digest}, expected {SHA256}; download {URL}, or name the file as "
            "weights_file of the extractor inception (results are then marked unverified)"
        )
    target = weights_root() / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{FILE}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _check(path: Path, digest: str) -> None:
    if digest != SHA256:
        raise UserError(
            f"extractor inception: {path} is not the published file: its SHA-256 is {digest}, expected {SHA256}; "
            f"download {URL} and run `ddpm-bench weights import {FILE}`, or use other weights knowingly with the "
            "extractor's field weights_file"
        )


def _plain_state(path: Path, data: bytes) -> bytes:
    """The tensors of an unpublished weight file, read without executing anything, as a file again."""
    import torch

    try:
        state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as problem:
        raise UserError(f"extractor inception: {path} is no file of tensors: {problem}") from problem
    if not isinstance(state, dict) or not all(isinstance(item, torch.Tensor) for item in state.values()):
        raise UserError(f"extractor inception: {path} holds no state dict (names with tensors)")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


class _Loaded(LoadedExtractor):
    def __init__(self, network: Any, device: str):
        self.network, self.device = network, device

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        import torch

        with torch.no_grad(), full_precision():
            features, logits = self.network(images.to(self.device))
        return features.cpu(), logits.cpu()
