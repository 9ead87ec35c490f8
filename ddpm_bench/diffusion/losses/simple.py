"""The simple loss."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor

from ddpm_bench.diffusion.losses import Batch, Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process, extract
from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.diffusion.weightings.none import NoWeighting
from ddpm_bench.registry import register

MAX_OUTPUT_FACTOR = 1e6
"""A weighting may scale the error of the output by no more than this: beyond it float32 training is noise."""


@register
@dataclass(frozen=True, kw_only=True)
class Simple(Loss):
    """L_simple: the squared error of the predicted quantity, mean over dimensions.

    A weighting w turns it into w(SNR_t) |x_0 − x̂_0|²/D, computed as w · factor_t · |target − output|²/D with the
    prediction's own factor |x_0 − x̂_0|² = factor_t |target − output|². x̂_0 is never clipped here.

    Source: Ho et al. 2020, eq. 14; Salimans & Ho 2022, § 4 (weightings).
    """

    symbol: ClassVar[str | None] = "L_simple"

    weighting: Weighting = field(default_factory=NoWeighting)
    """The weight on |x_0 − x̂_0|²/D; none: the plain error of what is predicted."""

    def output_factor(self, process: Process, prediction: Prediction) -> Tensor | None:
        """w(SNR_t) · factor_t, float64 [T]; None for the plain error."""
        weight = self.weighting.weight(process.snr)
        return None if weight is None else weight * prediction.x_0_error_factor(process)

    def per_image(self, output: Tensor, batch: Batch, process: Process, prediction: Prediction) -> Tensor:
        """w · factor_t · |target − output|²/D, [B]."""
        target = prediction.target(batch.x_0, batch.eps, batch.t, process)
        error = (target - output[:, : target.shape[1]]).square()
        factor = self.output_factor(process, prediction)
        if factor is not None:
            error = error * extract(factor, batch.t, error)
        return error.flatten(1).mean(1)

    def canonical(self, prediction: Prediction) -> Loss:
        """With the weighting's canonical form; without one where it is what the prediction has by nature."""
        weighting = self.weighting.canonical()
        native = weighting.name == prediction.native_weighting and not weighting.parameters()
        return replace(self, weighting=NoWeighting() if native else weighting)

    def refuse(self, cell: Any) -> str | None:
        """A learned variance, which this loss does not train; a weighting that scales the error beyond measure."""
        if cell.reverse.variance.needs_head:
            return f"loss simple with variance {cell.reverse.variance.name}: nothing trains the variance head"
        try:
            process = cell.diffusion.schedule.process(cell.diffusion.timesteps)
        except ValueError:
            return None  # the schedule refuses the cell itself
        factor = self.output_factor(process, cell.diffusion.prediction)
        if factor is not None and float(factor.max()) > MAX_OUTPUT_FACTOR:
            return (
                f"weighting {self.weighting.name} multiplies the squared error of the predicted "
                f"{cell.diffusion.prediction.name} by {float(factor.max()):.3g} at t = {int(factor.argmax()) + 1} "
                f"(more than {MAX_OUTPUT_FACTOR:g})"
            )
        return None
