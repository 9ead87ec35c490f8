"""CLIP's image encoders, with weights that the user imports once."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any, Literal

from ddpm_bench.extractors._imported import ImportedExtractor, Published, read_state
from ddpm_bench.registry import register

Model = Literal[
    "rn50", "rn101", "rn50x4", "rn50x16", "rn50x64", "vit-b-32", "vit-b-16", "vit-l-14", "vit-l-14-336px"
]  # fmt: skip
MODELS: dict[Model, tuple[str, int, str]] = {
    "rn50": ("RN50", 1024, "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "rn101": ("RN101", 512, "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    "rn50x4": ("RN50x4", 640, "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    "rn50x16": ("RN50x16", 768, "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    "rn50x64": ("RN50x64", 1024, "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    "vit-b-32": ("ViT-B-32", 512, "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "vit-b-16": ("ViT-B-16", 512, "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "vit-l-14": ("ViT-L-14", 768, "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "vit-l-14-336px": ("ViT-L-14-336px", 768, "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
}
"""Model → (name of the published file without its ending, features, SHA-256, which is also part of the address)."""


@register
@dataclass(frozen=True, kw_only=True)
class Clip(ImportedExtractor):
    """An image encoder of CLIP: 512 features of ViT-B/32, or those of `model`, before normalisation; no classes.

    The image is resized to the side that the model wants (224 for most) as TensorFlow 1 did, and normalised with CLIP's
    mean and deviation. The file is never downloaded, `ddpm-bench weights import FILE` puts it in place.

    Source: Radford et al. 2021; torch-fidelity's clip-vit-b-32 and its siblings.
    """

    model: Model = "vit-b-32"
    """Which encoder."""

    files = tuple(
        Published(
            f"clip-{model}-{digest[:8]}.pt",
            f"https://openaipublic.azureedge.net/clip/models/{digest}/{file}.pt",
            digest,
        )
        for model, (file, _, digest) in MODELS.items()
    )

    @classmethod
    def configurations(cls) -> list[ImportedExtractor]:
        """One for every model."""
        return [cls(model=model) for model in MODELS]

    @property
    def published(self) -> Published:
        """The file of the model."""
        return self.files[list(MODELS).index(self.model)]

    @property
    def num_features(self) -> int:
        """The dimension of the space that images share with texts: 512 of ViT-B/32."""
        return MODELS[self.model][1]

    @property
    def preprocessing(self) -> str:
        """Resize and normalisation."""
        return "bilinear as TensorFlow 1 to the side of the model, not rounded; mean and deviation of CLIP"

    def network(self, weights: bytes) -> Any:
        """torch-fidelity's network with the weights of a TorchScript archive, as the published files are, or of a
        state dict."""
        import torch

        from ddpm_bench.vision import import_torch_fidelity

        import_torch_fidelity()
        from torch_fidelity.feature_extractor_clip import FeatureExtractorBase, FeatureExtractorCLIP, build_model

        class FromState(FeatureExtractorCLIP):
            """torch-fidelity's own reads archives only."""

            def __init__(self, name: str, state: dict[str, torch.Tensor]):
                FeatureExtractorBase.__init__(self, name, ["clip"])
                self.feature_extractor_internal_dtype = torch.float32
                self.model = build_model(state, torch.float32)
                self.resolution = self.model.visual.input_resolution
                self.requires_grad_(False)

        if _is_archive(weights):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=DeprecationWarning)
                state = torch.jit.load(io.BytesIO(weights), map_location="cpu").state_dict()
        else:
            state = read_state(weights, "extractor clip: the file")
        found = state["text_projection"].shape[1]
        if found != self.num_features:
            raise ValueError(f"{self.model} has {self.num_features} features, these weights have {found}")
        return FromState(f"clip-{self.model}", dict(state))


def _is_archive(weights: bytes) -> bool:
    """Whether they are TorchScript, which has code beside its tensors; a state dict has none."""
    import zipfile

    file = io.BytesIO(weights)
    return zipfile.is_zipfile(file) and any("/code/" in name for name in zipfile.ZipFile(file).namelist())
