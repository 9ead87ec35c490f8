"""The variational bound as part of a loss: its term at t, and what losses that use it share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddpm_bench.diffusion.gaussians import kl_mean_part, kl_variance_part
from ddpm_bench.diffusion.likelihood import bits_per_dim, decoder_nll
from ddpm_bench.diffusion.losses import Batch, Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.reverse import split_head
from ddpm_bench.diffusion.time_sampling import TimeSampling
from ddpm_bench.diffusion.variances import FirstStep, Variance


def bound_term(output: Tensor, batch: Batch, process: Process, prediction: Prediction, log_sigma2: Tensor) -> Tensor:
    """L_{t−1} of each image in bits/dim, [B]: the divergence of the posteriors, at the first step the decoder's L_0.

    output: [B, C or 2C, H, W], a variance head is not looked at; log_sigma2: ln σ²_t, [B], or per coordinate
    [B, C, H, W]. x̂_0 is not clipped. Source: Ho et al. 2020, eq. 5 and 8; Nichol & Dhariwal 2021, eq. 4 to 7.
    """
    num_dims = batch.x_0[0].numel()
    t, dtype = batch.t, batch.x_0.dtype
    # A network under autocast may return bfloat16, in which neither the logarithms nor the decoder mean anything.
    pred_x_0 = prediction.to_x_0(output[:, : batch.x_0.shape[1]].to(dtype), batch.x_t, t, process)
    # β̃ is 0 at the first step, whose divergence is not used; any number keeps its gradient finite.
    log_beta_tilde = torch.log(torch.where(process.beta_tilde > 0, process.beta_tilde, process.beta)).to(t.device)[t]
    log_scale = torch.log((process.posterior_x_0**2).to(t.device)[t])
    squared_error = (batch.x_0 - pred_x_0).square()
    if log_sigma2.dim() == 1:  # one σ² for all coordinates: their errors are summed first
        variance_part = num_dims * kl_variance_part(log_beta_tilde, log_sigma2).to(dtype)
        mean_part = kl_mean_part(squared_error.flatten(1).sum(1), (log_sigma2 - log_scale).to(dtype))
        log_sigma2 = log_sigma2.reshape(-1, 1, 1, 1)
    else:
        log_beta_tilde, log_scale = log_beta_tilde.reshape(-1, 1, 1, 1), log_scale.reshape(-1, 1, 1, 1)
        variance_part = kl_variance_part(log_beta_tilde, log_sigma2).to(dtype).flatten(1).sum(1)
        mean_part = kl_mean_part(squared_error, (log_sigma2 - log_scale).to(dtype)).flatten(1).sum(1)
    decoder = decoder_nll(batch.target, pred_x_0, log_sigma2.to(dtype), batch.levels)
    return bits_per_dim(torch.where(t == 0, decoder, variance_part + mean_part), num_dims)


@dataclass(frozen=True, kw_only=True)
class BoundLoss(Loss):
    """A loss with the bound's terms in it: its σ², the rule for σ²_1, and how t is drawn.

    Source: Nichol & Dhariwal 2021, § 3.1 and 3.3.
    """

    variance: Variance | None = None
    """σ² of the bound; left out: the cell's own. Written out, it is trained with this and evaluated with the cell's."""
    first_step: FirstStep | None = None
    """The rule for σ²_1, bound together with the variance."""
    time_sampling: TimeSampling = field(default="uniform", metadata={"omit_at": "uniform"})
    """How training draws t; loss_second_moment: the larger the loss at a t, the oftener, with weights that undo it."""

    advised_variance: ClassVar[str] = "beta"
    """The variance that advice writes out."""

    def log_sigma2(self, output: Tensor, batch: Batch, process: Process) -> Tensor:
        """ln σ²_t of the bound, float64 [B], or [B, C, H, W] where the head of the output decides it."""
        assert self.variance is not None, "spec.bind sets it"
        assert self.first_step is not None, "spec.bind sets it"
        _, head = split_head(output, batch.x_0.shape[1])
        return self.variance.log_sigma2(process, batch.t, head=head, first_step=self.first_step)

    def canonical(self, prediction: Prediction) -> Loss:
        """With the first-step rule written out, and in one way where σ² does not use it."""
        unused = self.variance is not None and not self.variance.uses_first_step
        return replace(self, first_step="beta_tilde_2" if unused else self.first_step or "beta_tilde_2")

    def refuse(self, cell: Any) -> str | None:
        """A σ² that is known only after the training; a variance head that is not trained, or as something else."""
        evaluated = cell.reverse.variance
        own = self.variance or evaluated
        if own.needs_fit:
            return (
                f"loss {self.name} with variance {own.name}: it is fitted after the training; write out what to train "
                f'with, loss = {{ name = "{self.name}", variance = "{self.advised_variance}" }}'
            )
        if evaluated.needs_head and not own.needs_head:
            return (
                f"loss {self.name} with variance {own.name}, evaluated with variance {evaluated.name}: nothing trains "
                "the variance head"
            )
        if evaluated.needs_head and own != evaluated:
            return (
                f"loss {self.name} trains the variance head as {own.name}, and variance {evaluated.name} would read it "
                "otherwise; leave out the variance of the loss"
            )
        return None
