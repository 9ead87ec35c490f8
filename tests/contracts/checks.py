"""What every entry of the diffusion axes must do: one function per axis, for any entry, also one of a plugin.

from tests.contracts.checks import check

check(Geometric(first=1e-3))
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ddpm_bench.diffusion.losses import Batch, Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import SPACINGS, kept_timesteps, respace
from ddpm_bench.diffusion.samplers import Sampler
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.identity import dumps
from ddpm_bench.registry import Entry, get

LENGTHS = (1, 2, 21, 100, 1000, 4000)
"""T of the chains."""


def check(entry: Entry) -> None:
    """Everything that a run relies on, of an entry of any axis."""
    check_entry(entry)
    check_identity(entry)
    of_axis = {
        "schedules": check_schedule,
        "predictions": check_prediction,
        "variances": check_variance,
        "weightings": check_weighting,
        "losses": check_loss,
        "samplers": check_sampler,
    }
    if entry.axis in of_axis:
        of_axis[entry.axis](entry)


def chain(num_timesteps: int = 100) -> Process:
    """A chain that exists for every T."""
    return get("schedules", "cosine")().process(num_timesteps)


def chains() -> Iterator[Process]:
    """Full ones, from one step on, and respaced ones."""
    for num_timesteps in LENGTHS:
        yield chain(num_timesteps)
    for spacing in SPACINGS:
        for num_steps in (1, 2, 10):
            yield respace(chain(1000), kept_timesteps(spacing, 1000, num_steps))


def batch_of(process: Process, shape: tuple[int, ...] = (2, 3, 3)) -> Batch:
    """One image with 256 levels at every step of the chain."""
    generator = torch.Generator().manual_seed(0)
    n = len(process)
    level = torch.randint(256, (n, *shape), generator=generator)
    x_0, t = (2 * level.double() - 255) / 255, torch.arange(n)
    eps = torch.randn(n, *shape, dtype=torch.float64, generator=generator)
    return Batch(x_0, eps, process.q_sample(x_0, t, eps), t, level, 256)


def parameters(entry: Any) -> dict[str, Any]:
    """Every parameter, defaults included."""
    return {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}


def check_entry(entry: Any) -> None:
    """Registered, named after its file, versioned, frozen, made from keywords."""
    cls, values = type(entry), parameters(entry)
    assert get(entry.axis, entry.name) is cls
    module = sys.modules[cls.__module__].__name__
    assert module.rpartition(".")[2] == entry.name.rpartition("/")[2], "an entry lives in the file of its name"
    assert isinstance(entry.version, int)
    assert entry.version >= 1
    assert entry == cls(**values)
    assert hash(entry) == hash(cls(**values))
    assert all(field.kw_only for field in dataclasses.fields(entry))
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.something = 1


def check_identity(entry: Any) -> None:
    """Name, version and every parameter, in whatever order they are given."""
    values, identity = parameters(entry), entry.identity()
    assert (identity["name"], identity["version"]) == (entry.name, entry.version)
    omitted = {field.name for field in dataclasses.fields(entry) if "omit_at" in field.metadata}
    assert set(values) - set(identity) <= omitted
    assert dumps(entry) == dumps(type(entry)(**dict(reversed(values.items()))))


def check_documentation(cls: type) -> None:
    """A first line, a source, and something to say of every method and field that the class adds: the house rule."""
    text = inspect.cleandoc(cls.__doc__ or "")
    assert text.partition("\n")[0].strip()
    assert "Source:" in text
    for method, function in vars(cls).items():
        if inspect.isfunction(function) and not method.startswith("_"):
            assert inspect.getdoc(function), f"{cls.__name__}.{method}"
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    documented = set()
    for field, following in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            after = following.value if isinstance(following, ast.Expr) else None
            if isinstance(after, ast.Constant) and isinstance(after.value, str) and after.value.strip():
                documented.add(field.target.id)
    own = {field.name for field in dataclasses.fields(cls) if field.name in inspect.get_annotations(cls)}  # type: ignore[arg-type]
    assert own <= documented, f"without a string below: {own - documented}"


def check_schedule(schedule: Schedule) -> None:
    """A chain with 0 < β < 1 for every T, or one sentence why there is none; for T = 1000 there is one."""
    schedule.process(1000)
    for num_timesteps in LENGTHS:
        reason = schedule.refuse(SimpleNamespace(diffusion=SimpleNamespace(timesteps=num_timesteps)))
        if reason is not None:
            assert "\n" not in reason
            with pytest.raises(ValueError, match=re.escape(reason)):
                schedule.process(num_timesteps)
            continue
        process = schedule.process(num_timesteps)
        betas = schedule.betas(num_timesteps)
        assert betas.dtype == torch.float64
        assert betas.shape == (num_timesteps,)
        assert torch.all((betas > 0) & (betas < 1))
        assert torch.equal(betas, process.beta)
        assert torch.equal(betas, schedule.betas(num_timesteps))
        canonical = schedule.canonical(num_timesteps)
        assert canonical.canonical(num_timesteps) == canonical
        assert torch.equal(betas, canonical.betas(num_timesteps))
        assert torch.all(process.alpha_bar.diff() < 0)
        # Below 1e-30 the squared 1/√ᾱ_T leaves float32.
        assert 1e-30 < float(process.alpha_bar[-1]) < 1
        for kept in {1, min(2, num_timesteps), min(10, num_timesteps)}:
            short = respace(process, kept_timesteps("linspace", num_timesteps, kept))
            # One step over a chain that ends below e^-37 has a β that rounds to 1.
            assert torch.all((short.beta > 0) & (short.beta <= 1))
            assert torch.all(short.beta_tilde[1:] > 0)


def check_prediction(prediction: Prediction) -> None:
    """Target and x̂_0 are each other's inverse, linear, and errors differ by the stated factor."""
    for process in (chain(1), chain(2), chain(100)):
        batch = batch_of(process)
        target = prediction.target(batch.x_0, batch.eps, batch.t, process)
        assert target.shape == batch.x_0.shape
        scaled = prediction.target(3 * batch.x_0, 3 * batch.eps, batch.t, process)
        torch.testing.assert_close(scaled, 3 * target, rtol=1e-12, atol=1e-12)
        back = prediction.to_x_0(target, batch.x_t, batch.t, process)
        # The worst conditioning of these chains is 1/√ᾱ_T = 2029.
        torch.testing.assert_close(back, batch.x_0, rtol=0, atol=1e-11)
        factor = prediction.x_0_error_factor(process)
        assert factor.dtype == torch.float64
        assert factor.shape == (len(process),)
        assert torch.all(factor > 0)
        apart = back - prediction.to_x_0(target + 1.0, batch.x_t, batch.t, process)
        torch.testing.assert_close(apart.square()[:, 0, 0, 0], factor, rtol=1e-8, atol=0)
        # float32 in, float32 out: the tables do not promote images.
        single = (batch.x_0.float(), batch.eps.float(), batch.x_t.float())
        assert prediction.target(single[0], single[1], batch.t, process).dtype == torch.float32
        assert prediction.to_x_0(single[1], single[2], batch.t, process).dtype == torch.float32


