"""Which steps are kept."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_bench.diffusion.respacing import SPACINGS, kept_timesteps, respace
from ddpm_bench.registry import get


def half_up(value: Fraction) -> int:
    """The nearest integer, halves upwards, in exact arithmetic."""
    return (2 * value + 1).__floor__() // 2


def written_again(spacing: str, total: int, steps: int) -> list[int]:
    """The kept t in exact fractions."""
    if spacing == "linspace":
        return [half_up(1 + Fraction(i * (total - 1), steps - 1)) for i in range(steps)] if steps > 1 else [total]
    if spacing == "leading":
        return [1 + i * (total // steps) for i in range(steps)]
    assert spacing == "trailing"
    return sorted(half_up(total - Fraction(i * total, steps)) for i in range(steps))


@settings(deadline=None, derandomize=True)
@given(spacing=st.sampled_from(["linspace", "leading", "trailing"]), total=st.integers(1, 400), data=st.data())
def test_kept_timesteps_follow_their_formula(spacing, total, data):
    steps = data.draw(st.integers(1, total))
    kept = kept_timesteps(spacing, total, steps)
    assert kept.dtype == torch.int64
    # Only a half that float64 misses by a rounding could differ: total·i/steps with a denominator of 2 is exact.
    assert kept.tolist() == written_again(spacing, total, steps)
    assert len(set(kept.tolist())) == steps
    assert kept[0] >= 1
    assert kept[-1] <= total


@pytest.mark.parametrize(
    ("spacing", "num_steps", "kept"),
    [
        ("linspace", 1, [1000]),
        ("linspace", 2, [1, 1000]),
        ("linspace", 5, [1, 251, 501, 750, 1000]),
        ("leading", 1, [1]),
        ("leading", 4, [1, 251, 501, 751]),
        ("trailing", 1, [1000]),
        ("trailing", 4, [250, 500, 750, 1000]),
        ("trailing", 3, [333, 667, 1000]),
        ("quadratic", 1, [1000]),
        ("quadratic", 2, [1, 801]),
        ("quadratic", 5, [1, 51, 201, 451, 801]),
    ],
)
def test_kept_timesteps_of_1000(spacing, num_steps, kept):
    assert kept_timesteps(spacing, 1000, num_steps).tolist() == kept


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [0, -1, 11])
def test_too_few_or_too_many_steps_are_refused(spacing, num_steps):
    with pytest.raises(ValueError, match="is not between 1 and the 10 steps"):
        kept_timesteps(spacing, 10, num_steps)


def test_quadratic_spacing_refuses_duplicates_and_steps_past_the_end():
    with pytest.raises(ValueError, match="cannot choose 50 different steps of 1000"):
        kept_timesteps("quadratic", 1000, 50)
    with pytest.raises(ValueError, match="cannot choose 2 different steps of 2"):
        kept_timesteps("quadratic", 2, 2)  # 1 + 1.6 rounds to 3


def test_all_steps_are_the_full_chain():
    full = get("schedules", "linear")().process(100)
    for spacing in ("linspace", "leading", "trailing"):
        assert respace(full, kept_timesteps(spacing, 100, 100)) is full
