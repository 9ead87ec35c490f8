"""What the network predicts."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import Entry


class Prediction(Entry, axis="predictions"):
    """A parametrisation: the training target, and x̂_0 from the network's output. Each is linear in the other."""

    native_weighting: ClassVar[str | None] = None
    """The weighting of |x_0 − x̂_0|² that the plain squared error of this prediction already has, where it has a name:
    the two are one loss and share a training."""

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, process: Process) -> Tensor:
        """What the network should output at x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε, [B, C, H, W]."""
        raise NotImplementedError

    def to_x_0(self, output: Tensor, x_t: Tensor, t: Tensor, process: Process) -> Tensor:
        """x̂_0 of the network's output, before thresholding, [B, C, H, W].

        t, process: those of the chain that the network was trained on, also where a respaced chain is walked: μ is the
        mean of one step of that chain, and the tables of another chain give another x̂_0.
        """
        raise NotImplementedError

    def x_0_error_factor(self, process: Process) -> Tensor:
        """|x_0 − x̂_0|² = factor_t · |target − output|²; float64 [T]."""
        raise NotImplementedError
