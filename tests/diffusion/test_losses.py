"""The training losses."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from ddpm_bench.diffusion.losses import Batch
from ddpm_bench.diffusion.losses._bound import bound_term
from ddpm_bench.diffusion.process import Process
from ddpm_bench.errors import FieldError
from ddpm_bench.identity import canonical
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


def hybrid(**more):
    """L_hybrid with σ²=learned."""
    return get("losses", "hybrid")(variance=get("variances", "learned_range")(), first_step="beta_tilde_2", **more)


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
    # A learned σ² has its own ends at t = 1: the rule changes nothing, and is written in one way.
    assert vlb("learned_range", "beta_1").canonical(get("predictions", "v")()) == vlb("learned_range")


def test_a_weighting_enters_the_key_in_its_own_canonical_form(monkeypatch):
    weightings = {name: get("weightings", name)() for name in ("none", "snr")}
    monkeypatch.setattr(type(weightings["none"]), "canonical", lambda self: weightings["snr"])
    loss = get("losses", "simple")(weighting=weightings["none"])
    assert loss.canonical(get("predictions", "x0")()).weighting == weightings["snr"]
    assert loss.canonical(get("predictions", "epsilon")()).weighting == weightings["none"]  # SNR by nature


def test_the_sampling_of_time_is_a_field_of_losses_with_the_bound():
    for name in names("losses"):
        assert ("time_sampling" in get("losses", name).__dataclass_fields__) == (name in ("vlb", "hybrid"))
        assert type(get("losses", name)().time_sampler(7)).__name__ == "TimeSampler"
    # Added later: trainings with uniform t keep their keys.
    assert "time_sampling" not in canonical(vlb("beta"))
    other = get("losses", "vlb")(time_sampling="loss_second_moment")
    assert canonical(other)["time_sampling"] == "loss_second_moment"
    assert type(other.time_sampler(7)).__name__ == "LossSecondMoment"


def refusal(name: str, evaluated: str, own: str | None = None) -> str | None:
    """What the loss with σ² written out, or with the cell's, says of a cell that is evaluated with a σ²."""
    cell = SimpleNamespace(reverse=SimpleNamespace(variance=get("variances", evaluated)()))
    fields = {} if own is None else {"variance": get("variances", own)()}
    return get("losses", name)(**fields).refuse(cell)


def test_variances_that_a_loss_cannot_train():
    fixed = ("beta", "beta_tilde")
    for evaluated in (*fixed, "learned_range", "optimal"):
        assert refusal("hybrid", evaluated, "learned_range") is None
        assert refusal("vlb", evaluated, "learned_range") is None
    for name in ("vlb", "hybrid"):
        assert refusal(name, "learned_range") is None
        assert f'it is fitted after the training; write out what to train with, loss = {{ name = "{name}"' in refusal(
            name, "optimal"
        )
        for own in fixed:
            assert refusal(name, "learned_range", own).endswith("nothing trains the variance head")
        assert "it is fitted after the training" in refusal(name, "learned_range", "optimal")
    for evaluated in fixed:
        assert refusal("vlb", evaluated) is None
        assert refusal("vlb", "optimal", evaluated) is None
        for text in (refusal("hybrid", evaluated), refusal("hybrid", "optimal", evaluated)):
            assert text.startswith(f"loss hybrid with a fixed variance ({evaluated}): the bound term trains nothing")
            assert 'loss = { name = "hybrid", variance = "learned_range" }' in text
    # The advice is followed: what it writes out is accepted.
    assert 'variance = "beta" }' in refusal("vlb", "optimal")
    assert 'variance = "learned_range" }' in refusal("hybrid", "optimal")


def test_a_head_is_not_evaluated_as_something_else():
    """Two entries that need a head, or one with other parameters: they are compared, whatever they are called."""
    learned = get("variances", "learned_range")

    class Other(learned):
        name = "other"

    cell = SimpleNamespace(reverse=SimpleNamespace(variance=Other()))
    text = get("losses", "vlb")(variance=learned()).refuse(cell)
    assert text == (
        "loss vlb trains the variance head as learned_range, and variance other would read it otherwise; leave out the "
        "variance of the loss"
    )
    assert get("losses", "vlb")().refuse(cell) is None


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_the_weight_of_the_bound_is_positive(weight):
    with pytest.raises(FieldError, match="vlb_weight: must be positive"):
        get("losses", "hybrid")(vlb_weight=weight)


