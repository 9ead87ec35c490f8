"""Inception-v3 as FID, KID and the Inception score define it, with weights that the user imports once."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from ddpm_bench.extractors._imported import ImportedExtractor, Published
from ddpm_bench.registry import register

FILE = "weights-inception-2015-12-05-6726825d.pth"
LAYERS = ("2048", "logits_unbiased")


@register
@dataclass(frozen=True, kw_only=True)
class Inception(ImportedExtractor):
    """Inception-v3-compat: 2048 features and 1008 logits without bias, as TensorFlow's FID network computes them.

    The image is resized to 299 × 299 as TensorFlow 1 did, then (pixel − 128)/128. Only with the published weights do
    results bear the names fid, kid and inception_score; the file is never downloaded, `ddpm-bench weights import FILE`
    puts it in place.

    Source: Heusel et al. 2017 (FID); torch-fidelity's inception-v3-compat.
    """

    # The name of the file ends in the first eight digits.
    files = (
        Published(
            FILE,
            f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}",
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        ),
    )

    @property
    def num_features(self) -> int:
        """2048."""
        return 2048

    @property
    def preprocessing(self) -> str:
        """Resize and normalisation."""
        return "bilinear as TensorFlow 1 to 299, not rounded; (x - 128)/128"

    def network(self, weights: bytes) -> Any:
        """torch-fidelity's network, which opens the bytes without restriction: they were checked."""
        from ddpm_bench.vision import import_torch_fidelity

        network_class = import_torch_fidelity().FeatureExtractorInceptionV3
        return network_class("inception-v3-compat", list(LAYERS), feature_extractor_weights_path=io.BytesIO(weights))
