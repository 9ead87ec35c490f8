"""Weightings of the simple loss."""

from __future__ import annotations

from torch import Tensor

from ddpm_bench.registry import Entry


class Weighting(Entry, axis="weightings"):
    """A weight w(SNR_t) on |x_0 − x̂_0|²/D, whatever the network predicts."""

    def weight(self, snr: Tensor) -> Tensor | None:
        """w(SNR_t) of the shape of snr (float64), or None: no weight at all, the plain error of what is predicted."""
        raise NotImplementedError

    def canonical(self) -> Weighting:
        """The weighting that stands for all that are equal to this one at every SNR: its loss enters the key."""
        return self