def written_again(batch: Batch, estimate: torch.Tensor, process: Process, sigma2: list[list[float]]) -> list[float]:
    """L_{t−1} in bits/dim of each image, coordinate by coordinate: the posteriors by the product rule.

    sigma2: σ² of each coordinate of each image.
    """
    chain = oracles.chain(process.beta.tolist())
    terms = []
    for i in range(len(process)):
        rows = (batch.x_0[i].flatten().tolist(), estimate[i].flatten().tolist(), sigma2[i])
        triples = list(zip(*rows, strict=True))
        if i == 0 and batch.levels is not None:
            levels = batch.target[0].flatten().tolist()
            nats = -math.fsum(
                oracles.log_bin_probability(level, mean, s, batch.levels)
                for level, (_, mean, s) in zip(levels, triples, strict=True)
            )
        elif i == 0:
            nats = math.fsum(0.5 * math.log(2 * math.pi * s) + (x - mean) ** 2 / (2 * s) for x, mean, s in triples)
        else:
            q, c = chain.posterior_variance[i], chain.posterior_x_0[i]
            nats = math.fsum(0.5 * (q / s - 1 - math.log(q / s) + (c * (x - mean)) ** 2 / s) for x, mean, s in triples)
        terms.append(nats / len(triples) / math.log(2))
    return terms


def learned_sigma2(head: torch.Tensor, process: Process) -> list[list[float]]:
    """σ² = β^w β̃^{1−w} with w = (v + 1)/2 of each coordinate, one image at each t; for β̃_1 = 0 stands β̃_2."""
    chain = oracles.chain(process.beta.tolist())
    small = [chain.posterior_variance[1] if len(process) > 1 else chain.beta[0], *chain.posterior_variance[1:]]
    return [
        [chain.beta[i] ** ((v + 1) / 2) * small[i] ** ((1 - v) / 2) for v in head[i].flatten().tolist()]
        for i in range(len(process))
    ]


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
    expected = written_again(batch, estimate, process, [[s] * 18 for s in sigma2])
    loss = vlb(variance, first_step).per_image(output, batch, process, prediction)
    assert loss.tolist() == pytest.approx([num_timesteps * term for term in expected], rel=1e-9, abs=1e-12)
    assert float(loss.mean()) == pytest.approx(math.fsum(expected), rel=1e-9)


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("levels", [256, 17, None])
@pytest.mark.parametrize("num_timesteps", [1, 2, 12])
def test_losses_with_a_learned_variance_term_by_term(name, levels, num_timesteps):
    """L_vlb, and L_hybrid = L_simple + 0.001 L_vlb, both from σ² of each coordinate; v is not clamped."""
    process, prediction = get("schedules", "cosine")().process(num_timesteps), get("predictions", name)()
    batch = batch_of(process, levels)
    output = outputs(batch, process, prediction, 1.0, 4)
    assert float(output[:, 2:].abs().max()) > 1.5
    estimate = prediction.to_x_0(output[:, :2], batch.x_t, batch.t, process)
    bound = written_again(batch, estimate, process, learned_sigma2(output[:, 2:], process))
    bound = [num_timesteps * term for term in bound]
    loss = vlb("learned_range").per_image(output, batch, process, prediction)
    assert loss.tolist() == pytest.approx(bound, rel=1e-9)
    target = prediction.target(batch.x_0, batch.eps, batch.t, process)
    simple = ((target - output[:, :2]) ** 2).numpy().reshape(num_timesteps, -1).mean(1)
    for weight, loss in ((0.001, hybrid()), (0.5, hybrid(vlb_weight=0.5))):
        expected = [s + weight * b for s, b in zip(simple.tolist(), bound, strict=True)]
        assert loss.per_image(output, batch, process, prediction).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_bound_of_hybrid_trains_the_head_alone(name):
    """The prediction has the gradient of L_simple, to the bit; v has that of T · L_{t−1}, times the weight."""
    process, prediction = get("schedules", "cosine")().process(12), get("predictions", name)()
    batch = batch_of(process, 17)
    output = outputs(batch, process, prediction, 0.3, 4).requires_grad_()
    found = {
        key: torch.autograd.grad(loss.per_image(output, batch, process, prediction).sum(), output)[0]
        for key, loss in {
            "hybrid": hybrid(), "simple": get("losses", "simple")(), "vlb": vlb("learned_range"),
        }.items()
    }  # fmt: skip
    assert torch.equal(found["hybrid"][:, :2], found["simple"][:, :2])
    assert (found["simple"][:, 2:] == 0).all()
    torch.testing.assert_close(found["hybrid"][:, 2:], 0.001 * found["vlb"][:, 2:], rtol=1e-12, atol=0)
    assert (found["vlb"] != 0).all()  # L_vlb trains both, everywhere
    # At t > 1, dL/dv = ½ (ln β − ln β̃) · ½ [1 − β̃/σ² − c² d²/σ²] nats per coordinate, in T bits/dim.
    chain = oracles.chain(process.beta.tolist())
    estimate = prediction.to_x_0(output[:, :2], batch.x_t, batch.t, process)
    errors, sigma2 = (batch.x_0 - estimate).flatten(1).tolist(), learned_sigma2(output[:, 2:], process)
    for i in range(1, 12):
        q, c = chain.posterior_variance[i], chain.posterior_x_0[i]
        slope = 0.25 * math.log(chain.beta[i] / q) * 12 / (18 * math.log(2))
        expected = [slope * (1 - q / s - (c * d) ** 2 / s) for d, s in zip(errors[i], sigma2[i], strict=True)]
        # Where the bracket nearly vanishes, its terms of size 1 leave the rounding of log-variances: 1e-14.
        assert found["vlb"][i, 2:].flatten().tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize(("schedule", "num_timesteps"), [("linear", 1000), ("cosine", 4000)])
