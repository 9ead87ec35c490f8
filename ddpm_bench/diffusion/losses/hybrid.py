"""The simple loss for the mean and the variational bound for the variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ddpm_bench.diffusion.losses import Batch
from ddpm_bench.diffusion.losses._bound import BoundLoss, bound_term
from ddpm_bench.diffusion.losses.simple import Simple
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.errors import require
from ddpm_bench.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Hybrid(BoundLoss):
    """L_hybrid = L_simple + λ L_vlb, the mean of p_θ constant in the second term: it trains the variance head alone.

    L_vlb is T · L_{t−1} in bits/dim at the sampled t (t = 1 uses L_0), as the loss vlb has it. x̂_0 is never clipped.

    Source: Nichol & Dhariwal 2021, § 3.1, eq. 16.
    """

    symbol: ClassVar[str | None] = "L_hybrid"
    advised_variance: ClassVar[str] = "learned_range"

    vlb_weight: float = 0.001
    """λ, the weight of the bound."""

    def __post_init__(self) -> None:
        require(self.vlb_weight > 0, "vlb_weight", f"must be positive, got {self.vlb_weight}")

    def per_image(self, output: Tensor, batch: Batch, process: Process, prediction: Prediction) -> Tensor:
        """|target − output|²/D + λ T · L_{t−1} in bits/dim, [B]."""
        simple = Simple().per_image(output, batch, process, prediction)
        bound = bound_term(output.detach(), batch, process, prediction, self.log_sigma2(output, batch, process))
        return simple + self.vlb_weight * len(process) * bound

    def refuse(self, cell: Any) -> str | None:
        """A σ² without a head, beside what every loss with the bound refuses."""
        own = self.variance or cell.reverse.variance
        reason = super().refuse(cell)
        if reason is None and not own.needs_head:
            return (
                f"loss {self.name} with a fixed variance ({own.name}): the bound term trains nothing; use loss simple, "
                f'or write out a learned one, loss = {{ name = "{self.name}", variance = "{self.advised_variance}" }}'
            )
        return reason
