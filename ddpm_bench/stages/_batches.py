"""The batches of a training, as a function of (seed, step)."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_bench.randomness import Stream
from ddpm_bench.stages._model import scale_to_network


class Batches:
    """The batch of every step, as a function of (seed, step): shuffled epochs, keyed flips, what t is made of, ε."""

    def __init__(self, seed: int, values: Tensor, levels: int | None, batch_size: int, flips: bool):
        self._values, self._levels, self._flips, self._size = values, levels, flips, batch_size
        self._streams = {name: Stream(seed, f"train {name}") for name in ("order", "flip", "t", "eps")}
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def _images(self, step: int) -> Tensor:
        """Indices of the images of a step, int64 [B]: each epoch is a permutation of its own."""
        positions = torch.arange(step * self._size, (step + 1) * self._size)
        total = len(self._values)
        chosen = torch.empty_like(positions)
        for epoch in range(int(positions[0]) // total, int(positions[-1]) // total + 1):
            if self._order[0] != epoch:
                keys = self._streams["order"].uniform(epoch, torch.arange(total))[:, 0]
                self._order = (epoch, torch.argsort(keys, stable=True))
            here = positions // total == epoch
            chosen[here] = self._order[1][positions[here] % total]
        return chosen

    def draw(self, step: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(values, x_0, u, ε) of the step (counted from 0) on the device.

        u: uniform numbers in (0, 1), float64 [B]: a time sampler makes t of them.
        """
        values = self._values[self._images(step).to(self._values.device)].to(device)
        index = torch.arange(self._size, device=device)
        if self._flips:
            flipped = self._streams["flip"].uniform(step, index)[:, 0] < 0.5
            values = torch.where(flipped.reshape(-1, 1, 1, 1), values.flip(-1), values)
        unit = self._streams["t"].uniform(step, index)[:, 0]
        eps = self._streams["eps"].normal(step, index, values.shape[1:])
        return values, scale_to_network(values, self._levels), unit, eps
