"""The variance that fits the network's errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.reverse import BOUND_THRESHOLDINGS
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.registry import register

FIRST_STEP_BOUNDS = (math.log(1e-12), math.log(4.0))
"""ln σ²_1 is sought here: from far below a grey level of 8-bit data to the width of the range of data with levels, and
to more where errors are larger than that."""
SLACK = 1e-5
"""Where σ²_1 → 0 is best on the fit split, L_0 may be worse than that by this part of what it is at the upper bound."""


@register
@dataclass(frozen=True, kw_only=True)
class Optimal(Variance):
    """σ²_t = β̃_t + c_t² m_t with m_t = E|x_0 − x̂_0|²/D: the isotropic variance that minimises the bound.

    The expectation is over the fit split (validation) and the noise, with x̂_0 as the cell uses it (clipped or not), and
    again for each chain. σ²_1 minimises the mean L_0 there. No training is involved, and no further network call. Where
    every x̂_0 of the fit split lies in the right bin, σ²_1 → 0 would be best there and fatal at the first other image
    that misses: then it is the largest one with hardly more than that (see SLACK).

    Source: Bao et al. 2022, Analytic-DPM, theorem 1 (there for the optimal network, through its score); for any
    network it is the minimum over σ² of Ho et al. 2020, eq. 5 with eq. 7, averaged.
    """

    symbol: ClassVar[str | None] = "σ²=optimal"
    needs_fit: ClassVar[bool] = True
    uses_first_step: ClassVar[bool] = False

    def log_sigma2(
        self,
        process: Process,
        t: Tensor,
        head: Tensor | None = None,
        fit: Tensor | None = None,
        first_step: str = "beta_tilde_2",
    ) -> Tensor:
        """ln σ²_t of the fit, float64 [B]."""
        assert fit is not None, "the plan puts the fit first"
        return fit.to(t.device)[t]

    def refuse(self, cell: Any) -> str | None:
        """A thresholding whose errors are not scored."""
        if cell.thresholding in BOUND_THRESHOLDINGS:
            return None
        return (
            f'variance optimal with thresholding "{cell.thresholding}": σ² is fitted to the errors of x̂_0 in the '
            f"bound, which knows {' and '.join(BOUND_THRESHOLDINGS)}; use one of these"
        )

    def fit(self, process: Process, mse: Tensor, mean_l_0: Callable[[float], float]) -> Tensor:
        """ln (β̃_t + c_t² m_t), at the first step the ln σ²_1 of the smallest mean L_0; float64 [S]."""
        log_sigma2 = torch.log(process.beta_tilde + process.posterior_x_0**2 * mse.to(torch.float64))
        low, high = FIRST_STEP_BOUNDS
        log_sigma2[0] = smallest(mean_l_0, low, max(high, math.log(4.0) + float(log_sigma2[0])))
        return log_sigma2


def smallest(function: Callable[[float], float], low: float, high: float, points: int = 32) -> float:
    """Where a function of one variable is smallest: the best of a grid, then Brent's method between its neighbours.

    If it is smallest at the lower end, the largest x where it is not above that by SLACK of its rise to the upper end.
    Source: Brent 1973, Algorithms for Minimization without Derivatives, chapter 5; scipy computes it.
    """
    grid = [low + (high - low) * i / (points - 1) for i in range(points)]
    values = [function(x) for x in grid]
    best = min(range(points), key=values.__getitem__)
    bound = values[best] + SLACK * (values[-1] - values[best])
    if values[0] > bound:
        bounds = (grid[best - 1], grid[min(points - 1, best + 1)])
        return float(minimize_scalar(function, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)
    below = max(i for i in range(points - 1) if values[i] <= bound)
    inside, outside = grid[below], grid[below + 1]
    for _ in range(40):
        middle = 0.5 * (inside + outside)
        inside, outside = (middle, outside) if function(middle) <= bound else (inside, middle)
    return inside
