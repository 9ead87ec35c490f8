"""Networks: what is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import Entry

if TYPE_CHECKING:
    from torch import nn

    from ddpm_bench.datasets import Dataset


@dataclass(frozen=True)
class Problem:
    """What a network is built for.

    shape: (C, H, W) of an image; levels: its grey levels or None; outputs: channels of the output (C, or 2C with a
    variance head); process and prediction: the chain (full) and what to predict; dataset: the entry of the data.
    """

    shape: tuple[int, int, int]
    levels: int | None
    outputs: int
    process: Process
    prediction: Prediction
    dataset: Dataset


class Network(Entry, axis="networks"):
    """The configuration of a network; the module it builds has forward(x_t [B, C, H, W], t int64 [B]) → output."""

    def build(self, problem: Problem) -> nn.Module:
        """A fresh module; initial weights come from torch's global generator, which the caller seeds.

        forward(x_t, t): t is the 0-based index in the original chain. Raises ValueError for a shape it cannot take.
        """
        raise NotImplementedError

    def refuse(self, cell: Any) -> str | None:
        """Why the network cannot serve the cell, or None."""
        return None
