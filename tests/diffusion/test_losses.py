"""The training losses."""

from __future__ import annotations

import math

import pytest
import torch

from ddpm_bench.diffusion.losses import Batch
from ddpm_bench.diffusion.losses.vlb import bound_term
from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import get, names
from tests import oracles

PREDICTIONS = ("epsilon", "mu", "v", "x0")


def batch_of(
    process: Process, levels: int | None, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (2, 3, 3)
) -> Batch:
    """One image at every t of the chain."""
    generator = torch.Generator().manual_seed(0)
    num_timesteps = len(process)
    if levels is None:
        target = x_0 = torch.randn(num_timesteps, *shape, dtype=dtype, generator=generator)
    else:
        target = torch.randint(levels, (num_timesteps, *shape), generator=generator)
        x_0 = (2 * target.to(dtype) - (levels - 1)) / (levels - 1)
    eps = torch.randn(num_timesteps, *shape, dtype=dtype, generator=generator)
    t = torch.arange(num_timesteps)
    return Batch(x_0, eps, process.q_sample(x_0, t, eps), t, target, levels)


def outputs(batch: Batch, process: Process, prediction, scale: float, channels: int = 2) -> torch.Tensor:
    """The target and an error of the given size; further channels are a variance head."""
    generator = torch.Generator().manual_seed(1)
    target = prediction.target(batch.x_0, batch.eps, batch.t, process)
    shape = (len(target), channels, *target.shape[2:])
    output = scale * torch.randn(shape, dtype=target.dtype, generator=generator)
    output[:, : target.shape[1]] += target
    return output


def vlb(variance: str, first_step: str = "beta_tilde_2"):
    return get("losses", "vlb")(variance=get("variances", variance)(), first_step=first_step)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_simple_is_the_mean_squared_error_of_what_is_predicted(name):
    process, prediction = get("schedules", "cosine")().process(10), get("predictions", name)()
    batch = batch_of(process, 256)
    target = prediction.target(batch.x_0, batch.eps, batch.t, process)
    for channels in (2, 4):  # a variance head is ignored
        output = outputs(batch, process, prediction, 0.3, channels)
        expected = ((target - output[:, :2]) ** 2).numpy().reshape(10, -1).mean(1)
        loss = get("losses", "simple")().per_image(output, batch, process, prediction)
        assert loss.tolist() == pytest.approx(expected.tolist(), rel=1e-12)
    zero = get("losses", "simple")().per_image(target, batch, process, prediction)
    assert zero.tolist() == [0.0] * 10


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize(("weighting", "weight"), [("snr", lambda snr: snr)])
def test_a_weighting_is_on_the_error_of_x_0(name, weighting, weight):
    process, prediction = get("schedules", "linear")().process(100), get("predictions", name)()
    batch = batch_of(process, 256)
    output = outputs(batch, process, prediction, 0.3)
    chain = oracles.chain(process.beta.tolist())
    pred_x_0 = prediction.to_x_0(output, batch.x_t, batch.t, process)
    error = (batch.x_0 - pred_x_0).square().flatten(1).mean(1).tolist()
    expected = [weight(snr) * e for snr, e in zip(chain.snr, error, strict=True)]
    loss = get("losses", "simple")(weighting=get("weightings", weighting)())
    # The error of x̂_0 itself is rounded: |x_0| 1e-16 against errors of 1e-2 and more.
    assert loss.per_image(output, batch, process, prediction).tolist() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("num_timesteps", [100, 1000, 4000])