def check_variance(variance: Variance) -> None:
    """ln σ² in float64, finite, read by t, from the chain that is walked; fixed ones between β̃ and β of that chain."""
    for process in chains():
        steps = len(process)
        low = process.beta_tilde.clone()
        low[0] = low[1] if steps > 1 else process.beta[0]
        t = torch.randperm(steps, generator=torch.Generator().manual_seed(0))
        fit = head = None
        if variance.needs_fit:
            mse = torch.linspace(0.001, 0.5, steps, dtype=torch.float64)
            fit = variance.fit(process, mse, lambda log_sigma2: (log_sigma2 + 5.0) ** 2)
            assert fit.dtype == torch.float64
            assert fit.shape == (steps,)
        if variance.needs_head:
            head = torch.rand(steps, 1, 2, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
        found = []
        for first_step in ("beta_tilde_2", "beta_1"):
            log_sigma2 = variance.log_sigma2(process, t, head=head, fit=fit, first_step=first_step)
            assert log_sigma2.dtype == torch.float64
            assert log_sigma2.shape == ((steps,) if head is None else head.shape)
            assert torch.isfinite(log_sigma2).all()
            found.append(log_sigma2)
            for b in (0, steps - 1):
                one = variance.log_sigma2(
                    process, t[b : b + 1], head=None if head is None else head[b : b + 1], fit=fit,
                    first_step=first_step,
                )  # fmt: skip
                assert torch.equal(one[0], log_sigma2[b])
            sigma2 = log_sigma2.reshape(steps, -1).exp()
            later = (t > 0).reshape(-1, 1) | (not variance.needs_fit)
            assert torch.all((sigma2 >= low[t].reshape(-1, 1) * (1 - 1e-9)) | ~later)
            if not variance.needs_fit:
                assert torch.all(sigma2 <= process.beta[t].reshape(-1, 1) * (1 + 1e-9))
        if steps == 1 or not variance.uses_first_step:
            assert torch.equal(found[0], found[1])
        else:
            assert torch.equal(found[0][t > 0], found[1][t > 0])
            assert float(found[0][t == 0].exp()) == pytest.approx(float(low[0]), rel=1e-9)
            assert float(found[1][t == 0].exp()) == pytest.approx(float(process.beta[0]), rel=1e-9)


def check_weighting(weighting: Weighting) -> None:
    """A positive function of the SNR alone, which its canonical form equals to the last digit."""
    snr = torch.logspace(-9, 5, 57, dtype=torch.float64)
    weight = weighting.weight(snr)
    canonical = weighting.canonical()
    assert canonical.canonical() == canonical
    if weight is None:
        assert canonical.weight(snr) is None
        return
    assert weight.dtype == torch.float64
    assert weight.shape == snr.shape
    assert torch.all(weight > 0)
    assert torch.isfinite(weight).all()
    found = weighting.weight(snr[10:20])
    assert found is not None
    assert torch.equal(weight[10:20], found)
    equal = canonical.weight(snr)
    assert equal is not None
    assert torch.equal(equal, weight)


def check_loss(loss: Loss) -> None:
    """One finite number per image for every prediction, smallest at the truth; so is the canonical form."""
    for name in ("epsilon", "x0", "v", "mu"):
        process, prediction = chain(), get("predictions", name)()
        batch = batch_of(process)
        target = prediction.target(batch.x_0, batch.eps, batch.t, process)
        noise = torch.randn(target.shape, dtype=target.dtype, generator=torch.Generator().manual_seed(1))
        values = []
        for scale in (0.0, 1.0, 100.0):
            output = torch.cat([target + scale * noise, torch.zeros_like(target)], dim=1).requires_grad_()
            value = loss.per_image(output, batch, process, prediction)
            assert value.shape == (100,)
            (gradient,) = torch.autograd.grad(value.sum(), output)
            assert torch.isfinite(value).all()
            assert torch.isfinite(gradient).all()
            values.append(value.detach())
            canonical = loss.canonical(prediction)
            assert canonical.canonical(prediction) == canonical
            torch.testing.assert_close(
                canonical.per_image(output, batch, process, prediction), value, rtol=1e-12, atol=0
            )
        # At t = 1 the decoder's optimum is not the exact x_0 where x_0 lies in an outer bin: compare the rest.
        assert torch.all(values[0][1:] <= values[1][1:])
        assert torch.all(values[1] < values[2])


def check_sampler(sampler: Sampler) -> None:
    """Walks the chain from its last step to its first and returns what a network that knows the image says."""
    image = torch.linspace(-1, 1, 2 * 3 * 4).reshape(2, 3, 2, 2)
    for num_steps in (1, 2, 7):
        process = respace(chain(), kept_timesteps("linspace", 100, num_steps))
        asked: list[int] = []

        def denoise(x_t: torch.Tensor, t: torch.Tensor, process: Process = process, asked: list[int] = asked) -> Any:
            assert x_t.shape == image.shape
            assert x_t.dtype == torch.float32
            assert t.shape == (2,)
            assert 0 <= int(t[0]) < len(process)
            asked.append(int(t[0]))
            return image, process.beta.log()[t]

        generator = torch.Generator().manual_seed(0)
        x_T = torch.randn(image.shape, generator=generator)
        before = x_T.clone()
        drawn = [torch.randn(image.shape, generator=generator) for _ in range(num_steps)]
        x_0 = sampler.sample(denoise, x_T, process, process.timesteps, drawn.__getitem__)
        torch.testing.assert_close(x_0, image, rtol=0, atol=1e-6)
        assert x_0.dtype == torch.float32
        assert torch.equal(x_T, before)
        assert asked[0] == num_steps - 1
        assert asked[-1] == 0
        assert asked == sorted(asked, reverse=True)
