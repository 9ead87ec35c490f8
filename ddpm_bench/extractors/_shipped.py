"""What the extractors have in common whose weights come with this package: small classifiers of one data set."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ddpm_bench.errors import UserError
from ddpm_bench.extractors import Extractor, LoadedExtractor, file_digest, full_precision

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_bench.extractors._small_cnn import SmallCnn

FOLDER = Path(__file__).parent / "weights"
NUM_FEATURES = 16
"""Few, so that a few hundred images give a covariance of full rank, and a Fréchet distance that means something."""


class ShippedClassifier(Extractor):
    """A classifier trained by `python -m tools.train_extractor NAME` on the training split of `classes_of`."""

    sha256: ClassVar[str]
    """Of the shipped file: other weights are another version of the extractor."""
    side: ClassVar[int]
    """Images of other sizes are resized to this side."""
    widths: ClassVar[tuple[int, ...]]
    """Channels of the convolutions."""
    strides: ClassVar[tuple[int, ...]]
    """Strides of the convolutions."""

    def weights(self) -> Path:
        """The weight file in the package. Raises UserError when it is missing or has another digest."""
        path = self._path()
        self._check(path, file_digest(path))
        return path

    @property
    def num_features(self) -> int:
        """16."""
        return NUM_FEATURES

    @property
    def preprocessing(self) -> str:
        """Resize and normalisation."""
        return f"mean of the channels; bilinear antialiased to {self.side}, not rounded; x/127.5 - 1"

    def network(self) -> SmallCnn:
        """The network without its weights, as it is before training."""
        from ddpm_bench.extractors._small_cnn import SmallCnn

        return SmallCnn(self.side, self.widths, self.strides, NUM_FEATURES, len(self.class_names))

    def load(self, device: str) -> LoadedExtractor:
        """The network in evaluation mode. Raises UserError when the weights are missing or have another digest."""
        import torch
        from safetensors.torch import load

        path = self._path()
        data = path.read_bytes()
        self._check(path, hashlib.sha256(data).hexdigest())
        network = self.network()
        network.load_state_dict(load(data))
        network = network.eval().requires_grad_(False).to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own omission
        return _Loaded(network, self.side, device)

    def _path(self) -> Path:
        path = FOLDER / f"{self.name}.safetensors"
        if not path.is_file():
            raise UserError(f"extractor {self.name}: {path} is missing; install ddpm-bench again")
        return path

    def _check(self, path: Path, digest: str) -> None:
        if digest != self.sha256:
            raise UserError(
                f"extractor {self.name}: {path} has SHA-256 {digest}, expected {self.sha256}; install ddpm-bench again"
            )


class _Loaded(LoadedExtractor):
    def __init__(self, network: SmallCnn, side: int, device: str):
        self.network, self.side, self.device = network, side, device

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        import torch

        from ddpm_bench.extractors._small_cnn import to_grey

        assert images.dtype == torch.uint8, images.dtype
        assert images.shape[1:2] == (3,), images.shape
        with torch.no_grad(), full_precision():
            features, logits = self.network(to_grey(images.to(self.device), self.side))
        return features.cpu(), logits.cpu()
