"""Paired differences: two variants on the same images and, where they share a seed, the same noise.

What both pay alike (hard images, loud noise) cancels, so a difference is known far better than either value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_bench.errors import UserError
from ddpm_bench.protocols import require_equal
from ddpm_bench.store import Artifact

if TYPE_CHECKING:
    import numpy as np

Cell = tuple[Path, Mapping[str, Any]]
"""(runs, the cell's record in results.json)."""
QUANTILE = 1.959963984540054
"""97.5 % quantile of the standard normal distribution: intervals are means over many images."""


@dataclass(frozen=True)
class PairedDifference:
    """first − second in bits/dim.

    stderr: over the images as a sample of a population; stderr_noise: over the noise of the evaluation, the images held
    fixed, None where it is unknown or the two have other noise (another seed, another chain); the interval is that
    of the images, 95 %.
    """

    first: str
    second: str
    split: str
    value: float
    stderr: float
    stderr_noise: float | None
    num_images: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval over images."""
        half = QUANTILE * self.stderr
        return self.value - half, self.value + half


def paired_difference(first: Cell, second: Cell, split: str = "test") -> PairedDifference:
    """The difference of the bits/dim of two cells, image by image.

    Raises UserError when one has no likelihood of the split, or they were not evaluated on the same images under the
    same protocol.
    """
    import numpy as np

    bounds = [_bound(runs, cell, split) for runs, cell in (first, second)]
    cells = [cell for _, cell in (first, second)]
    one, other = (cell["id"] for cell in cells)
    chains = [(cell["axes"]["timesteps"], bound["timesteps"]) for cell, bound in zip(cells, bounds, strict=True)]
    if not np.array_equal(bounds[0]["indices"], bounds[1]["indices"]):
        raise UserError(f"cells {one} and {other} were evaluated on different images of the {split} split")
    require_equal(f"bits/dim ({split})", [(one, bounds[0]["protocol"]), (other, bounds[1]["protocol"])])
    difference = bounds[0]["per_image"].sum(1) - bounds[1]["per_image"].sum(1)
    contrast = bounds[0]["noise"] - bounds[1]["noise"]
    count = len(difference)
    if count < 2:
        raise UserError(f"the {split} split of cells {one} and {other} has one image: no error can be given")
    noise = float(np.sqrt((contrast**2).sum())) / count
    same_noise = cells[0]["seed"] == cells[1]["seed"] and chains[0] == chains[1] and math.isfinite(noise)
    return PairedDifference(
        first=one,
        second=other,
        split=split,
        value=float(difference.mean()),
        stderr=float(difference.std(ddof=1)) / math.sqrt(count),
        stderr_noise=noise if same_noise else None,
        num_images=count,
    )


def per_image(runs: Path, cell: Mapping[str, Any], metric: str) -> np.ndarray | None:
    """bits/dim of each image [N] of a cell's record, where `metric` is the bits/dim of a split and the store has it."""
    import numpy as np

    split = "test" if metric == "bits_per_dim" else metric.removeprefix("bits_per_dim_")
    place = (cell["artifacts"].get("likelihood") or {}).get(split)
    if place is None or not (runs / place / "per_image.npy").is_file():
        return None
    total: np.ndarray = np.load(runs / place / "per_image.npy").sum(1)
    return total


def _bound(runs: Path, cell: Mapping[str, Any], split: str) -> dict[str, Any]:
    import numpy as np

    place = (cell["artifacts"].get("likelihood") or {}).get(split)
    if place is None:
        raise UserError(f"cell {cell['id']} has no likelihood of the {split} split (status {cell['status']})")
    artifact = Artifact(runs / place)
    arrays = {name: np.load(artifact.path / f"{name}.npy") for name in ("indices", "per_image", "noise")}
    estimates = json.loads((artifact.path / "estimates.json").read_text(encoding="utf-8"))
    protocol = {**estimates[""]["protocol"], "data": artifact.manifest["inputs"]["data"][1]}
    return {**arrays, "timesteps": artifact.spec["reverse"]["timesteps"], "protocol": protocol}
