"""Effects of axes: balanced contexts alone, each level against the first."""

from __future__ import annotations

import math

import pytest

from ddpm_bench.effects import effects
from ddpm_bench.statistics import t_interval
from tests.test_claims import AXES, better_epsilon, make_cells

VARIED = list(AXES)


def test_each_axis_against_its_first_level() -> None:
    cells = make_cells(better_epsilon)
    found = effects(cells, VARIED, ["bits_per_dim"])
    assert [(item.axis, item.level, item.against) for item in found] == [
        ("prediction", "x0", "epsilon"), ("schedule", "cosine", "linear"), ("variance", "beta_tilde", "beta"),
    ]  # fmt: skip
    assert [(item.contexts, item.seeds) for item in found] == [(4, tuple(range(8)))] * 3
    assert found[0].effect == pytest.approx(0.5, abs=0.05)
    assert found[0].interval == t_interval(found[0].per_seed)
    assert [item.share for item in found] == [0.0, 0.0, 1.0]
    by_id = {cell["id"]: cell["metrics"]["bits_per_dim"]["value"] for cell in cells}
    each = [
        by_id[f"x0-{schedule}-{variance}-s5"] - by_id[f"epsilon-{schedule}-{variance}-s5"]
        for schedule in AXES["schedule"] for variance in AXES["variance"]
    ]  # fmt: skip
    assert found[0].per_seed[5] == pytest.approx(math.fsum(each) / 4, abs=1e-15)


def test_contexts_without_every_level_do_not_count() -> None:
    """x₀ has no cosine cell: the schedules are compared under ε alone, the predictions under linear alone."""
    cells = [
        c for c in make_cells(better_epsilon) if (c["axes"]["prediction"], c["axes"]["schedule"]) != ("x0", "cosine")
    ]
    found = {item.axis: item for item in effects(cells, VARIED, ["bits_per_dim"])}
    assert (found["prediction"].contexts, found["schedule"].contexts, found["variance"].contexts) == (2, 2, 3)


def test_a_context_that_one_seed_lacks_counts_for_none() -> None:
    cells = [cell for cell in make_cells(better_epsilon) if cell["id"] != "x0-cosine-beta-s3"]
    found = {item.axis: item for item in effects(cells, VARIED, ["bits_per_dim"])}
    assert (found["prediction"].contexts, found["prediction"].seeds) == (3, tuple(range(8)))


def test_levels_beside_the_matrix_are_left_out_by_name() -> None:
    """A named variant has a prediction of its own in one context: it would leave no balanced context but that one."""
    cells = make_cells(better_epsilon)
    extra = [
        {**cell, "id": f"v-{cell['seed']}", "axes": {**cell["axes"], "prediction": "v"}}
        for cell in cells if cell["id"].startswith("epsilon-linear-beta-s")
    ]  # fmt: skip
    found = effects([*cells, *extra], VARIED, ["bits_per_dim"])
    assert [(item.level, item.contexts, item.left_out) for item in found if item.axis == "prediction"] == [
        ("x0", 4, ("v",))
    ]


def test_nothing_to_compare() -> None:
    one = [cell for cell in make_cells(better_epsilon) if cell["axes"]["prediction"] == "epsilon"]
    assert {item.axis for item in effects(one, VARIED, ["bits_per_dim"])} == {"schedule", "variance"}
    assert effects(one, VARIED, ["fid"]) == []
    unfit = make_cells(better_epsilon, protocol={"rank_deficient": True})
    assert effects(unfit, VARIED, ["bits_per_dim"]) == []


def test_one_seed_has_no_interval() -> None:
    found = effects(make_cells(better_epsilon, seeds=range(1)), VARIED, ["bits_per_dim"])
    assert {item.interval for item in found} == {None}
