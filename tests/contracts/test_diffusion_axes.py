"""What every registered entry of the diffusion axes must do, one added later included."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap

import pytest
import torch

from ddpm_bench.diffusion.losses import Batch, Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import SPACINGS, kept_timesteps, respace
from ddpm_bench.diffusion.reverse import THRESHOLDINGS
from ddpm_bench.diffusion.samplers import Sampler
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.identity import dumps
from ddpm_bench.registry import get, names

BASES = {
    "schedules": Schedule,
    "predictions": Prediction,
    "variances": Variance,
    "weightings": Weighting,
    "losses": Loss,
    "samplers": Sampler,
}
ENTRIES = [(axis, name) for axis in BASES for name in names(axis)]
REQUIRED = {("schedules", "constant"): {"beta": 0.01}}
"""Values for fields without default."""


def entry(axis: str, name: str):
    return get(axis, name)(**REQUIRED.get((axis, name), {}))


def chain(num_timesteps: int = 100) -> Process:
    return get("schedules", "cosine")().process(num_timesteps)


def batch_of(process: Process, shape: tuple[int, ...] = (2, 3, 3)) -> Batch:
    generator = torch.Generator().manual_seed(0)
    n = len(process)
    level = torch.randint(256, (n, *shape), generator=generator)
    x_0, t = (2 * level.double() - 255) / 255, torch.arange(n)
    eps = torch.randn(n, *shape, dtype=torch.float64, generator=generator)
    return Batch(x_0, eps, process.q_sample(x_0, t, eps), t, level, 256)


def loss_with_variance(name: str) -> Loss:
    """The loss as `spec.bind` leaves it: where it has a field for σ², the cell's is filled in."""
    loss = entry("losses", name)
    fields = {field.name for field in dataclasses.fields(loss)}
    filled = {"variance": get("variances", "beta")(), "first_step": "beta_tilde_2"}
    return dataclasses.replace(loss, **{k: v for k, v in filled.items() if k in fields})


@pytest.mark.parametrize("axis", BASES)
def test_every_axis_has_entries(axis):
    assert names(axis)


@pytest.mark.parametrize(("axis", "name"), ENTRIES)
def test_entries_are_named_versioned_and_frozen(axis, name):
    made = entry(axis, name)
    assert isinstance(made, BASES[axis])
    assert made.name == name
    assert made.axis == axis
    assert isinstance(made.version, int)
    assert made.version >= 1
    assert made == entry(axis, name)
    assert hash(made) == hash(entry(axis, name))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.something = 1
    assert all(field.kw_only for field in dataclasses.fields(made))


@pytest.mark.parametrize(("axis", "name"), ENTRIES)
def test_docstrings_cite_their_source(axis, name):
    cls = get(axis, name)
    text = inspect.cleandoc(cls.__doc__ or "")
    assert "Source:" in text
    assert text.partition("\n")[0].strip()
    for method, function in vars(cls).items():
        if inspect.isfunction(function) and not method.startswith("_"):
            assert inspect.getdoc(function), f"{name}.{method}"


@pytest.mark.parametrize(("axis", "name"), ENTRIES)
def test_every_field_is_documented(axis, name):
    """A string under the field in the source: the class's own fields, each."""
    cls = get(axis, name)
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    documented = set()
    for field, following in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            after = following.value if isinstance(following, ast.Expr) else None
            if isinstance(after, ast.Constant) and isinstance(after.value, str) and after.value.strip():
                documented.add(field.target.id)
    own = {field.name for field in dataclasses.fields(cls) if field.name in inspect.get_annotations(cls)}
    assert own <= documented


@pytest.mark.parametrize(("axis", "name"), ENTRIES)
def test_identities_do_not_depend_on_the_order_of_fields(axis, name):
    made = entry(axis, name)
    values = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
    turned = type(made)(**dict(reversed(values.items())))
    assert dumps(made) == dumps(turned)
    identity = made.identity()
    assert identity["name"] == name
    assert identity["version"] == made.version
    assert set(values) - set(identity) <= {
        field.name for field in dataclasses.fields(made) if "omit_at" in field.metadata
    }


