"""The weightings: their formulas, what they make of the error of each prediction, and which of them are one."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from ddpm_bench.errors import FieldError
from ddpm_bench.identity import dumps
from ddpm_bench.labels import cell_id, cell_label, value_label
from ddpm_bench.registry import get, names
from tests import oracles

# name, parameters → w(SNR), written with Python's numbers.
FORMULAS = [
    ("snr", {}, lambda r: r),
    ("snr_plus_one", {}, lambda r: r + 1),
    ("truncated_snr", {}, lambda r: r if r > 1 else 1.0),
    ("min_snr", {}, lambda r: r if r < 5 else 5.0),
    ("min_snr", {"gamma": 0.5}, lambda r: r if r < 0.5 else 0.5),
    ("p2", {}, lambda r: r / (1 + r)),
    ("p2", {"k": 2.0, "gamma": 0.5}, lambda r: r / math.sqrt(2 + r)),
    ("p2", {"k": 3.0, "gamma": 0.0}, lambda r: r),
]
# What 1 becomes of the squared error of each prediction: |x_0 − x̂_0|² = 1/SNR |ε − ε̂|² = |v − v̂|²/(SNR + 1).
PER_OUTPUT = {"x0": lambda r: 1.0, "epsilon": lambda r: r, "v": lambda r: r + 1}


def weighting(name: str, **parameters: float):
    return get("weightings", name)(**parameters)


@pytest.mark.parametrize(("name", "parameters", "formula"), FORMULAS)
def test_weights(name, parameters, formula):
    snr = torch.tensor([1e-9, 0.01, 0.4999, 0.5, 1.0, 4.99, 5.0, 5.01, 1e5], dtype=torch.float64)
    weight = weighting(name, **parameters).weight(snr)
    assert weight.dtype == torch.float64
    assert weight.tolist() == pytest.approx([formula(r) for r in snr.tolist()], rel=1e-15)


def test_no_weighting_is_no_number():
    assert weighting("none").weight(torch.ones(3)) is None


@pytest.mark.parametrize(("name", "parameters", "formula"), FORMULAS)
@pytest.mark.parametrize("prediction", PER_OUTPUT)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_factors_on_the_error_of_the_output(name, parameters, formula, prediction, schedule):
    process = get("schedules", schedule)().process(1000)
    loss = get("losses", "simple")(weighting=weighting(name, **parameters))
    factor = loss.output_factor(process, get("predictions", prediction)())
    snr = oracles.chain(process.beta.tolist()).snr
    expected = [formula(r) / PER_OUTPUT[prediction](r) for r in snr]
    # ᾱ_t is a sum of 1000 logarithms: 1e-13 of its logarithm, which SNR_t inherits.
    assert factor.tolist() == pytest.approx(expected, rel=1e-11, abs=0)


def test_published_forms_of_the_weightings_on_the_noise():
    """ε: min(1, γ/SNR) (Hang et al.), 1/(k + SNR)^γ (Choi et al.), max(1, 1/SNR) (Salimans & Ho)."""
    process, epsilon = get("schedules", "linear")().process(1000), get("predictions", "epsilon")()
    snr = torch.tensor(oracles.chain(process.beta.tolist()).snr, dtype=torch.float64)
    for made, expected in [
        (weighting("min_snr"), (5 / snr).clamp(max=1)),
        (weighting("p2"), 1 / (1 + snr)),
        (weighting("truncated_snr"), (1 / snr).clamp(min=1)),
    ]:
        factor = get("losses", "simple")(weighting=made).output_factor(process, epsilon)
        torch.testing.assert_close(factor, expected, rtol=1e-11, atol=0)


def test_truncated_snr_and_snr_plus_one_are_the_maximum_and_the_sum_of_two_errors():
    """Of ε and of x_0, which one network states at once: x_t = √ᾱ x_0 + √(1−ᾱ) ε = √ᾱ x̂_0 + √(1−ᾱ) ε̂."""
    process = get("schedules", "cosine")().process(100)
    generator = torch.Generator().manual_seed(0)
    x_0, guess = torch.randn(2, 100, 1, 2, 2, dtype=torch.float64, generator=generator)
    eps = torch.randn(100, 1, 2, 2, dtype=torch.float64, generator=generator)
    t = torch.arange(100)
    x_t = process.q_sample(x_0, t, eps)
    error_x_0 = (x_0 - guess).square().flatten(1).mean(1)
    error_eps = (eps - process.eps_from_x_0(guess, x_t, t)).square().flatten(1).mean(1)
    # At t = 100 ε − ε̂ = √SNR (x_0 − x̂_0) is 5e-4, a difference of numbers near 1: 4e-13 of its square.
    for name, expected in [
        ("truncated_snr", torch.maximum(error_x_0, error_eps)),
        ("snr_plus_one", error_x_0 + error_eps),
    ]:
        found = weighting(name).weight(process.snr) * error_x_0
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "scaled_linear", "sigmoid"])
@pytest.mark.parametrize("num_timesteps", [100, 1000, 4000])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_native_weightings_are_no_weighting_bit_for_bit(schedule, num_timesteps, prediction):
    """SNR · (1/SNR) and (SNR + 1)(1−ᾱ) are 1 within a rounding of float64: exactly 1 in float32, where images are."""
    process, made = get("schedules", schedule)().process(num_timesteps), get("predictions", prediction)()
    loss = get("losses", "simple")(weighting=weighting(made.native_weighting))
    factor = loss.output_factor(process, made)
    assert torch.equal(factor.float(), torch.ones(num_timesteps))
    assert loss.canonical(made) == get("losses", "simple")()
    others = set(names("predictions")) - {prediction}
    assert all(loss.canonical(get("predictions", other)()) == loss for other in others)


def test_p2_without_exponent_is_snr_whatever_k():
    snr = torch.logspace(-9, 5, 57, dtype=torch.float64)
    for k in (0.5, 1.0, 7.0):
        made = weighting("p2", k=k, gamma=0.0)
        assert made.canonical() == weighting("snr")
        assert torch.equal(made.weight(snr), weighting("snr").weight(snr))
        loss = get("losses", "simple")(weighting=made)
        assert loss.canonical(get("predictions", "epsilon")()) == get("losses", "simple")()
        assert loss.canonical(get("predictions", "v")()) == get("losses", "simple")(weighting=weighting("snr"))


@pytest.mark.parametrize(("name", "parameters", "formula"), FORMULAS)
def test_canonical_weightings_are_equal_weightings(name, parameters, formula):
    made = weighting(name, **parameters)
    canonical = made.canonical()
    assert canonical.canonical() == canonical
    snr = torch.logspace(-9, 5, 57, dtype=torch.float64)
    assert torch.equal(canonical.weight(snr), made.weight(snr))


def test_no_two_canonical_weightings_are_equal():
    """Equality of the canonical forms is all the equality there is, at SNR on both sides of every bend."""
    snr = torch.tensor([0.01, 0.3, 0.7, 2.0, 4.0, 100.0], dtype=torch.float64)
    made = [weighting(name, **parameters).canonical() for name, parameters, _ in FORMULAS]
    distinct = {dumps(item): item.weight(snr) for item in made}
    values = list(distinct.values())
    assert len(values) == len(FORMULAS) - 1  # p2 with gamma = 0 is snr
    for i, one in enumerate(values):
        assert all(not torch.allclose(one, other, rtol=1e-6) for other in values[:i])


@pytest.mark.parametrize(
    ("name", "parameters", "field"),
    [
        ("min_snr", {"gamma": 0.0}, "gamma"),
        ("p2", {"k": 0.0}, "k"),
        ("p2", {"gamma": -1.0}, "gamma"),
    ],
)
def test_parameters_out_of_range_are_refused(name, parameters, field):
    with pytest.raises(FieldError, match=f"^{field}: must ") as refused:
        weighting(name, **parameters)
    assert refused.value.field == field


def cell(schedule: str, num_timesteps: int, prediction: str) -> SimpleNamespace:
    diffusion = SimpleNamespace(
        schedule=get("schedules", schedule)(), timesteps=num_timesteps, prediction=get("predictions", prediction)()
    )
    return SimpleNamespace(diffusion=diffusion, reverse=SimpleNamespace(variance=get("variances", "beta")()))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", PER_OUTPUT)
def test_a_weighting_that_scales_the_output_beyond_measure_is_refused(schedule, prediction):
    where = cell(schedule, 1000, prediction)
    snr = oracles.chain(where.diffusion.schedule.betas(1000).tolist()).snr
    refused = set()
    for name, parameters, formula in FORMULAS:
        largest = max(formula(r) / PER_OUTPUT[prediction](r) for r in snr)
        reason = get("losses", "simple")(weighting=weighting(name, **parameters)).refuse(where)
        assert (reason is not None) == (largest > 1e6), name
        refused |= {name} if reason else set()
    # 1/SNR_T is 4e8 for cosine and 2.5e4 for linear.
    assert refused == ({"truncated_snr", "snr_plus_one"} if (schedule, prediction) == ("cosine", "epsilon") else set())


def test_the_refusal_says_what_is_multiplied_by_how_much_and_where():
    loss = get("losses", "simple")(weighting=weighting("truncated_snr"))
    reason = loss.refuse(cell("cosine", 1000, "epsilon"))
    assert reason.startswith(
        "weighting truncated_snr multiplies the squared error of the predicted epsilon by 4.12e+08 at t = 1000 "
        "(more than 1e+06)"
    )


def test_labels_of_weighted_losses():
    simple = get("losses", "simple")
    assert value_label(simple(weighting=weighting("min_snr"))) == "simple(weighting=min_snr)"
    bound = simple(weighting=weighting("min_snr", gamma=3.0))
    assert value_label(bound, symbol=True) == "L_simple(weighting=min_snr(gamma=3.0))"
    assert value_label(simple(weighting=weighting("none"))) == "simple"
    axes = {
        "prediction": get("predictions", "v")(),
        "variance": get("variances", "beta_tilde")(),
        "schedule": get("schedules", "scaled_linear")(),
        "loss": bound,
    }
    assert cell_label(axes, ()) == "v, σ²=β̃, scaled_linear, L_simple(weighting=min_snr(gamma=3.0))"
    assert cell_id(axes, (), 0) == "v-beta_tilde-scaled_linear-simple_weighting_min_snr_gamma_3.0-s0"
