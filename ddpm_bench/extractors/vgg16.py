"""VGG-16 with ImageNet weights that the user imports once, as precision and recall were first measured."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from ddpm_bench.extractors._imported import ImportedExtractor, Published
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Vgg16(ImportedExtractor):
    """VGG-16: 4096 features behind the second fully connected layer and its ReLU; no classes.

    The image is resized to 224 × 224 as TensorFlow 1 did, then normalised with the mean and deviation of ImageNet.
    Behind this layer Kynkäänniemi et al. 2019 measured precision and recall. The file is never downloaded,
    `ddpm-bench weights import FILE` puts it in place.

    Source: Simonyan & Zisserman 2015; torch-fidelity's vgg16, layer fc2_relu; torchvision's IMAGENET1K_V1 weights.
    """

    # torchvision publishes the first eight digits, in the name; the others are what users of the file have noted down
    # publicly, all the same.
    files = (
        Published(
            "vgg16-397923af.pth",
            "https://download.pytorch.org/models/vgg16-397923af.pth",
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        ),
    )

    @property
    def num_features(self) -> int:
        """4096."""
        return 4096

    @property
    def preprocessing(self) -> str:
        """Resize and normalisation."""
        return "bilinear as TensorFlow 1 to 224, not rounded; mean and deviation of ImageNet"

    def network(self, weights: bytes) -> Any:
        """torch-fidelity's network, which opens the bytes without restriction: they were checked."""
        from ddpm_bench.vision import import_torch_fidelity

        network_class = import_torch_fidelity().FeatureExtractorVGG16
        return network_class("vgg16", ["fc2_relu"], feature_extractor_weights_path=io.BytesIO(weights))
