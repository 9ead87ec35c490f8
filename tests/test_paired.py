"""Paired differences of two cells."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import ddpm_bench as db
from ddpm_bench.errors import UserError
from ddpm_bench.paired import PairedDifference
from ddpm_bench.records import ResultCell
from tests.conftest import FinishedRun
from tests.support import TINY

pytestmark = pytest.mark.xdist_group("runs")

NAMES = ("epsilon-beta-cosine-simple-s0", "epsilon-beta_tilde-cosine-simple-s0", "x0-beta-cosine-simple-s0")


def cells(run: FinishedRun) -> dict[str, ResultCell]:
    return {cell.id: cell for cell in db.results("tiny", runs=run.runs).cells}


def per_image(run: FinishedRun, cell: ResultCell) -> np.ndarray:
    terms: np.ndarray = np.load(run.runs / cell.artifacts["likelihood"]["test"] / "per_image.npy")
    return terms.sum(1)


def test_it_is_the_difference_of_the_values_with_the_error_of_differences(finished_tiny: FinishedRun) -> None:
    found = cells(finished_tiny)
    first, second = found[NAMES[0]], found[NAMES[1]]
    got = first.difference(second)
    assert (got.first, got.second, got.split, got.num_images) == (*NAMES[:2], "test", 24)
    values = [cell.metrics["bits_per_dim"]["value"] for cell in (first, second)]
    assert got.value == pytest.approx(values[0] - values[1], abs=1e-12)
    each = [a - b for a, b in zip(*(per_image(finished_tiny, cell) for cell in (first, second)), strict=True)]
    mean = math.fsum(each) / 24
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in each) / 23 / 24)
    assert got.stderr == pytest.approx(error, rel=1e-9)
    # 97.5 % quantile of the standard normal distribution
    assert got.interval == pytest.approx((got.value - 1.959964 * error, got.value + 1.959964 * error), rel=1e-6)


def test_what_both_pay_alike_cancels(finished_tiny: FinishedRun) -> None:
    """β and β̃ of one network see the same errors: their difference is surer than that of independent values."""
    first, second = (cells(finished_tiny)[name] for name in NAMES[:2])
    got, own = first.difference(second), [cell.metrics["bits_per_dim"] for cell in (first, second)]
    assert got.stderr_noise is not None
    assert got.stderr < 0.8 * math.hypot(*(record["stderr"] for record in own))
    assert got.stderr_noise < 0.8 * math.hypot(*(record["stderr_noise"] for record in own))
    assert first.difference(first) == PairedDifference(first.id, first.id, "test", 0.0, 0.0, 0.0, 24)


def test_reversed_it_changes_its_sign_alone(finished_tiny: FinishedRun) -> None:
    first, second = (cells(finished_tiny)[name] for name in (NAMES[0], NAMES[2]))
    there, back = first.difference(second), second.difference(first)
    assert there.value == -back.value
    assert (there.stderr, there.stderr_noise) == (back.stderr, back.stderr_noise)


def test_other_noise_has_no_paired_error(finished_tiny: FinishedRun) -> None:
    first, second = (cells(finished_tiny)[name] for name in NAMES[:2])
    reseeded = dataclasses.replace(second, record={**second.record, "seed": 1})
    assert first.difference(reseeded).stderr_noise is None
    assert first.difference(reseeded).stderr == first.difference(second).stderr


def test_what_cannot_be_paired_is_refused(tiny: FinishedRun) -> None:
    found = cells(tiny)
    first = found[NAMES[0]]
    with pytest.raises(UserError, match="has no likelihood of the train split"):
        first.difference(found[NAMES[1]], "train")
    tiny.again(TINY.replace("images = 24", "images = 12"))
    with pytest.raises(UserError, match="different images of the test split"):
        first.difference(cells(tiny)[NAMES[1]])
