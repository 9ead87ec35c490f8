"""Trains a classifier that the package ships as a feature extractor, and says how good it is.

    python -m tools.train_extractor fashion_cnn
    python -m tools.train_extractor digits_cnn

writes ddpm_bench/extractors/weights/NAME.safetensors (or --output), and prints its SHA-256, which belongs into the
extractor's file, and a Markdown table. The training part of the training split is trained on, exactly as trainings of
diffusion models see it (stages/data.py); the settings below were chosen on the validation split; nothing was
chosen on the test split, whose accuracy stands in the table.

One thread and seeded draws: the same machine and version of torch give the same file. Another processor may sum in
another order and give other last bits, so the shipped file, not the script, is the identity of the extractor.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy

from ddpm_bench.datasets import data_root
from ddpm_bench.extractors._shipped import FOLDER, ShippedClassifier
from ddpm_bench.extractors._small_cnn import SmallCnn, to_grey
from ddpm_bench.registry import get
from ddpm_bench.stages.data import validation_indices
from ddpm_bench.stages.features import to_rgb

SEED = 0
BATCH = 128


@dataclass(frozen=True)
class Recipe:
    """How one extractor is trained.

    sizes: of the images it is trained on and measured at (None: the data's own); each batch mixes them. decorrelation:
    weight of the mean square of the batch's correlations between features. shift: pixels that an image is moved by at
    most.
    """

    sizes: tuple[int | None, ...]
    epochs: int
    learning_rate: float
    weight_decay: float
    decorrelation: float
    shift: int = 0


RECIPES = {
    "fashion_cnn": Recipe((None, 16), epochs=6, learning_rate=4e-3, weight_decay=0.05, decorrelation=10.0),
    "digits_cnn": Recipe((None,), epochs=60, learning_rate=4e-3, weight_decay=0.05, decorrelation=10.0, shift=1),
}


@dataclass(frozen=True)
class Split:
    """The images of a split as the network sees them, float32 [sizes, N, 1, side, side], and labels int64 [N]."""

    images: Tensor
    labels: Tensor


def read_splits(extractor: ShippedClassifier, sizes: tuple[int | None, ...]) -> dict[str, Split]:
    """train, validation and test of the extractor's data set, through the levels and sizes that a suite gives them."""
    views: dict[str, list[Tensor]] = {}
    labels: dict[str, np.ndarray] = {}
    assert extractor.classes_of is not None
    for size in sizes:
        data = get("datasets", extractor.classes_of)(size=size).load(data_root())
        held_out = validation_indices(len(data.train), data.train_labels)
        kept = np.setdiff1d(np.arange(len(data.train)), held_out)
        labels = {"train": data.train_labels[kept], "validation": data.train_labels[held_out], "test": data.test_labels}
        for name, values in (("train", data.train[kept]), ("validation", data.train[held_out]), ("test", data.test)):
            parts = torch.from_numpy(values).split(1000)
            view = torch.cat([to_grey(to_rgb(part, data.levels), extractor.side) for part in parts])
            views.setdefault(name, []).append(view)
    return {name: Split(torch.stack(views[name]), torch.from_numpy(labels[name])) for name in views}


def train(extractor: ShippedClassifier, recipe: Recipe, split: Split, max_steps: int | None = None) -> SmallCnn:
    """The trained network, in evaluation mode. max_steps: stop early, on the way that the whole training takes.

    Loss: cross entropy, and recipe.decorrelation times the mean square of the correlations between two features, which
    keeps the covariance of the features far from singular: a classifier alone needs no more directions than classes.
    """
    torch.manual_seed(SEED)
    network = extractor.network().train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own omission
    per_epoch = len(split.labels) // BATCH
    steps = recipe.epochs * per_epoch
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.1)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps if max_steps is None else min(steps, max_steps)):
        position = step % per_epoch
        if position == 0:
            order = torch.randperm(len(split.labels))
        chosen = order[position * BATCH : (position + 1) * BATCH]
        views = torch.randint(len(split.images), (BATCH,))
        x = _shifted(split.images[views, chosen], recipe.shift)
        features, logits = network(x)
        correlation = features.T @ features / BATCH
        off_diagonal = correlation - torch.diag(correlation.diagonal())
        class_loss = cross_entropy(logits, split.labels[chosen])
        optimizer.zero_grad()
        (class_loss + recipe.decorrelation * off_diagonal.square().mean()).backward()
        optimizer.step()
        schedule.step()
        if position == per_epoch - 1 and (step + 1) % (max(1, recipe.epochs // 6) * per_epoch) == 0:
            print(f"epoch {(step + 1) // per_epoch} of {recipe.epochs}: cross entropy {float(class_loss.detach()):.3f}")
    return network.eval()


def _shifted(images: Tensor, most: int) -> Tensor:
    """Each image moved by −most…most pixels in both directions; background (−1) comes in."""
    if most == 0:
        return images
    side = images.shape[-1]
    padded = torch.nn.functional.pad(images, (most,) * 4, value=-1.0)
    down, right = torch.randint(2 * most + 1, (2, len(images), 1, 1))
    rows, columns = torch.arange(side).reshape(1, -1, 1) + down, torch.arange(side).reshape(1, 1, -1) + right
    return padded[torch.arange(len(images)).reshape(-1, 1, 1), 0, rows, columns][:, None]


def measure(network: SmallCnn, split: Split) -> list[tuple[float, float]]:
    """(accuracy, condition number of the covariance of the features) at each size."""
    found = []
    with torch.no_grad():
        for images in split.images:
            outputs = [network(part) for part in images.split(500)]
            features, logits = (torch.cat(parts) for parts in zip(*outputs, strict=True))
            accuracy = (logits.argmax(1) == split.labels).double().mean()
            spectrum = torch.linalg.eigvalsh(features.double().T.cov())
            found.append((float(accuracy), float(spectrum[-1] / spectrum[0])))
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train an extractor that the package ships.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--output", type=Path, help="default: where the package looks for it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    extractor, recipe = get("extractors", options.name)(), RECIPES[options.name]
    splits = read_splits(extractor, recipe.sizes)
    network = train(extractor, recipe, splits["train"])
    data = save({name: value.contiguous() for name, value in network.state_dict().items()})
    target = options.output or FOLDER / f"{options.name}.safetensors"
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, target)
    print(f"{target}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    print("| extractor | split | images | side | accuracy | condition number of the feature covariance |")
    print("|---|---|---|---|---|---|")
    for name, split in splits.items():
        for size, (accuracy, condition) in zip(recipe.sizes, measure(network, split), strict=True):
            row = name, len(split.labels), size or extractor.side, f"{accuracy:.4f}", f"{condition:.1f}"
            print(f"| `{options.name}` | {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
