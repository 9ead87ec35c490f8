"""DINOv2, with weights that the user imports once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ddpm_bench.extractors._imported import ImportedExtractor, Published, read_state
from ddpm_bench.registry import register

Model = Literal["vit-s-14", "vit-b-14", "vit-l-14"]
MODELS: dict[Model, tuple[int, int, int]] = {"vit-s-14": (384, 12, 6), "vit-b-14": (768, 12, 12),
                                             "vit-l-14": (1024, 24, 16)}  # fmt: skip
"""Model → (features, blocks, heads)."""
FILES: dict[Model, tuple[str, str]] = {
    "vit-s-14": ("dinov2_vits14", "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
    "vit-b-14": ("dinov2_vitb14", "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"),
    "vit-l-14": ("dinov2_vitl14", "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"),
}
"""Model → (what its file is named after, SHA-256). The publisher names no digest; these are what users of the files
have noted down publicly, all the same."""


@register
@dataclass(frozen=True, kw_only=True)
class Dinov2(ImportedExtractor):
    """DINOv2: the class token of a vision transformer that was trained without labels; 384 features of ViT-S/14.

    The image is resized to 224 × 224 as TensorFlow 1 did, then normalised with the mean and deviation of ImageNet, as
    torch-fidelity does. The file is never downloaded, `ddpm-bench weights import FILE` puts it in place.

    Source: Oquab et al. 2023; torch-fidelity's dinov2-vit-s-14 and its siblings.
    """

    model: Model = "vit-s-14"
    """Which transformer; the giant one, which is built differently, is left out."""

    files = tuple(
        Published(f"{stem}_pretrain.pth", f"https://dl.fbaipublicfiles.com/dinov2/{stem}/{stem}_pretrain.pth", digest)
        for stem, digest in FILES.values()
    )

    @classmethod
    def configurations(cls) -> list[ImportedExtractor]:
        """One for every model."""
        return [cls(model=model) for model in MODELS]

    @property
    def published(self) -> Published:
        """The file of the model."""
        return self.files[list(FILES).index(self.model)]

    @property
    def num_features(self) -> int:
        """The width of the transformer: 384 of ViT-S/14."""
        return MODELS[self.model][0]

    @property
    def preprocessing(self) -> str:
        """Resize and normalisation."""
        return "bilinear as TensorFlow 1 to 224, not rounded; mean and deviation of ImageNet"

    def network(self, weights: bytes) -> Any:
        """torch-fidelity's way from an image to DINOv2, with a transformer that needs no download."""
        import torch

        from ddpm_bench.extractors._dinov2_network import DinoV2
        from ddpm_bench.vision import import_torch_fidelity

        import_torch_fidelity()
        from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorBase, FeatureExtractorDinoV2

        class FromState(FeatureExtractorDinoV2):
            """torch-fidelity's own fetches code and weights over the network."""

            def __init__(self, name: str, model: DinoV2):
                FeatureExtractorBase.__init__(self, name, ["dinov2"])
                self.feature_extractor_internal_dtype = torch.float32
                self.model = model
                self.requires_grad_(False)
                self.eval()

        with torch.device("meta"):  # no time for initial weights that are replaced
            model = DinoV2(*MODELS[self.model])
        state = read_state(weights, "extractor dinov2: the file")
        model.load_state_dict(state, assign=True)
        return FromState(f"dinov2-{self.model}", model.float())
