"""The perfect network for Gaussian data, against scalar formulas written out here."""

import math
from types import SimpleNamespace

import pytest
import torch

from ddpm_bench.datasets.digits import Digits
from ddpm_bench.datasets.gaussian import Gaussian
from ddpm_bench.diffusion.process import Process
from ddpm_bench.errors import FieldError
from ddpm_bench.networks import Problem
from ddpm_bench.networks.closed_form import ClosedForm
from ddpm_bench.registry import get

BETAS = torch.linspace(1e-3, 0.2, 30, dtype=torch.float64)
PREDICTIONS = ["epsilon", "x0", "v", "mu"]
LAWS = [(0.3, 0.25), (-0.5, 1.0), (0.7, 2.0)]


def problem(mean, standard_deviation, prediction="x0", outputs=1):
    data = Gaussian(mean=mean, standard_deviation=standard_deviation)
    return Problem((1, 8, 8), None, outputs, Process.from_betas(BETAS), get("predictions", prediction)(), data)


def scalars(t, m, s):
    """ᾱ_t, and (gain, offset) of the optimal x̂_0 and of the mean of p_θ, by scalar arithmetic; t is 0-based."""
    betas = BETAS.tolist()
    bar = math.prod(1 - b for b in betas[: t + 1])
    before = math.prod(1 - b for b in betas[:t])
    total = bar * s**2 + 1 - bar
    slope, offset = math.sqrt(bar) * s**2 / total, m - bar * s**2 * m / total
    c = math.sqrt(before) * betas[t] / (1 - bar)
    d = math.sqrt(1 - betas[t]) * (1 - before) / (1 - bar)
    return bar, (slope, offset), (c * slope + d, c * offset)


def all_steps(dtype=torch.float64):
    """One image per step."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(30, 1, 8, 8, dtype=torch.float64, generator=generator).to(dtype), torch.arange(30)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("m", "s"), LAWS)
def test_every_prediction_means_the_optimal_x_0(prediction, m, s):
    task = problem(m, s, prediction)
    x_t, t = all_steps()
    output = ClosedForm().build(task)(x_t, t)
    x_0 = task.prediction.to_x_0(output, x_t, t, task.process)
    for i in range(30):
        _, (slope, offset), _ = scalars(i, m, s)
        # Conversions divide by c_t ≥ 2e-3 and √ᾱ_t ≥ 0.2: rounding of 2e-16 grows to below 1e-12.
        torch.testing.assert_close(x_0[i], slope * x_t[i] + offset, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("prediction", "expected"), [
    ("x0", lambda x, bar, x_0: x_0),
    ("epsilon", lambda x, bar, x_0: (x - math.sqrt(bar) * x_0) / math.sqrt(1 - bar)),
    ("v", lambda x, bar, x_0: (math.sqrt(bar) * x - x_0) / math.sqrt(1 - bar)),
])  # fmt: skip
def test_the_output_is_what_the_prediction_wants(prediction, expected):
    m, s = 0.3, 0.25
    x_t, t = all_steps()
    output = ClosedForm().build(problem(m, s, prediction))(x_t, t)
    for i in range(30):
        bar, (slope, offset), _ = scalars(i, m, s)
        # 1/√(1−ᾱ_1) = 32 multiplies the rounding.
        torch.testing.assert_close(output[i], expected(x_t[i], bar, slope * x_t[i] + offset), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("m", "s"), LAWS)
def test_the_error_is_the_conditional_variance(m, s):
    # Var(x_0 | x_t) = s²(1−ᾱ)/V; 16 384 · 64 draws give its estimate a relative standard error of √(2/2²⁰) = 1.4e-3.
    task = problem(m, s)
    generator = torch.Generator().manual_seed(0)
    for i in (0, 10, 29):
        bar, *_ = scalars(i, m, s)
        x_0 = m + s * torch.randn(16_384, 1, 8, 8, dtype=torch.float64, generator=generator)
        eps = torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
        x_t = math.sqrt(bar) * x_0 + math.sqrt(1 - bar) * eps
        error = (ClosedForm().build(task)(x_t, torch.full((16_384,), i)) - x_0).square().mean()
        expected = s**2 * (1 - bar) / (bar * s**2 + 1 - bar)
        assert float(error) == pytest.approx(expected, rel=4 * 1.4e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("delta", [0.01, -0.3])
def test_the_relative_error_multiplies_the_gain_of_the_mean(prediction, delta):
    m, s = 0.7, 2.0
    task = problem(m, s, prediction)
    x_t, t = all_steps()
    output = ClosedForm(relative_error=delta).build(task)(x_t, t)
    mean = task.process.q_posterior_mean(task.prediction.to_x_0(output, x_t, t, task.process), x_t, t)
    for i in range(30):
        _, _, (gain, offset) = scalars(i, m, s)
        torch.testing.assert_close(mean[i], gain * (1 + delta) * x_t[i] + offset, rtol=0, atol=1e-12)


def test_float32_images_give_float32_outputs_computed_in_float64():
    network = ClosedForm().build(problem(0.3, 0.25, "epsilon"))
    x_t, t = all_steps(torch.float32)
    output = network(x_t, t)
    assert output.dtype == torch.float32
    assert torch.equal(output, network(x_t.double(), t).float())
    assert torch.equal(network.half()(x_t, t), output)


def test_nothing_to_train():
    assert list(ClosedForm().build(problem(0.0, 1.0)).parameters()) == []
    assert ClosedForm().build(problem(0.0, 1.0)).state_dict() == {}


def cell(dataset, steps=0, learned_variance=False):
    return SimpleNamespace(dataset=dataset, training=SimpleNamespace(steps=steps), learned_variance=learned_variance)


def test_what_is_refused():
    network = ClosedForm()
    assert network.refuse(cell(Gaussian())) is None
    assert "dataset digits is not" in network.refuse(cell(Digits()))
    assert "use training.steps = 0" in network.refuse(cell(Gaussian(), steps=1))
    assert "no variance head" in network.refuse(cell(Gaussian(), learned_variance=True))
    with pytest.raises(ValueError, match="no variance head"):
        network.build(problem(0.0, 1.0, outputs=2))
    with pytest.raises(FieldError, match="relative_error"):
        ClosedForm(relative_error=math.nan)
