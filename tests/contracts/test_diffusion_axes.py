"""The contracts over every registered entry of the diffusion axes, one added later included."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ddpm_bench.diffusion.estimators import Estimator
from ddpm_bench.diffusion.losses import Loss
from ddpm_bench.diffusion.predictions import Prediction
from ddpm_bench.diffusion.respacing import kept_timesteps, respace
from ddpm_bench.diffusion.reverse import THRESHOLDINGS
from ddpm_bench.diffusion.samplers import Sampler
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.identity import dumps
from ddpm_bench.registry import get, names
from tests.contracts import checks

BASES = {
    "schedules": Schedule,
    "predictions": Prediction,
    "variances": Variance,
    "weightings": Weighting,
    "losses": Loss,
    "samplers": Sampler,
    "estimators": Estimator,
}
REQUIRED: dict[tuple[str, str], dict[str, Any]] = {("schedules", "constant"): {"beta": 0.01}}
"""Values for fields without default."""
OTHERS: list[tuple[str, str, dict[str, Any]]] = [
    ("schedules", "linear", {"scale": False}),
    ("schedules", "scaled_linear", {"scale": False, "last": 0.05}),
    ("schedules", "sigmoid", {"start": 0.0, "tau": 0.7}),
    ("schedules", "cosine", {"s": 0.1, "max_beta": 0.5}),
    ("schedules", "constant", {"beta": 1e-6}),
    ("weightings", "min_snr", {"gamma": 0.01}),
    ("weightings", "p2", {"gamma": 0.0, "k": 9.0}),
    ("weightings", "p2", {"gamma": 2.5}),
]
"""Parameters beside the defaults."""


def entry(axis: str, name: str) -> Any:
    return get(axis, name)(**REQUIRED.get((axis, name), {}))


ENTRIES = [(axis, name) for axis in BASES for name in names(axis)]


CELL = SimpleNamespace(schedule=entry("schedules", "cosine"), timesteps=100, prediction=entry("predictions", "epsilon"))
"""What a loss may ask of the cell's forward process."""


def bound_losses() -> list[Loss]:
    """Every loss as `spec.bind` leaves it, with every σ² that it accepts and every weighting."""
    found = []
    for name in names("losses"):
        bare = entry("losses", name)
        fields = {field.name for field in dataclasses.fields(bare)}
        for variance in (entry("variances", one) for one in names("variances")):
            if "variance" not in fields:
                continue
            cell = SimpleNamespace(diffusion=CELL, reverse=SimpleNamespace(variance=variance))
            if bare.refuse(cell) is None:
                found.append(dataclasses.replace(bare, variance=variance, first_step="beta_tilde_2"))
        if "weighting" in fields:
            found += [dataclasses.replace(bare, weighting=entry("weightings", one)) for one in names("weightings")]
            found.append(dataclasses.replace(bare, weighting=get("weightings", "p2")(gamma=0.0)))
        elif "variance" not in fields:
            found.append(bare)
    return found


@pytest.mark.parametrize("axis", BASES)
def test_every_axis_has_entries(axis):
    assert names(axis)


@pytest.mark.parametrize(("axis", "name"), ENTRIES)
def test_entries_are_named_versioned_and_frozen(axis, name):
    made = entry(axis, name)
    assert isinstance(made, BASES[axis])
    assert (made.axis, made.name) == (axis, name)
    checks.check_entry(made)


@pytest.mark.parametrize(("axis", "name"), ENTRIES)
def test_entries_are_documented_with_their_source(axis, name):
    checks.check_documentation(get(axis, name))


@pytest.mark.parametrize(("axis", "name"), ENTRIES)
def test_entries_have_an_identity(axis, name):
    checks.check_identity(entry(axis, name))


def test_identities_are_distinct():
    assert len({(axis, dumps(entry(axis, name))) for axis, name in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize(("axis", "name", "parameters"), OTHERS)
def test_contracts_hold_with_other_parameters(axis, name, parameters):
    checks.check(get(axis, name)(**parameters))


@pytest.mark.parametrize("name", names("schedules"))
def test_schedules(name):
    schedule = entry("schedules", name)
    checks.check_schedule(schedule)
    # Only a T of 20 or less may have no chain.
    assert all(len(schedule.process(num_timesteps)) == num_timesteps for num_timesteps in (21, 100, 1000, 4000))


@pytest.mark.parametrize("name", names("predictions"))
def test_predictions(name):
    checks.check_prediction(entry("predictions", name))


@pytest.mark.parametrize("name", names("predictions"))
def test_native_weightings_make_the_plain_error(name):
    process, prediction = checks.chain(), entry("predictions", name)
    if prediction.native_weighting is None:
        return
    weight = entry("weightings", prediction.native_weighting).weight(process.snr)
    plain = torch.ones(100, dtype=torch.float64)
    torch.testing.assert_close(weight * prediction.x_0_error_factor(process), plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", names("variances"))
def test_variances(name):
    checks.check_variance(entry("variances", name))


@pytest.mark.parametrize("num_steps", [1, 2, 10, 1000])
def test_a_head_hits_the_ends_of_the_range_at_minus_and_plus_one(num_steps):
    process = checks.chain(1000)
    process = respace(process, kept_timesteps("linspace", 1000, num_steps))
    low = process.beta_tilde.clone()
    low[0] = low[1] if num_steps > 1 else process.beta[0]
    t, head = torch.arange(num_steps), torch.ones(num_steps, 2, 2, 2)
    for sign, expected in ((-1, low), (1, process.beta)):
        log_sigma2 = entry("variances", "learned_range").log_sigma2(process, t, head=sign * head)
        wanted = expected.log().reshape(-1, 1, 1, 1).expand_as(log_sigma2)
        torch.testing.assert_close(log_sigma2, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", names("weightings"))
def test_weightings(name):
    checks.check_weighting(entry("weightings", name))


@pytest.mark.parametrize("loss", bound_losses(), ids=lambda loss: "-".join(map(str, loss.identity().values()))[:80])
def test_losses(loss):
    checks.check_loss(loss)


def test_every_loss_is_checked():
    assert {loss.name for loss in bound_losses()} == set(names("losses"))


@pytest.mark.parametrize("name", names("samplers"))
def test_samplers(name):
    checks.check_sampler(entry("samplers", name))


@pytest.mark.parametrize("name", THRESHOLDINGS)
def test_thresholdings_keep_what_lies_in_the_range(name):
    inside = torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2)
    assert torch.equal(THRESHOLDINGS[name](inside), inside)
