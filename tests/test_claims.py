"""Verdicts of claims over cells that are made here: what is paired, averaged, decided, and what cannot be compared."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddpm_bench import claims, statistics
from ddpm_bench.claims import judge

AXES = {"prediction": ["epsilon", "x0"], "schedule": ["linear", "cosine"], "variance": ["beta", "beta_tilde"]}
SEEDS = range(8)
PROTOCOL = {"split": "test", "images": 360, "standard_error": "over images"}
Value = Callable[[dict[str, str], int], float | None]


def noise(*parts: Any) -> float:
    """A number in (−1, 1) that is a function of its arguments."""
    return float(np.random.default_rng(list(repr(parts).encode())).uniform(-1, 1))


def make_cells(value: Value, seeds: range = SEEDS, **changes: Any) -> list[dict[str, Any]]:
    """A cell for each combination and seed; cells that differ in the variance alone share their training."""
    found = []
    for labels, seed in itertools.product(itertools.product(*AXES.values()), seeds):
        axes = dict(zip(AXES, labels, strict=True))
        name = "-".join(labels) + f"-s{seed}"
        measured = value(axes, seed)
        record = {
            "value": measured,
            "unit": "bits/dim",
            "higher_is_better": False,
            "protocol": PROTOCOL,
            "reason": None,
        }
        found.append({
            "id": name, "axes": axes, "seed": seed, "status": "done" if measured is not None else "waiting",
            "reason": None, "train_key": f"{axes['prediction']}-{axes['schedule']}-{seed}",
            "artifacts": {"likelihood": {"test": f"store/likelihood/{name}"}, "samples": [f"store/sample/{name}"]},
            "metrics": {"bits_per_dim": {**record, **changes}},
        })  # fmt: skip
    return found


def better_epsilon(axes: dict[str, str], seed: int) -> float:
    """ε is better by 0.5 in every context, give or take."""
    return 3 + 0.5 * (axes["prediction"] == "x0") + 0.05 * noise(*axes.values(), seed)


def side(cells: list[dict[str, Any]], **axes: str) -> dict[str, Any]:
    chosen = [cell["id"] for cell in cells if axes.items() <= cell["axes"].items()]
    return {"selector": axes, "cells": chosen}


def claim(cells: list[dict[str, Any]], first: dict[str, str], second: dict[str, str], margin: float | None = None,
          metric: str = "bits_per_dim", **where: str) -> dict[str, Any]:  # fmt: skip
    """As statements.Claim.to_json writes it."""
    sides = [side(cells, **which, **where) for which in (first, second)]
    compared = margin is None
    return {
        "statement": "…", "metric": metric, "axes": list({**first, **second}), "source": None, "dataset": None,
        "better": sides[0] if compared else None, "than": sides[1] if compared else None,
        "equivalent": None if compared else sides, "margin": margin, "where": where or None,
    }  # fmt: skip


EPSILON, X_0 = {"prediction": "epsilon"}, {"prediction": "x0"}
BETA, TILDE = {"variance": "beta"}, {"variance": "beta_tilde"}


def verdict(cells: list[dict[str, Any]], *rest: Any, **where: Any) -> dict[str, Any]:
    return judge([claim(cells, *rest, **where)], cells, list(AXES))[0]


def test_a_clear_difference_is_supported_and_reversed_contradicted() -> None:
    cells = make_cells(better_epsilon)
    found, back = verdict(cells, EPSILON, X_0), verdict(cells, X_0, EPSILON)
    assert (found["verdict"], back["verdict"]) == ("supported", "contradicted")
    assert (found["family"], found["num_seeds"], found["contexts"]) == (claims.ACROSS, 8, 4)
    assert back["effect"] == -found["effect"]
    assert back["interval"] == (-found["interval"][1], -found["interval"][0])
    assert (back["p"], back["p_sign_flip"]) == (found["p"], found["p_sign_flip"] == 2**-7 and 2**-7)


def test_where_higher_is_better_the_direction_turns() -> None:
    cells = make_cells(better_epsilon, higher_is_better=True)
    assert verdict(cells, EPSILON, X_0)["verdict"] == "contradicted"


def test_the_numbers_are_those_of_the_seeds() -> None:
    """Written out: contexts are averaged within a seed, and the seeds are the sample."""
    cells = make_cells(better_epsilon)
    found = verdict(cells, EPSILON, X_0, schedule="linear")
    by_id = {cell["id"]: cell["metrics"]["bits_per_dim"]["value"] for cell in cells}
    each = [
        math.fsum(
            by_id[f"epsilon-linear-{variance}-s{seed}"] - by_id[f"x0-linear-{variance}-s{seed}"]
            for variance in AXES["variance"]
        ) / 2
        for seed in SEEDS
    ]  # fmt: skip
    assert [item["value"] for item in found["differences"]] == pytest.approx(each, abs=1e-15)
    assert [item["seed"] for item in found["differences"]] == list(SEEDS)
    assert found["effect"] == pytest.approx(math.fsum(each) / 8, abs=1e-15)
    assert found["p"] == pytest.approx(statistics.paired_t(each), rel=1e-9)
    assert [item["context"] for item in found["context_effects"]] == [{"variance": name} for name in AXES["variance"]]


def equal(axes: dict[str, str], seed: int) -> float:
    """No difference but in single seeds: x₀ is better by 0.05 in even ones and worse by as much in odd ones."""
    return 3 + 0.1 * noise(axes["schedule"], seed) + 0.05 * (axes["prediction"] == "x0") * (-1) ** seed


def test_equal_data_are_inconclusive_or_equivalent() -> None:
    cells = make_cells(equal)
    found = verdict(cells, EPSILON, X_0)
    assert found["verdict"] == "inconclusive"
    assert found["seeds_needed"] is None or found["seeds_needed"] > 8
    assert verdict(cells, EPSILON, X_0, 0.2)["verdict"] == "supported"
    assert verdict(cells, EPSILON, X_0, 0.001)["verdict"] == "inconclusive"


def test_a_difference_beyond_the_margin_contradicts_an_equivalence() -> None:
    cells = make_cells(better_epsilon)
    found = verdict(cells, EPSILON, X_0, 0.2)
    assert (found["verdict"], found["p_sign_flip"]) == ("contradicted", 2**-7)  # both tests are of the same question
    assert verdict(cells, EPSILON, X_0, 0.8)["verdict"] == "supported"


def test_contexts_of_the_other_sign_are_named() -> None:
    def turned(axes: dict[str, str], seed: int) -> float:
        worse = -0.2 if (axes["schedule"], axes["variance"]) == ("cosine", "beta") else 0.5
        return 3 + worse * (axes["prediction"] == "x0") + 0.05 * noise(*axes.values(), seed)

    found = verdict(make_cells(turned), EPSILON, X_0)
    named = [item["context"] for item in found["context_effects"] if item["sign_differs"]]
    assert named == [{"schedule": "cosine", "variance": "beta"}]
    assert found["verdict"] == "supported"


def test_families_are_corrected_apart() -> None:
    """Two claims across trainings and one within: Holm counts two and one."""
    cells = make_cells(lambda axes, seed: 3 + noise(*axes.values(), seed))
    found = judge(
        [claim(cells, EPSILON, X_0), claim(cells, BETA, TILDE), claim(cells, EPSILON, X_0, schedule="linear")],
        cells, list(AXES),
    )  # fmt: skip
    assert [item["family"] for item in found] == [claims.ACROSS, claims.WITHIN, claims.ACROSS]
    assert [item["family_size"] for item in found] == [2, 1, 2]
    assert found[1]["p_holm"] == found[1]["p"]
    across = [found[0], found[2]]
    assert [item["p_holm"] for item in across] == statistics.holm([item["p"] for item in across])
    smaller = min(across, key=lambda item: item["p"])
    assert smaller["p_holm"] == pytest.approx(min(1, 2 * smaller["p"]))


def test_an_untestable_claim_is_in_no_family() -> None:
    cells = make_cells(better_epsilon)
    broken = claim(cells, X_0, EPSILON)
    for cell in cells:
        cell["metrics"]["fd"] = {**cell["metrics"]["bits_per_dim"], "protocol": {"rank_deficient": True}}
    found = judge([claim(cells, EPSILON, X_0), {**broken, "metric": "fd"}], cells, list(AXES))
    assert [item["verdict"] for item in found] == ["supported", "untestable"]
    assert found[0]["family_size"] == 1
    assert found[1]["p_holm"] is None
    assert found[1]["reason"] == "fd is taken from too few images for its rank"


def test_within_a_training_images_are_resampled() -> None:
    cells = make_cells(lambda axes, seed: 3 + 0.5 * (axes["variance"] == "beta_tilde"))
    images = np.random.default_rng(0).normal(0, 0.1, 200)

    def per_image(cell: dict[str, Any], metric: str) -> np.ndarray:
        return cell["metrics"][metric]["value"] + images * (2 if cell["axes"]["variance"] == "beta" else 1)

    statement = claim(cells, BETA, TILDE, schedule="linear")
    found = judge([statement], cells, list(AXES), per_image)[0]
    low, high = found["differences"][0]["image_interval"]
    # what differs between the images is `images` once: 0.1/√200 and 1.96 of it either way
    centre = -0.5 + images.mean()
    half = 1.96 * images.std(ddof=1) / math.sqrt(200)
    # the ends of 2000 resamples wobble by about 4 % of the width
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=0.1 * half)
    across = judge([claim(cells, EPSILON, X_0)], cells, list(AXES), per_image)[0]
    assert {item["image_interval"] for item in across["differences"]} == {None}


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_few_seeds_show_their_effect_and_decide_nothing(seeds: int) -> None:
    found = verdict(make_cells(better_epsilon, seeds=range(seeds)), EPSILON, X_0)
    assert found["verdict"] == "untestable"
    assert found["reason"] == f"a verdict needs 6 seeds, this has {seeds} seed{'s' if seeds > 1 else ''}"
    assert found["effect"] == pytest.approx(-0.5, abs=0.1)
    assert (found["interval"] is None) == (seeds == 1)


def test_a_missing_value_is_named() -> None:
    cells = make_cells(
        lambda axes, seed: None if (axes["prediction"], seed) == ("x0", 3) else better_epsilon(axes, seed)
    )
    found = verdict(cells, EPSILON, X_0)
    assert found["verdict"] == "untestable"
    assert found["reason"] == "bits_per_dim is missing in 4 of 64 cells: x0-linear-beta-s3: waiting"


def test_illegal_cells_leave_their_contexts() -> None:
    cells = make_cells(better_epsilon)
    for cell in cells:
        if cell["axes"]["prediction"] == "x0" and cell["axes"]["schedule"] == "cosine":
            cell["status"], cell["metrics"] = "illegal", {}
    found = verdict(cells, EPSILON, X_0)
    assert (found["verdict"], found["contexts"], found["unmatched"]) == ("supported", 2, 2)
    for cell in cells:
        if cell["axes"]["prediction"] == "x0":
            cell["status"] = "illegal"
    assert verdict(cells, EPSILON, X_0)["reason"].startswith("no cell of one side has a legal partner")


def test_every_seed_is_averaged_over_the_same_contexts() -> None:
    """Cosine in three of eight seeds, where ε is far worse: counted, those seeds alone would hold another mean."""

    def value(axes: dict[str, str], seed: int) -> float:
        return better_epsilon(axes, seed) + 9 * (axes["prediction"] == "epsilon" and axes["schedule"] == "cosine")

    cells = [cell for cell in make_cells(value) if cell["axes"]["schedule"] == "linear" or cell["seed"] < 3]
    found = verdict(cells, EPSILON, X_0)
    assert (found["verdict"], found["contexts"], found["unmatched"]) == ("supported", 2, 2)
    assert found["effect"] == pytest.approx(-0.5, abs=0.1)
    assert found == {**verdict(cells, EPSILON, X_0, schedule="linear"), "where": None, "unmatched": 2,
                     "better": found["better"], "than": found["than"]}  # fmt: skip
    # Where no context is there in every seed, nothing is fair.
    apart = [cell for cell in cells if (cell["axes"]["schedule"] == "cosine") == (cell["seed"] < 3)]
    assert verdict(apart, EPSILON, X_0)["reason"].startswith("no cell of one side has a legal partner")


def test_unequal_protocols_are_no_claim() -> None:
    cells = make_cells(better_epsilon)
    cells[-1]["metrics"]["bits_per_dim"]["protocol"] = {**PROTOCOL, "images": 100}
    found = verdict(cells, EPSILON, X_0)
    assert found["verdict"] == "untestable"
    assert "different protocols (images: 360 and 100)" in found["reason"]


def test_classes_of_other_data_are_no_claim() -> None:
    cells = make_cells(better_epsilon, protocol={**PROTOCOL, "classes_of_data": False})
    assert "classes that are not those of the data" in verdict(cells, EPSILON, X_0)["reason"]


def test_one_result_twice_is_no_claim() -> None:
    """ε unweighted and SNR-weighted are one training: their difference is 0 by construction, and says nothing."""
    cells = make_cells(better_epsilon)
    for cell in cells:
        cell["train_key"] = str(cell["seed"])
        cell["artifacts"] = {"likelihood": {"test": f"{cell['axes']['variance']}{cell['seed']}"}}
    assert "one and the same result in 32 of 32 pairs" in verdict(cells, EPSILON, X_0)["reason"]


def test_pairs_that_share_a_training_and_pairs_that_do_not_are_two_claims() -> None:
    cells = make_cells(better_epsilon)
    for cell in cells:
        if cell["axes"]["schedule"] == "cosine":
            cell["train_key"] = cell["id"]
    found = verdict(cells, BETA, TILDE)
    assert "16 of 32 pairs share a training" in found["reason"]
    assert verdict(cells, BETA, TILDE, schedule="linear")["family"] == claims.WITHIN


def test_a_parameter_of_an_axis_is_not_its_context() -> None:
    """loss.weighting moves the label of loss as well."""
    cells = make_cells(better_epsilon)
    for cell in cells:
        weighting = {"epsilon": "none", "x0": "snr"}[cell["axes"].pop("prediction")]
        cell["axes"] |= {"loss.weighting": weighting, "loss": f"simple(weighting={weighting})"}
    statement = claim(cells, {"loss.weighting": "none"}, {"loss.weighting": "snr"})
    found = judge([statement], cells, ["loss", "loss.weighting", "schedule", "variance"])[0]
    assert (found["verdict"], found["contexts"]) == ("supported", 4)


def test_records_are_json_and_keep_the_statement() -> None:
    cells = make_cells(better_epsilon)
    statement = claim(cells, EPSILON, X_0)
    found = judge([statement], cells, list(AXES))[0]
    assert {name: found[name] for name in statement} == statement
    assert json.loads(json.dumps(found, allow_nan=False))["verdict"] == "supported"
    assert found["verdict"] in claims.VERDICTS


def test_null_claims_with_common_evaluation_noise_are_rarely_decided() -> None:
    """Two null claims in each of 300 suites: evaluation noise as large as what a training does, common to the variants
    of a seed. Any false verdict in at most 5 % (+ 4·√(0.05·0.95/300) = 5 %)."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        common = {seed: random.normal() for seed in SEEDS}
        trained: dict[tuple[str, str, int], float] = {}

        def value(axes: dict[str, str], seed: int) -> float:
            which = (axes["prediction"], axes["schedule"], seed)
            return trained.setdefault(which, random.normal()) + common[seed] + random.normal()  # noqa: B023

        cells = make_cells(value)
        found = judge([claim(cells, EPSILON, X_0), claim(cells, {"schedule": "linear"}, {"schedule": "cosine"})],
                      cells, list(AXES))  # fmt: skip
        wrong += any(item["verdict"] in ("supported", "contradicted") for item in found)
    assert wrong / 300 < 0.05 + 0.05
