"""A small classifier of handwritten digits, for scikit-learn's 8×8 digits."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_bench.extractors._shipped import ShippedClassifier
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class DigitsCnn(ShippedClassifier):
    """16 features and the logits of the ten digits: a classifier trained on the training split of `digits`.

    Four convolutions, 65 thousand parameters; images are made grey and resized to 8 × 8. The weights come with the
    package, docs/extractors.md says how they were made and how well they classify.

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, for the data.
    """

    classes_of = "digits"
    class_names = tuple("0123456789")
    sha256 = "44ec67bc2aa35fe2cdadb3d7d257934041d5bdd9852cb7d7c0656470f6314cff"
    side = 8
    widths = (16, 32, 64, 64)
    strides = (1, 1, 2, 1)
