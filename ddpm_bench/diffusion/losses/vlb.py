"""The variational bound as a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ddpm_bench.diffusion.losses import Batch
from ddpm_bench.diffusion.losses._bound import BoundLoss, bound_term
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Vlb(BoundLoss):
    """L_vlb: T · L_{t−1} in bits/dim at the sampled t (t = 1 uses L_0; L_T has no parameters and is left out).

    Its mean over t is the whole bound. A variance head is trained with it where σ² has one. x̂_0 is never clipped here.

    Source: Ho et al. 2020, eq. 5; Nichol & Dhariwal 2021, eq. 4.
    """

    symbol: ClassVar[str | None] = "L_vlb"

    def per_image(self, output: Tensor, batch: Batch, process: Process, prediction: Prediction) -> Tensor:
        """T · L_{t−1} in bits/dim, [B]."""
        log_sigma2 = self.log_sigma2(output, batch, process)
        return len(process) * bound_term(output, batch, process, prediction, log_sigma2)
