"""The forward process: q(x_t | x_0) and q(x_{t−1} | x_t, x_0), as float64 tables and their use on images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

MIN_ALPHA_BAR = 1e-30
"""Below this 1/√ᾱ_T overflows in float32 arithmetic, and nothing of x_0 is left in x_T by any measure."""


def extract(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """table[t] as [B, 1, 1, 1] in the dtype and on the device of `like`, so that it multiplies images.

    table: float64 [T]; t: int64 [B]; like: [B, C, H, W].
    """
    values = table.to(like.dtype).to(like.device)[t.to(like.device)]
    return values.reshape(-1, *([1] * (like.dim() - 1)))


@dataclass(frozen=True)
class Process:
    """The tables of one chain; index i of a table is the chain's step t = i + 1.

    q(x_t | x_{t−1}) = N(√α_t x_{t−1}, β_t I), hence q(x_t | x_0) = N(√ᾱ_t x_0, (1−ᾱ_t) I) and q(x_{t−1} | x_t, x_0) =
    N(μ̃_t(x_t, x_0), β̃_t I).

    beta: float64 [S], each in (0, 1). log_alpha_bar: ln ᾱ_t, float64 [S]; it is held beside β because a few steps over
    a long chain have β so near 1 that 1 − β has lost its digits (1e-7 relative, cosine with T = 4000). timesteps:
    int64 [S], the 1-based t that each step has in the original chain of `num_original` steps; they differ from 1…S in
    a respaced chain, whose network still sees the original t.

    Source: Ho et al. 2020, Denoising Diffusion Probabilistic Models, eq. 2, 4, 6 and 7.
    """

    beta: Tensor
    log_alpha_bar: Tensor
    timesteps: Tensor
    num_original: int

    @staticmethod
    def from_betas(beta: Tensor) -> Process:
        """The full chain of a schedule. Raises ValueError unless 0 < β_t < 1 throughout."""
        if beta.dtype != torch.float64 or beta.dim() != 1 or not len(beta):
            raise ValueError(f"betas must be float64 of shape [T], got {beta.dtype} {tuple(beta.shape)}")
        bad = ~((beta > 0) & (beta < 1))
        if bad.any():
            i = int(bad.nonzero()[0])
            raise ValueError(f"beta must lie between 0 and 1, but beta_{i + 1} = {float(beta[i]):.6g}")
        if float(torch.log1p(-beta).sum()) < math.log(MIN_ALPHA_BAR):
            raise ValueError(f"alpha_bar_T falls below {MIN_ALPHA_BAR:g}: fewer timesteps or smaller betas are needed")
        return Process(beta, torch.cumsum(torch.log1p(-beta), dim=0), torch.arange(1, len(beta) + 1), len(beta))

    def __len__(self) -> int:
        return len(self.beta)

    @cached_property
    def alpha_bar(self) -> Tensor:
        """ᾱ_t, float64 [S]."""
        return torch.exp(self.log_alpha_bar)

    @cached_property
    def alpha_bar_prev(self) -> Tensor:
        """ᾱ_{t−1}, float64 [S]; 1 at the first step."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])

    @cached_property
    def one_minus_alpha_bar(self) -> Tensor:
        """1 − ᾱ_t, float64 [S], without cancellation at small t."""
        return -torch.expm1(self.log_alpha_bar)

    @cached_property
    def one_minus_alpha_bar_prev(self) -> Tensor:
        """1 − ᾱ_{t−1}, float64 [S], without cancellation; 0 at the first step."""
        return torch.cat([torch.zeros(1, dtype=torch.float64), self.one_minus_alpha_bar[:-1]])

    @cached_property
    def beta_tilde(self) -> Tensor:
        """β̃_t = (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · β_t, float64 [S]; 0 at the first step. Source: Ho et al. 2020, eq. 7."""
        return self.one_minus_alpha_bar_prev / self.one_minus_alpha_bar * self.beta

    @cached_property
    def snr(self) -> Tensor:
        """SNR_t = ᾱ_t / (1 − ᾱ_t), float64 [S]. Source: Kingma et al. 2021, Variational diffusion models, § 3.1."""
        return self.alpha_bar / self.one_minus_alpha_bar

    @cached_property
    def posterior_x_0(self) -> Tensor:
        """c_t = √ᾱ_{t−1} β_t / (1 − ᾱ_t), float64 [S]; 1 at the first step. Source: Ho et al. 2020, eq. 7."""
        return self.alpha_bar_prev.sqrt() * self.beta / self.one_minus_alpha_bar

    @cached_property
    def posterior_x_t(self) -> Tensor:
        """√α_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t), float64 [S]; 0 at the first step. Source: Ho et al. 2020, eq. 7."""
        sqrt_alpha = torch.exp(0.5 * torch.diff(self.log_alpha_bar, prepend=torch.zeros(1, dtype=torch.float64)))
        return sqrt_alpha * self.one_minus_alpha_bar_prev / self.one_minus_alpha_bar

    def to(self, device: str | torch.device) -> Process:
        """The same tables on a device, all of them made on the host first, where float64 is exact and cheap."""
        beta, log_alpha_bar, timesteps = (x.to(device) for x in (self.beta, self.log_alpha_bar, self.timesteps))
        moved = Process(beta, log_alpha_bar, timesteps, self.num_original)
        for name in (name for name, value in vars(Process).items() if isinstance(value, cached_property)):
            vars(moved)[name] = getattr(self, name).to(device)
        return moved

    def original_index(self, t: Tensor) -> Tensor:
        """The index that the network expects for the chain's index t: that of the original chain. int64 [B]."""
        return self.timesteps.to(t.device)[t] - 1

    def q_sample(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε, a draw from q(x_t | x_0). Source: Ho et al. 2020, eq. 4."""
        signal, noise = extract(self.alpha_bar.sqrt(), t, x_0), extract(self.one_minus_alpha_bar.sqrt(), t, x_0)
        return signal * x_0 + noise * eps

    def q_posterior_mean(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """μ̃_t(x_t, x_0) = c_t x_0 + √α_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) x_t, the mean of q(x_{t−1} | x_t, x_0), [B, C, H, W].

        Source: Ho et al. 2020, eq. 7.
        """
        return extract(self.posterior_x_0, t, x_0) * x_0 + extract(self.posterior_x_t, t, x_t) * x_t

    def eps_from_x_0(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """ε = (x_t − √ᾱ_t x_0) / √(1−ᾱ_t): the noise that leads from x_0 to x_t, [B, C, H, W].

        Source: Ho et al. 2020, eq. 4, solved for ε.
        """
        signal, noise = extract(self.alpha_bar.sqrt(), t, x_0), extract(self.one_minus_alpha_bar.sqrt(), t, x_0)
        return (x_t - signal * x_0) / noise
