"""Invented forward processes for example results: the tables by formula, and digits with noise on them."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path

import numpy as np

from tests.made_numbers import betas

BINS, LIMIT, STEPS = 161, 4.0, 8


def write_forward(runs: Path, schedule: str, num_steps: int, levels: int) -> str:
    """The artifact of a schedule on the digits, and where it lies below `runs`."""
    place = f"store/forward/{hashlib.sha256(f'forward {schedule} {num_steps}'.encode()).hexdigest()}"
    folder = runs / place
    if folder.is_dir():
        return place
    folder.mkdir(parents=True)
    x_0 = _digits() * 2.0 / (levels - 1) - 1
    beta = betas(schedule, num_steps)
    alpha_bar = np.cumprod(1 - beta)
    with open(folder / "forward.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(_rows(beta, alpha_bar, x_0))
    times = [math.floor(num_steps * j / STEPS + 0.5) for j in range(STEPS + 1)]
    edges = np.linspace(-LIMIT, LIMIT, BINS + 1)
    kept = np.concatenate([[1.0], alpha_bar])[times].reshape(-1, 1, 1, 1)
    noise = np.random.default_rng(0).standard_normal(x_0.shape)
    x_t = np.sqrt(kept) * x_0[:, None] + np.sqrt(1 - kept) * noise[:, None]
    np.save(folder / "noised.npy", x_t[:4].astype(np.float32))
    np.save(folder / "pixels.npy", np.stack([_law(x_0, float(level), edges) for level in kept.ravel()]))
    np.save(folder / "edges.npy", edges)
    info = {"split": "test", "num_images": len(x_0), "levels": levels, "times": times, "images": [0, 1, 2, 3]}
    (folder / "forward.json").write_text(json.dumps(info) + "\n", encoding="utf-8")
    return place


def _digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().images[:360, None]


def _rows(beta: np.ndarray, alpha_bar: np.ndarray, x_0: np.ndarray) -> list[list[object]]:
    found: list[list[object]] = [["t", "alpha_bar", "snr", "beta", "beta_tilde", "kl", "stderr"]]
    squared = np.mean(x_0**2, axis=(1, 2, 3))
    previous = np.concatenate([[1.0], alpha_bar[:-1]])
    for t, (b, level, before) in enumerate(zip(beta, alpha_bar, previous, strict=True), start=1):
        kl = 0.5 * (level * squared - level - math.log1p(-level)) / math.log(2)
        error = float(kl.std(ddof=1)) / math.sqrt(len(kl))
        tilde = (1 - before) / (1 - level) * b
        found.append([t, *map(float, (level, level / (1 - level), b, tilde, kl.mean(), error))])
    return found


def _law(x_0: np.ndarray, alpha_bar: float, edges: np.ndarray) -> np.ndarray:
    """The share of pixels of x_t in each bin."""
    if alpha_bar == 1.0:
        return np.histogram(x_0, edges)[0] / x_0.size
    values, counts = np.unique(x_0, return_counts=True)
    distance = (edges[:, None] - math.sqrt(alpha_bar) * values) / math.sqrt(2 * (1 - alpha_bar))
    below = 0.5 * (1 + np.vectorize(math.erf)(distance))
    return np.diff(below @ (counts / x_0.size))