@pytest.mark.parametrize("levels", [256, None])
def test_learned_variances_have_finite_gradients_in_float32(name, schedule, num_timesteps, levels):
    """At every t at once, errors far beyond the data and v to ±4: the branch that is not used poisons nothing."""
    process, prediction = get("schedules", schedule)().process(num_timesteps), get("predictions", name)()
    batch = batch_of(process, levels, torch.float32, (1, 2, 2))
    for scale in (0.0, 1.0, 1e4):
        error = outputs(batch, process, prediction, scale, 1)
        head = torch.randn(error.shape, generator=torch.Generator().manual_seed(2)).clamp(-4, 4)
        output = torch.cat([error, head], dim=1).requires_grad_()
        for loss in (vlb("learned_range"), hybrid()):
            values = loss.per_image(output, batch, process, prediction)
            assert values.dtype == torch.float32
            assert torch.isfinite(values).all()
            assert torch.isfinite(torch.autograd.grad(values.sum(), output)[0]).all()


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


def test_vlb_of_a_fixed_variance_ignores_the_head_and_needs_its_variance():
    process, prediction = get("schedules", "cosine")().process(12), get("predictions", "epsilon")()
    batch = batch_of(process, 256)
    output = outputs(batch, process, prediction, 0.3, 4)
    loss = vlb("beta")
    assert torch.equal(
        loss.per_image(output, batch, process, prediction), loss.per_image(output[:, :2], batch, process, prediction)
    )
    for name in ("vlb", "hybrid"):
        with pytest.raises(AssertionError, match=r"spec\.bind"):
            get("losses", name)().per_image(output, batch, process, prediction)


def test_losses_do_not_mix_images():
    """Every loss of every axis entry: the gradient of image 0's loss touches image 0 alone."""
    process, prediction = get("schedules", "cosine")().process(12), get("predictions", "v")()
    batch = batch_of(process, 256)
    for name in names("losses"):
        loss = {"vlb": vlb("learned_range"), "hybrid": hybrid()}.get(name) or get("losses", name)()
        output = outputs(batch, process, prediction, 0.3, 4).requires_grad_()
        values = loss.per_image(output, batch, process, prediction)
        assert values.shape == (12,)
        (gradient,) = torch.autograd.grad(values[3], output)
        assert gradient[3, :2].abs().min() > 0
        assert gradient[torch.arange(12) != 3].abs().max() == 0
