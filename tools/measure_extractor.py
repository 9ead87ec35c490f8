"""What the features of a shipped extractor see: two tables of docs/extractors.md.

    python -m tools.measure_extractor fashion_cnn
    python -m tools.measure_extractor digits_cnn

Accuracy, condition number and excess kurtosis on every split; and the Fréchet distance between all test images, as they
are and spoiled in known ways, and the training images, which says how much of each fault the features notice.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_bench.datasets import Images, data_root
from ddpm_bench.extractors import LoadedExtractor
from ddpm_bench.extractors._shipped import ShippedClassifier
from ddpm_bench.metrics._frechet import frechet_distance, moments
from ddpm_bench.registry import get
from ddpm_bench.stages.data import validation_indices
from ddpm_bench.stages.features import to_rgb
from tools.train_extractor import RECIPES

SMALL = 300
"""Images of a small evaluation."""


def add_noise(images: Tensor, deviation: float) -> Tensor:
    """Grey normal noise, seeded, rounded."""
    noise = deviation * torch.randn((len(images), 1, *images.shape[2:]), generator=torch.Generator().manual_seed(0))
    return (images + noise).round().clamp(0, 255).to(torch.uint8)


def blur(images: Tensor) -> Tensor:
    """The mean of 3 × 3 pixels, fewer at the edges."""
    means = torch.nn.functional.avg_pool2d(images.float(), 3, 1, 1, count_include_pad=False)
    return means.round().to(torch.uint8)


FAULTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda images, labels: images,
    "noise of 5 grey levels of 255": lambda images, labels: add_noise(images, 5),
    "noise of 15 grey levels": lambda images, labels: add_noise(images, 15),
    "blurred, mean of 3 × 3 pixels": lambda images, labels: blur(images),
    "a fifth of the next image mixed in": lambda images, labels: (
        (0.8 * images + 0.2 * images.roll(1, 0)).round().to(torch.uint8)
    ),
    "mirrored": lambda images, labels: images.flip(-1),
    "class 3 missing": lambda images, labels: images[labels != 3],
    "the same 20 images again and again": lambda images, labels: images[torch.arange(len(images)) % 20],
    "uniform noise": lambda images, labels: torch.randint(
        256, images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """Features float32 [N, d] and logits [N, classes]."""

    features: np.ndarray
    logits: np.ndarray


def look(loaded: LoadedExtractor, images: Tensor) -> Seen:
    """What the extractor gives for images uint8 [N, 3, H, W]."""
    found: list[Any] = [loaded(part) for part in images.split(500)]
    return Seen(*(torch.cat(parts).numpy() for parts in zip(*found, strict=True)))


def quality(name: str, split: str, side: int, seen: Seen, labels: np.ndarray) -> str:
    """A row of the first table."""
    accuracy = float((seen.logits.argmax(1) == labels).mean())
    spectrum = np.linalg.eigvalsh(np.cov(seen.features.T, dtype=np.float64))
    z = (seen.features - seen.features.mean(0)) / seen.features.std(0)
    kurtosis = float((z**4).mean(0).mean() - 3)
    condition = spectrum[-1] / spectrum[0]
    return f"| `{name}` | {split} | {len(labels):,} | {side} | {accuracy:.4f} | {condition:.1f} | {kurtosis:.2f} |"


def distances(loaded: LoadedExtractor, images: Tensor, labels: Tensor, train: Seen) -> list[tuple[str, float, float]]:
    """(fault, Fréchet distance of all spoiled test images from the training images, the same of SMALL of them)."""
    reference = moments(train.features)
    found = []
    for fault, spoil in FAULTS.items():
        features = look(loaded, spoil(images, labels)).features
        of_all, of_few = (frechet_distance(moments(part), reference) for part in (features, features[:SMALL]))
        found.append((fault, of_all, of_few))
    return found


def rows(extractor: ShippedClassifier, size: int | None) -> tuple[list[str], list[tuple[str, float, float]]]:
    """Both tables for images of one size."""
    assert extractor.classes_of is not None
    data: Images = get("datasets", extractor.classes_of)(size=size).load(data_root())
    assert data.levels is not None and data.train_labels is not None and data.test_labels is not None
    held_out = validation_indices(len(data.train), data.train_labels)
    kept = np.setdiff1d(np.arange(len(data.train)), held_out)
    splits = {
        "train": (data.train[kept], data.train_labels[kept]),
        "validation": (data.train[held_out], data.train_labels[held_out]),
        "test": (data.test, data.test_labels),
    }
    loaded, seen, first = extractor.load("cpu"), {}, []
    for split, (values, labels) in splits.items():
        seen[split] = look(loaded, to_rgb(torch.from_numpy(values), data.levels))
        first.append(quality(extractor.name, split, size or extractor.side, seen[split], labels))
    test = to_rgb(torch.from_numpy(data.test), data.levels)
    return first, distances(loaded, test, torch.from_numpy(data.test_labels), seen["train"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure an extractor that the package ships.")
    parser.add_argument("name", choices=sorted(RECIPES))
    extractor = get("extractors", parser.parse_args().name)()
    torch.set_num_threads(1)
    sizes = RECIPES[extractor.name].sizes
    found = [rows(extractor, size) for size in sizes]
    print("| extractor | split | images | side | accuracy | condition number | excess kurtosis |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(row for first, _ in found for row in first))
    print()
    heads = [f"side {size or extractor.side}, {n} images" for size in sizes for n in ("all test", SMALL)]
    print(f"| what is wrong with the test images | {' | '.join(heads)} |")
    print("|---" * (len(heads) + 1) + "|")
    for lines in zip(*(second for _, second in found), strict=True):
        values = [f"{value:.3f}" for _, *pair in lines for value in pair]
        print(f"| {lines[0][0]} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
