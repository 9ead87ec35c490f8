"""A small classifier of clothing, for Fashion-MNIST of any size."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_bench.extractors._shipped import ShippedClassifier
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class FashionCnn(ShippedClassifier):
    """16 features and the logits of the ten classes of Fashion-MNIST: a classifier trained on its training split.

    Four convolutions, 65 thousand parameters; images are made grey and resized to 28 × 28. It was trained on images of
    28 × 28 and on the same ones at 16 × 16, so that its features mean something for both. The weights come with the
    package, docs/extractors.md says how they were made and how well they classify.

    Source: Xiao, Rasul & Vollgraf 2017, Fashion-MNIST, for the data and the names of the classes.
    """

    classes_of = "fashion_mnist"
    class_names = (
        "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    sha256 = "f1929647ef989159d5a39ee17945df9b389e463ebdf9c483a4bcb6e2caac6454"
    side = 28
    widths = (16, 32, 64, 64)
    strides = (1, 2, 2, 1)
