"""The validation curve against the exact sums, on Gaussian data with the exact network."""

from __future__ import annotations

import math

import pytest
import torch

from ddpm_bench.datasets.gaussian import Gaussian
from ddpm_bench.diffusion.losses.simple import Simple
from ddpm_bench.diffusion.predictions.epsilon import Epsilon
from ddpm_bench.diffusion.schedules.linear import Linear
from ddpm_bench.networks.closed_form import ClosedForm
from ddpm_bench.spec import Training
from ddpm_bench.stages._model import build_network
from ddpm_bench.stages._validation import DRAWS_PER_IMAGE, Validation

OPTIONS = {"precision": "float32", "tf32": False}


def make(num_timesteps: int, num_images: int) -> tuple[Validation, torch.nn.Module]:
    training = Training(
        network=ClosedForm(), timesteps=num_timesteps, schedule=Linear(), prediction=Epsilon(), loss=Simple(),
        learned_variance=False, options=OPTIONS, seed=0,
    )  # fmt: skip
    x_0 = torch.randn(num_images, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    module = build_network(training, Gaussian(), (1, 8, 8), "cpu")
    return Validation(training, x_0, x_0, None, num_images, "cpu"), module


def exact(num_timesteps: int) -> tuple[float, float]:
    """(ε-MSE, bits/dim) of the optimal network for N(0, 1) with σ² = β̃, σ²_1 = β̃_2, from the formulas."""
    beta = [1e-4 * 1000 / num_timesteps + (0.02 - 1e-4) * 1000 / num_timesteps * i / (num_timesteps - 1)
            for i in range(num_timesteps)]  # fmt: skip
    alpha_bar, product = [1.0], 1.0
    for b in beta:
        product *= 1 - b
        alpha_bar.append(product)
    tilde = [(1 - alpha_bar[i]) / (1 - alpha_bar[i + 1]) * beta[i] for i in range(num_timesteps)]
    epsilon_mse = sum(alpha_bar[1:]) / num_timesteps  # ᾱ s²/V with V = 1
    nats = 0.5 * math.log(2 * math.pi * tilde[1]) + (1 - alpha_bar[1]) / (2 * tilde[1])
    for i in range(1, num_timesteps):
        c = math.sqrt(alpha_bar[i]) * beta[i] / (1 - alpha_bar[i + 1])
        nats += c * c * (1 - alpha_bar[i + 1]) / (2 * tilde[i])
    nats += 0.5 * (alpha_bar[-1] - alpha_bar[-1] - math.log(1 - alpha_bar[-1]))
    return epsilon_mse, nats / math.log(2)


@pytest.mark.parametrize("num_timesteps", [50, 1000])
def test_means_are_the_exact_ones(num_timesteps: int) -> None:
    validation, module = make(num_timesteps, 128)
    epsilon_mse, bits = validation.measure(module)
    want_epsilon_mse, want_bits = exact(num_timesteps)
    # 1024 draws of 64 dimensions over all t: each t has at least one draw, so a term's relative error is about
    # √(2/64) per draw; the terms that dominate the sum of 50 (t = 2, with 20 draws) give 3 %, those of 1000 (one draw
    # at each t, Σ w² over 1/t-like weights) 5 %. Four of those.
    assert epsilon_mse == pytest.approx(want_epsilon_mse, rel=0.05)
    assert bits == pytest.approx(want_bits, abs=0.2 * want_bits)


def test_every_t_is_drawn_equally_often() -> None:
    validation, _ = make(50, 128)
    counts = torch.bincount(validation._t[:, 1:].flatten(), minlength=50)
    assert counts[0] == 0
    assert counts[1:].sum() == 128 * DRAWS_PER_IMAGE
    assert int(counts[1:].max() - counts[1:].min()) <= 1
