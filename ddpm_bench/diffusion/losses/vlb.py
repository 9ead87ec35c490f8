"""The variational bound as a loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddpm_bench.diffusion.gaussians import kl_mean_part, kl_variance_part
from ddpm_bench.diffusion.likelihood import bits_per_dim, decoder_nll
from ddpm_bench.diffusion.losses import Batch, Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.variances import FirstStep, Variance
from ddpm_bench.registry import register


def bound_term(output: Tensor, batch: Batch, process: Process, prediction: Prediction, log_sigma2: Tensor) -> Tensor:
    """L_{t−1} of each image in bits/dim, [B]: the divergence of the posteriors, at the first step the decoder's L_0.

    log_sigma2: ln σ²_t, [B]. x̂_0 is not clipped. Source: Ho et al. 2020, eq. 5 and 8; Nichol & Dhariwal 2021, § 3.3.
    """
    num_dims = batch.x_0[0].numel()
    t, dtype = batch.t, batch.x_0.dtype
    # A network under autocast may return bfloat16, in which neither the logarithms nor the decoder mean anything.
    pred_x_0 = prediction.to_x_0(output[:, : batch.x_0.shape[1]].to(dtype), batch.x_t, t, process)
    # β̃ is 0 at the first step, whose divergence is not used; any number keeps its gradient finite.
    log_beta_tilde = torch.log(torch.where(process.beta_tilde > 0, process.beta_tilde, process.beta)).to(t.device)[t]
    distance = (batch.x_0 - pred_x_0).square().flatten(1).sum(1)
    scale = (process.posterior_x_0**2).to(t.device)[t]
    mean_part = kl_mean_part(distance, (log_sigma2 - torch.log(scale)).to(dtype))
    divergence = num_dims * kl_variance_part(log_beta_tilde, log_sigma2).to(dtype) + mean_part
    decoder = decoder_nll(batch.target, pred_x_0, log_sigma2.to(dtype).reshape(-1, 1, 1, 1), batch.levels)
    return bits_per_dim(torch.where(t == 0, decoder, divergence), num_dims)


@register
@dataclass(frozen=True, kw_only=True)
class Vlb(Loss):
    """L_vlb: T · L_{t−1} in bits/dim for t drawn uniformly (t = 1 uses L_0; L_T has no parameters and is left out).

    Its expectation over t is the whole bound. x̂_0 is never clipped here.

    Source: Ho et al. 2020, eq. 5; Nichol & Dhariwal 2021, eq. 4.
    """

    symbol: ClassVar[str | None] = "L_vlb"

    variance: Variance | None = None
    """σ² of the bound; left out: the cell's own. Written out, it is trained with this and evaluated with the cell's."""
    first_step: FirstStep | None = None
    """The rule for σ²_1, bound together with the variance."""

    def per_image(self, output: Tensor, batch: Batch, process: Process, prediction: Prediction) -> Tensor:
        """T · L_{t−1} in bits/dim, [B]."""
        assert self.variance is not None, "spec.bind sets it"
        assert self.first_step is not None, "spec.bind sets it"
        log_sigma2 = self.variance.log_sigma2(process, batch.t, first_step=self.first_step)
        return len(process) * bound_term(output, batch, process, prediction, log_sigma2)

    def canonical(self, prediction: Prediction) -> Loss:
        """With the first-step rule written out."""
        return replace(self, first_step=self.first_step or "beta_tilde_2")

    def refuse(self, cell: Any) -> str | None:
        """A σ² that is known only after the training."""
        own = self.variance or cell.reverse.variance
        if own.needs_fit:
            return (
                f"loss vlb with variance {own.name}: it is fitted after the training; write out what to train with, "
                'loss = { name = "vlb", variance = "beta" }'
            )
        return None
