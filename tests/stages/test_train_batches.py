"""The batches of a training: a function of (seed, step), and of nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddpm_bench.stages._batches import Batches


def batches(seed: int = 0, total: int = 10, size: int = 4, flips: bool = False) -> Batches:
    """Image i has the levels i (left column) and i + 100 (right)."""
    left = torch.arange(total, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 1)
    return Batches(seed, torch.cat([left, left + 100], dim=3), 256, size, flips)


def drawn(chosen: Batches, steps: range) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    return [chosen.draw(step, "cpu") for step in steps]


def images(values: Tensor) -> list[int]:
    return (values.amin(dim=(1, 2, 3))).tolist()


@pytest.mark.parametrize("size", [1, 4, 10, 23])  # 4 crosses the end of an epoch, 23 holds two
def test_every_epoch_is_a_permutation_of_its_own(size: int) -> None:
    order = [i for values, *_ in drawn(batches(size=size), range(-(-40 // size))) for i in images(values)][:40]
    epochs = [order[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_order_of_images_does_not_depend_on_the_batch_size() -> None:
    orders = [
        [i for values, *_ in drawn(batches(size=size), range(60 // size)) for i in images(values)] for size in (3, 4)
    ]
    assert orders[0] == orders[1]


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    once = drawn(batches(flips=True), range(9))
    chosen = batches(flips=True)
    for step in (8, 2, 3, 2):
        for got, want in zip(chosen.draw(step, "cpu"), once[step], strict=True):
            assert torch.equal(got, want)


def test_what_t_is_made_of_is_uniform_and_eps_is_normal() -> None:
    found = drawn(batches(size=50), range(40))
    unit, eps = torch.cat([unit for _, _, unit, _ in found]), torch.cat([eps for *_, eps in found]).double()
    assert unit.dtype == torch.float64
    assert 0 < float(unit.min()) < float(unit.max()) < 1
    counts = torch.bincount((7 * unit).long(), minlength=7)
    # 2000 draws of 7 values: each count is 285.7 ± 15.6; five of those.
    assert (counts - 2000 / 7).abs().max() < 5 * math.sqrt(2000 / 7 * (1 - 1 / 7))
    n = eps.numel()  # 8000
    assert abs(float(eps.mean())) < 5 / math.sqrt(n)
    assert abs(float(eps.square().mean()) - 1) < 5 * math.sqrt(2 / n)
    assert eps.unique().numel() == pytest.approx(n, abs=2)  # no draw twice: 32 bits meet by chance 0.007 times


def test_flips_are_half_of_the_images_and_keyed() -> None:
    straight, flipped = drawn(batches(size=50), range(20)), drawn(batches(size=50, flips=True), range(20))
    count = 0
    for (before, *_), (after, x_0, _, _) in zip(straight, flipped, strict=True):
        turned = after[:, 0, 0, 0] != before[:, 0, 0, 0]
        assert torch.equal(after[~turned], before[~turned])
        assert torch.equal(after[turned], before[turned].flip(-1))  # width, not height: the columns change places
        # The network sees what the decoder is asked for; a product near 2 in float32 is rounded by 1.2e-7 at most.
        assert (x_0 - (after.double() * 2 / 255 - 1)).abs().max() < 2.4e-7
        count += int(turned.sum())
    assert abs(count - 500) < 5 * math.sqrt(250)
    assert count not in (0, 1000)


def test_flips_leave_the_other_draws_alone() -> None:
    (_, _, unit, eps), (_, _, unit_flipped, eps_flipped) = (
        batches(flips=flips).draw(3, "cpu") for flips in (False, True)
    )
    assert torch.equal(unit, unit_flipped)
    assert torch.equal(eps, eps_flipped)


def test_seeds_share_nothing() -> None:
    first, second = (drawn(batches(seed, size=100, flips=True), range(3)) for seed in (0, 1))
    for (values, _, unit, eps), (other_values, _, other_unit, other_eps) in zip(first, second, strict=True):
        assert not torch.equal(values, other_values)
        assert not (unit == other_unit).any()
        assert not (eps == other_eps).any()
        # The correlation of 400 independent pairs is 0 ± 1/√400.
        assert abs(float((eps * other_eps).mean())) < 5 / math.sqrt(eps.numel())
    orders = [[images(values) for values, *_ in found] for found in (first, second)]
    assert orders[0] != orders[1]


def test_real_values_are_not_scaled() -> None:
    values = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    got, x_0, _, _ = Batches(0, values, None, 5, False).draw(0, "cpu")
    assert torch.equal(got, x_0)
    assert torch.equal(got.flatten().sort().values, values.flatten().sort().values)
