"""Adds landscapes to example results: `python tests/made_landscape.py RUNS SUITE [POINTS]` after tests/make_results.py.

The losses are invented: a valley along the path, whose bottom rises with the distance to its end; the checkpoints
themselves lie a little lower than the plane. The null is that of a random walk.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

CHECKPOINTS, STEPS = 21, 1000


def null(count: int) -> list[float]:
    """Shares of the components of a random walk seen at that many equal distances."""
    values = 1 / (4 * np.sin(np.arange(1, count) * math.pi / (2 * count)) ** 2)
    return list(values / values.sum())


def shares(rank: int, count: int) -> list[float]:
    """Shares that add up to one: the more is left for the tail the higher the rank of the training."""
    first = 0.82 - 0.02 * rank
    rest = (1 - first) * 0.5 ** np.arange(1, count - 1)
    return [first, *(rest / rest.sum() * (1 - first))]


def bits(a: np.ndarray, b: np.ndarray, end: np.ndarray, rank: int) -> np.ndarray:
    """A valley: steep across, slowly rising with the distance to the end of the path."""
    across = b - end[1] + 0.12 * (a - end[0]) ** 2 * (1 if rank % 2 else -1)
    return 2.4 + 0.3 * rank + 0.5 * (a - end[0]) ** 2 + 2.0 * across**2


def landscape(rank: int, points: int) -> tuple[dict[str, Any], np.ndarray]:
    """(landscape.json, bits/dim on the grid) of the training with this number."""
    rng = np.random.default_rng(rank)
    time = np.linspace(0, 1, CHECKPOINTS)
    path = np.stack([4 * (1 - np.exp(-3 * time)) - 2.5, 1.2 * np.cos(math.pi * time * 1.3)], axis=1)
    path += 0.04 * rng.standard_normal(path.shape)
    path -= path.mean(0)
    end, reach = path[-1], 1.5 * np.ptp(path[:, 0])
    axes = [np.linspace(-reach / 2, reach / 2, points), np.linspace(-reach / 3, reach / 3, points)]
    grid = bits(*np.meshgrid(*axes), end, rank)
    plane = bits(*path.T, end, rank)
    own = plane * (0.97 - 0.1 * time)
    found = {
        "steps": [round(STEPS * item) for item in time], "weights": "ema", "split": "test", "images": 64,
        "draws_per_image": 9, "num_parameters": 181_234, "shares": shares(rank, CHECKPOINTS),
        "null": null(CHECKPOINTS), "null_averaged": [0.71, 0.13, *[0.16 / 18] * 18],
        "coordinates": path.tolist(), "axes": [list(axis) for axis in axes],
        "bits_per_dim": own.tolist(), "epsilon_mse": (own / 20).tolist(),
        "projected": {"bits_per_dim": plane.tolist(), "epsilon_mse": (plane / 20).tolist()},
    }  # fmt: skip
    return found, grid


def add(runs: Path, suite: str, points: int = 15, averaged: bool = True) -> dict[str, dict[str, Any]]:
    """Gives each training of seed 0 a landscape; place → landscape.json. averaged: whether its weights are averages."""
    file = runs / "suites" / suite / "results.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    made: dict[str, dict[str, Any]] = {}
    for cell in data["cells"]:
        if cell["seed"] or cell["status"] != "done":
            continue
        place = f"store/landscape/{cell['train_key']}"
        if place not in made:
            found, grid = landscape(len(made), points)
            if not averaged:
                found |= {"weights": "raw", "null_averaged": None}
            (runs / place).mkdir(parents=True, exist_ok=True)
            (runs / place / "landscape.json").write_text(json.dumps(found), encoding="utf-8")
            for name, values in (("bits_per_dim", grid), ("epsilon_mse", grid / 20)):
                np.save(runs / place / f"{name}.npy", values)
            made[place] = found
        found = made[place]
        cell["artifacts"]["landscape"] = place
        cell["landscape"] = {
            **{name: found[name] for name in ("steps", "weights", "split", "images", "draws_per_image")},
            "share": sum(found["shares"][:2]), "null": sum(found["null"][:2]),
            "null_averaged": sum(found["null_averaged"][:2]) if averaged else None,
            "network_calls": (points**2 + 2 * CHECKPOINTS) * 64 * 9,
        }  # fmt: skip
    file.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
    return made


if __name__ == "__main__":
    add(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