def test_identities_are_distinct():
    assert len({(axis, dumps(entry(axis, name))) for axis, name in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("name", names("schedules"))
@pytest.mark.parametrize("num_timesteps", [1, 2, 21, 100, 1000, 4000])
def test_schedules_make_a_chain_or_refuse(name, num_timesteps):
    schedule = entry("schedules", name)
    try:
        process = schedule.process(num_timesteps)
    except ValueError:
        assert num_timesteps <= 20
        with pytest.raises(ValueError, match=r"timesteps|beta"):
            schedule.process(num_timesteps)
        return
    betas = schedule.betas(num_timesteps)
    assert betas.dtype == torch.float64
    assert betas.shape == (num_timesteps,)
    assert torch.all((betas > 0) & (betas < 1))
    assert torch.equal(betas, process.beta)
    assert torch.all(process.alpha_bar.diff() < 0)
    # Below 1e-30 the squared 1/√ᾱ_T leaves float32.
    assert 1e-30 < float(process.alpha_bar[-1]) < 1


@pytest.mark.parametrize("name", names("predictions"))
def test_predictions_are_linear_and_invertible(name):
    process, prediction = chain(), entry("predictions", name)
    batch = batch_of(process)
    target = prediction.target(batch.x_0, batch.eps, batch.t, process)
    assert target.shape == batch.x_0.shape
    scaled = prediction.target(3 * batch.x_0, 3 * batch.eps, batch.t, process)
    torch.testing.assert_close(scaled, 3 * target, rtol=1e-12, atol=1e-12)
    back = prediction.to_x_0(target, batch.x_t, batch.t, process)
    # The worst conditioning of this chain is 1/√ᾱ_T = 2029.
    torch.testing.assert_close(back, batch.x_0, rtol=0, atol=1e-11)
    factor = prediction.x_0_error_factor(process)
    assert factor.dtype == torch.float64
    assert factor.shape == (100,)
    assert torch.all(factor > 0)
    apart = back - prediction.to_x_0(target + 1.0, batch.x_t, batch.t, process)
    torch.testing.assert_close(apart.square()[:, 0, 0, 0], factor, rtol=1e-8, atol=0)
    # float32 in, float32 out: the tables do not promote images.
    half = prediction.to_x_0(target.float(), batch.x_t.float(), batch.t, process)
    assert (
        half.dtype == prediction.target(batch.x_0.float(), batch.eps.float(), batch.t, process).dtype == torch.float32
    )


@pytest.mark.parametrize("name", names("predictions"))
def test_native_weightings_make_the_plain_error(name):
    process, prediction = chain(), entry("predictions", name)
    if prediction.native_weighting in names("weightings"):
        weight = entry("weightings", prediction.native_weighting).weight(process.snr)
        torch.testing.assert_close(
            weight * prediction.x_0_error_factor(process), torch.ones(100).double(), rtol=1e-12, atol=0
        )


@pytest.mark.parametrize("name", names("variances"))
@pytest.mark.parametrize("num_timesteps", [1, 2, 100, 1000, 4000])
def test_variances_are_finite_and_bounded_by_the_chain(name, num_timesteps):
    variance = entry("variances", name)
    for process in [chain(num_timesteps)] + [
        respace(chain(num_timesteps), kept_timesteps(spacing, num_timesteps, 10))
        for spacing in SPACINGS
        if num_timesteps >= 1000
    ]:
        t = torch.arange(len(process))
        generator = torch.Generator().manual_seed(0)
        head = torch.rand(len(t), 1, 2, 2, generator=generator) * 2 - 1 if variance.needs_head else None
        fit = process.beta.log() if variance.needs_fit else None
        for first_step in ("beta_tilde_2", "beta_1"):
            log_sigma2 = variance.log_sigma2(process, t, head=head, fit=fit, first_step=first_step)
            assert log_sigma2.dtype == torch.float64
            assert log_sigma2.shape == (head.shape if head is not None else (len(t),))
            assert torch.isfinite(log_sigma2).all()
            if not variance.needs_fit:
                low = process.beta_tilde.clone()
                low[0] = low[1] if len(low) > 1 else process.beta[0]
                rows = log_sigma2.flatten(1).exp() if head is not None else log_sigma2.exp().reshape(-1, 1)
                assert torch.all(rows >= low.reshape(-1, 1) * (1 - 1e-9))
                assert torch.all(rows <= process.beta.reshape(-1, 1) * (1 + 1e-9))


@pytest.mark.parametrize("name", names("weightings"))
def test_weightings_are_positive_functions_of_the_snr(name):
    snr = torch.logspace(-9, 5, 57, dtype=torch.float64)
    weight = entry("weightings", name).weight(snr)
    if weight is None:
        assert name == "none"
        return
    assert weight.dtype == torch.float64
    assert weight.shape == snr.shape
    assert torch.all(weight > 0)
    assert torch.isfinite(weight).all()
    assert torch.equal(weight[10:20], entry("weightings", name).weight(snr[10:20]))


@pytest.mark.parametrize("name", names("losses"))
@pytest.mark.parametrize("prediction_name", names("predictions"))
def test_losses_are_one_finite_number_per_image_smallest_at_the_truth(name, prediction_name):
    process, prediction = chain(), entry("predictions", prediction_name)
    batch, loss = batch_of(process), loss_with_variance(name)
    target = prediction.target(batch.x_0, batch.eps, batch.t, process)
    generator = torch.Generator().manual_seed(1)
    head = torch.zeros_like(target)
    noise = torch.randn(target.shape, dtype=target.dtype, generator=generator)
    values = []
    for scale in (0.0, 1.0, 100.0):
        output = torch.cat([target + scale * noise, head], dim=1).requires_grad_()
        value = loss.per_image(output, batch, process, prediction)
        assert value.shape == (100,)
        (gradient,) = torch.autograd.grad(value.sum(), output)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()
        values.append(value.detach())
    # At t = 1 the decoder's optimum is not the exact x_0 where x_0 lies in an outer bin: compare the rest.
    assert torch.all(values[0][1:] <= values[1][1:])
    assert torch.all(values[1] < values[2])


@pytest.mark.parametrize("name", names("losses"))
@pytest.mark.parametrize("prediction_name", names("predictions"))
def test_canonical_losses_are_equal_losses(name, prediction_name):
    process, prediction = chain(), entry("predictions", prediction_name)
    batch = batch_of(process)
    output = torch.randn(100, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for weighting in names("weightings") if name == "simple" else [None]:
        loss = loss_with_variance(name)
        if weighting is not None:
            loss = dataclasses.replace(loss, weighting=entry("weightings", weighting))
        canonical = loss.canonical(prediction)
        assert canonical.canonical(prediction) == canonical
        torch.testing.assert_close(
            canonical.per_image(output, batch, process, prediction),
            loss.per_image(output, batch, process, prediction),
            rtol=1e-12,
            atol=0,
        )


@pytest.mark.parametrize("name", names("samplers"))
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_samplers_return_what_a_network_that_knows_the_image_says(name, num_steps):
    full = chain()
    process = respace(full, kept_timesteps("linspace", 100, num_steps))
    image = torch.linspace(-1, 1, 2 * 3 * 4).reshape(2, 3, 2, 2)
    asked: list[int] = []

    def denoise(x_t, t):
        assert x_t.shape == image.shape
        assert x_t.dtype == torch.float32
        assert t.shape == (2,)
        assert 0 <= int(t[0]) < num_steps
        asked.append(int(t[0]))
        return image, process.beta.log()[t]

    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(image.shape, generator=generator)
    before = x_T.clone()
    x_0 = entry("samplers", name).sample(
        denoise, x_T, process, process.timesteps, lambda i: torch.randn(image.shape, generator=generator)
    )
    torch.testing.assert_close(x_0, image, rtol=0, atol=1e-6)
    assert x_0.dtype == torch.float32
    assert torch.equal(x_T, before)
    assert asked[0] == num_steps - 1
    assert asked[-1] == 0
    assert asked == sorted(asked, reverse=True)


@pytest.mark.parametrize("name", THRESHOLDINGS)
def test_thresholdings_keep_what_lies_in_the_range(name):
    inside = torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2)
    assert torch.equal(THRESHOLDINGS[name](inside), inside)


def test_entries_live_in_the_file_of_their_name():
    for axis, name in ENTRIES:
        module = sys.modules[get(axis, name).__module__]
        assert module.__name__.rpartition(".")[2] == name.rpartition("/")[2]