def test_snr_is_none_for_epsilon_bit_for_bit(schedule, num_timesteps):
    """SNR · (1/SNR) is 1 within a rounding of float64 and exactly 1 in float32: one training serves both names."""
    process, prediction = get("schedules", schedule)().process(num_timesteps), get("predictions", "epsilon")()
    batch = batch_of(process, 256, torch.float32)
    output = outputs(batch, process, prediction, 0.3).requires_grad_()
    plain = get("losses", "simple")()
    weighted = get("losses", "simple")(weighting=get("weightings", "snr")())
    results = []
    for loss in (plain, weighted):
        values = loss.per_image(output, batch, process, prediction)
        results.append((values, *torch.autograd.grad(values.sum(), output)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_canonical_losses():
    simple, snr = get("losses", "simple"), get("weightings", "snr")()
    plain = simple()
    assert simple(weighting=snr).canonical(get("predictions", "epsilon")()) == plain
    for name in ("v", "x0", "mu"):
        assert simple(weighting=snr).canonical(get("predictions", name)()) == simple(weighting=snr)
        assert plain.canonical(get("predictions", name)()) == plain
    beta = get("variances", "beta")()
    bare = get("losses", "vlb")(variance=beta)
    assert bare.canonical(get("predictions", "v")()) == vlb("beta", "beta_tilde_2")
    assert vlb("beta", "beta_1").canonical(get("predictions", "v")()) == vlb("beta", "beta_1")


def written_again(batch: Batch, estimate: torch.Tensor, process: Process, sigma2: list[float]) -> list[float]:
    """L_{t−1} in bits/dim of each image, coordinate by coordinate: the posteriors by the product rule."""
    chain = oracles.chain(process.beta.tolist())
    terms = []
    for i in range(len(process)):
        pairs = list(zip(batch.x_0[i].flatten().tolist(), estimate[i].flatten().tolist(), strict=True))
        if i == 0 and batch.levels is not None:
            levels = batch.target[0].flatten().tolist()
            nats = -math.fsum(
                oracles.log_bin_probability(level, mean, sigma2[0], batch.levels)
                for level, (_, mean) in zip(levels, pairs, strict=True)
            )
        elif i == 0:
            nats = math.fsum(
                0.5 * math.log(2 * math.pi * sigma2[0]) + (x - mean) ** 2 / (2 * sigma2[0]) for x, mean in pairs
            )
        else:
            q, c = chain.posterior_variance[i], chain.posterior_x_0[i]
            nats = math.fsum(
                0.5 * (q / sigma2[i] - 1 - math.log(q / sigma2[i]) + (c * (x - mean)) ** 2 / sigma2[i])
                for x, mean in pairs
            )
        terms.append(nats / len(pairs) / math.log(2))
    return terms


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("first_step", ["beta_tilde_2", "beta_1"])
@pytest.mark.parametrize("levels", [256, 17, None])
@pytest.mark.parametrize("num_timesteps", [1, 2, 12])
def test_vlb_is_t_times_the_term_and_its_mean_over_t_the_bound(name, variance, first_step, levels, num_timesteps):
    """The mean over t = 1 … T is the bound without L_T; at t = 1 it is the decoder, the density without levels."""
    process, prediction = get("schedules", "cosine")().process(num_timesteps), get("predictions", name)()
    batch = batch_of(process, levels)
    # Errors of 1 and more: a clipped x̂_0 would show.
    output = outputs(batch, process, prediction, 1.0)
    estimate = prediction.to_x_0(output, batch.x_t, batch.t, process)
    assert float(estimate.abs().max()) > 1.2
    chain = oracles.chain(process.beta.tolist())
    first = chain.posterior_variance[1] if first_step == "beta_tilde_2" and num_timesteps > 1 else chain.beta[0]
    sigma2 = [first, *(chain.beta if variance == "beta" else chain.posterior_variance)[1:]]
    expected = written_again(batch, estimate, process, sigma2)
    loss = vlb(variance, first_step).per_image(output, batch, process, prediction)
    assert loss.tolist() == pytest.approx([num_timesteps * term for term in expected], rel=1e-9, abs=1e-12)
    assert float(loss.mean()) == pytest.approx(math.fsum(expected), rel=1e-9)


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize(("schedule", "num_timesteps"), [("linear", 1000), ("cosine", 1000), ("cosine", 4000)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("levels", [256, 17, None])
def test_vlb_has_finite_gradients_however_wrong_the_network(name, schedule, num_timesteps, scale, levels):
    """In float32, at every t at once: what is not selected (the decoder at t > 1) must not poison what is."""
    process, prediction = get("schedules", schedule)().process(num_timesteps), get("predictions", name)()
    batch = batch_of(process, levels, torch.float32, (1, 2, 2))
    output = outputs(batch, process, prediction, scale, 1).requires_grad_()
    loss = vlb("beta_tilde").per_image(output, batch, process, prediction)
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_float32_gradients_of_vlb_are_right(name, scale):
    process, prediction = get("schedules", "cosine")().process(1000), get("predictions", name)()
    gradients = []
    for dtype in (torch.float64, torch.float32):
        exact = batch_of(process, 256)
        batch = Batch(exact.x_0.to(dtype), exact.eps.to(dtype), exact.x_t.to(dtype), exact.t, exact.target, 256)
        output = outputs(exact, process, prediction, scale).to(dtype).requires_grad_()
        loss = vlb("beta").per_image(output, batch, process, prediction)
        gradients.append(torch.autograd.grad(loss.sum(), output)[0].double().flatten(1))
    apart = (gradients[0] - gradients[1]).norm(dim=1) / gradients[0].norm(dim=1)
    # Roundings of 1e-7 of an output of size 1 and of x̂_0, against errors of `scale` and of √factor_t · scale.
    errors = scale * prediction.x_0_error_factor(process).sqrt().clamp(max=1)
    assert torch.all(apart < 1e-5 + 1e-6 / errors)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_network_under_autocast_does_not_drag_the_bound_into_bfloat16(name):
    process, prediction = get("schedules", "cosine")().process(12), get("predictions", name)()
    batch = batch_of(process, 256, torch.float32)
    output = outputs(batch, process, prediction, 0.3).to(torch.bfloat16)
    log_sigma2 = get("variances", "beta")().log_sigma2(process, batch.t)
    found = bound_term(output, batch, process, prediction, log_sigma2)
    assert found.dtype == torch.float32
    assert torch.equal(found, bound_term(output.float(), batch, process, prediction, log_sigma2))


def test_vlb_ignores_the_variance_head_and_needs_its_variance():
    process, prediction = get("schedules", "cosine")().process(12), get("predictions", "epsilon")()
    batch = batch_of(process, 256)
    output = outputs(batch, process, prediction, 0.3, 4)
    loss = vlb("beta")
    assert torch.equal(
        loss.per_image(output, batch, process, prediction), loss.per_image(output[:, :2], batch, process, prediction)
    )
    with pytest.raises(AssertionError, match=r"spec\.bind"):
        get("losses", "vlb")().per_image(output, batch, process, prediction)


def test_losses_do_not_mix_images():
    """Every loss of every axis entry: the gradient of image 0's loss touches image 0 alone."""
    process, prediction = get("schedules", "cosine")().process(12), get("predictions", "v")()
    batch = batch_of(process, 256)
    for name in names("losses"):
        loss = vlb("beta") if name == "vlb" else get("losses", name)()
        output = outputs(batch, process, prediction, 0.3, 4).requires_grad_()
        values = loss.per_image(output, batch, process, prediction)
        assert values.shape == (12,)
        (gradient,) = torch.autograd.grad(values[3], output)
        assert gradient[3, :2].abs().min() > 0
        assert gradient[torch.arange(12) != 3].abs().max() == 0
