"""How training draws t: against deques of Python numbers, and by exact sums."""

from __future__ import annotations

import math
from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm_bench.diffusion.time_sampling import LossSecondMoment, TimeSampler


def grid(count: int) -> Tensor:
    """The midpoints of equal cells of (0, 1)."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def second_moment(histories: list[list[float]]) -> LossSecondMoment:
    """A sampler that has seen these losses at each t, one step after the other."""
    sampler = LossSecondMoment(len(histories))
    for t, losses in enumerate(histories):
        for loss in losses:
            sampler.update(torch.tensor([t]), torch.tensor([loss], dtype=torch.float64))
    return sampler


def by_hand(histories: list[list[float]]) -> list[float]:
    """p_t ∝ √(mean of the last ten squares), a thousandth of it uniform."""
    root = [math.sqrt(sum(loss**2 for loss in losses[-10:]) / 10) for losses in histories]
    return [0.999 * value / sum(root) + 0.001 / len(root) for value in root]


@pytest.mark.parametrize("num_timesteps", [1, 2, 7, 1000])
def test_uniform_t(num_timesteps: int) -> None:
    sampler, unit = TimeSampler(num_timesteps), grid(4321)
    t, weight = sampler.sample(unit)
    assert t.dtype == torch.int64
    assert t.tolist() == [math.floor(u * num_timesteps) for u in unit.tolist()]
    assert weight is None
    sampler.update(t, torch.rand(4321, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(sampler.sample(unit)[0], t)
    assert sampler.state() == {}


HISTORIES = [
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0],
    [100.0, 100.0, *[0.5, -0.5] * 5],  # the two hundreds are forgotten; the sign does not matter
    [0.0] * 10,  # still drawn, by the uniform part
    [math.pi] * 23,
]


def test_probabilities_of_a_history_made_by_hand() -> None:
    sampler, want = second_moment(HISTORIES), by_hand(HISTORIES)
    assert sampler.probabilities().tolist() == pytest.approx(want, rel=1e-13)
    unit = grid(100_000)
    t, weight = sampler.sample(unit)
    # A cell of the grid on each side of every boundary may go either way.
    shares = (torch.bincount(t, minlength=4) / len(unit)).tolist()
    assert shares == pytest.approx(want, abs=2 / len(unit))
    assert torch.all(t.diff() >= 0)  # the inverse of the cumulated probabilities rises
    assert weight is not None
    assert weight.tolist() == pytest.approx([1 / (4 * want[i]) for i in t.tolist()], rel=1e-13)
    assert float(weight.max()) == pytest.approx(1000, rel=1e-12)  # what the uniform part is for


def test_weighted_losses_have_the_mean_over_t() -> None:
    """E over t ~ p_t of L_t/(T p_t) is the mean of L_t, whatever L."""
    sampler, unit = second_moment(HISTORIES), grid(200_000)
    t, weight = sampler.sample(unit)
    assert weight is not None
    for losses in ([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 5.0, 0.0], [3.0, -1.0, 4.0, 1.0]):
        found = float((weight * torch.tensor(losses, dtype=torch.float64)[t]).mean())
        # Each t is drawn by a share of the grid that is off by two cells at most, with weights of 1000 at most.
        bound = sum(2 / len(unit) * abs(loss) / (4 * p) for loss, p in zip(losses, by_hand(HISTORIES), strict=True))
        assert found == pytest.approx(sum(losses) / 4, abs=bound)
        assert bound < 0.02 * max(map(abs, losses))  # and the test could fail: uniform t would be off by far more
    plain = float(torch.tensor([3.0, -1.0, 4.0, 1.0], dtype=torch.float64)[t].mean())
    assert abs(plain - 7 / 4) > 0.1


def test_uniform_until_every_t_has_ten() -> None:
    sampler, unit = second_moment([[1.0] * 50, [5.0] * 9, [2.0] * 10]), grid(999)
    t, weight = sampler.sample(unit)
    assert torch.equal(t, TimeSampler(3).sample(unit)[0])
    assert weight is not None
    assert (weight == 1).all()
    sampler.update(torch.tensor([1]), torch.tensor([5.0]))
    t, weight = sampler.sample(unit)
    assert sampler.probabilities().tolist() == pytest.approx(by_hand([[1.0] * 10, [5.0] * 10, [2.0] * 10]))
    assert not torch.equal(t, TimeSampler(3).sample(unit)[0])
    assert weight is not None
    assert not (weight == 1).any()


def test_one_t_is_always_that_t_with_weight_one() -> None:
    t, weight = second_moment([[3.0] * 12]).sample(grid(9))
    assert (t == 0).all()
    assert weight is not None
    assert weight.tolist() == pytest.approx([1.0] * 9, rel=1e-15)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from([0.5, 1.0, -2.0, 7.0, 1e30, math.nan, math.inf, -math.inf])),
            min_size=1, max_size=40,
        ),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_the_last_ten_finite_losses_of_each_t(steps: list[list[tuple[int, float]]]) -> None:
    """Steps with none, one, or more than ten images of a t; what is not finite is as if it had not been."""
    sampler, want = LossSecondMoment(3), [deque(maxlen=10) for _ in range(3)]
    for step in steps:
        sampler.update(torch.tensor([t for t, _ in step]), torch.tensor([loss for _, loss in step]))
        for t, loss in step:
            if math.isfinite(loss):
                want[t].append(float(torch.tensor(loss)))  # float32
    state = sampler.state()
    counts = [sum(t == i and math.isfinite(loss) for step in steps for t, loss in step) for i in range(3)]
    assert state["counts"].tolist() == counts
    for i in range(3):
        filled = len(want[i])
        assert sorted(state["losses"][i].tolist()) == sorted([*want[i], *[0.0] * (10 - filled)])
    warm = all(len(losses) == 10 for losses in want)
    t, weight = sampler.sample(grid(50))
    assert 0 <= int(t.min()) <= int(t.max()) <= 2
    assert weight is not None
    assert torch.isfinite(weight).all()
    if warm:
        expected = by_hand([list(losses) for losses in want])
        assert sampler.probabilities().tolist() == pytest.approx(expected, rel=1e-12)


def test_a_state_restored_draws_the_same() -> None:
    """Also in the middle of a ring, where the next loss must replace the oldest."""
    generator = torch.Generator().manual_seed(0)
    sampler, other = LossSecondMoment(5), LossSecondMoment(5)
    for _ in range(20):
        t = torch.randint(5, (7,), generator=generator)
        sampler.update(t, torch.rand(7, generator=generator) * (t + 1))
    other.restore({name: value.clone() for name, value in sampler.state().items()})
    for _ in range(5):
        unit, losses = grid(7), torch.rand(7, generator=generator)
        (t, weight), (other_t, other_weight) = sampler.sample(unit), other.sample(unit)
        assert torch.equal(t, other_t)
        assert weight is not None
        assert other_weight is not None
        assert torch.equal(weight, other_weight)
        sampler.update(t, losses)
        other.update(t, losses)
    assert torch.equal(sampler.state()["losses"], other.state()["losses"])


@pytest.mark.parametrize("sampler", [TimeSampler(7, "meta"), LossSecondMoment(7, "meta")])
def test_no_draw_looks_at_a_value(sampler: TimeSampler) -> None:
    """Meta tensors have none: what reads one, and on a GPU would wait for it every step, fails here."""
    unit = torch.rand(5, dtype=torch.float64, device="meta")
    for _ in range(2):
        t, weight = sampler.sample(unit)
        assert t.shape == (5,)
        assert weight is None or weight.shape == (5,)
        sampler.update(t, torch.rand(5, device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        t.tolist()
