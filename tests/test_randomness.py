"""Random numbers that depend on (seed, purpose, step, index) and on nothing else."""

from __future__ import annotations

import hashlib
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ddpm_bench.randomness import Stream, _to_unit, derive_seed, philox
from tests import oracles

WORD = st.integers(0, 2**32 - 1)


def words(counter, key) -> tuple[int, ...]:
    return tuple(int(word) for word in philox([torch.tensor([c]) for c in counter], key))


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers_of_philox_4x32_10(counter, key, expected):
    """The vectors published with the generator (Random123, kat_vectors)."""
    assert words(counter, key) == tuple(int(word, 16) for word in expected.split())
    assert oracles.philox_4x32_10(counter, key) == words(counter, key)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(counter=st.tuples(WORD, WORD, WORD, WORD), key=st.tuples(WORD, WORD))
def test_philox_is_the_same_on_unbounded_integers(counter, key):
    assert words(counter, key) == oracles.philox_4x32_10(counter, key)


def key_of(seed: int, purpose: str) -> tuple[int, int]:
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


@settings(deadline=None, derandomize=True, max_examples=100)
@given(seed=st.integers(0, 10**6), step=st.integers(0, 2**32 - 1), index=st.integers(0, 2**62), size=st.integers(1, 9))
def test_draws_are_the_words_of_their_counter(seed, step, index, size):
    """(block, step, low and high half of the index): Box-Muller and 52 bits, from Python's own arithmetic."""
    stream, which = Stream(seed, "noise"), torch.tensor([index])
    uniform, normal = [], []
    for block in range(size):
        w = oracles.philox_4x32_10((block, step, index % 2**32, index >> 32), key_of(seed, "noise"))
        uniform += [((high << 20 | low >> 12) + 0.5) / 2**52 for high, low in (w[:2], w[2:])]
        for a, b in (w[:2], w[2:]):
            radius, angle = math.sqrt(-2 * math.log((a + 0.5) / 2**32)), 2 * math.pi * (b + 0.5) / 2**32
            normal += [radius * math.cos(angle), radius * math.sin(angle)]
    assert stream.uniform(step, which, size).flatten().tolist() == uniform[:size]
    # float32 roundings of numbers up to 6.8.
    assert stream.normal(step, which, (size,)).flatten().tolist() == pytest.approx(normal[:size], rel=1e-7, abs=1e-9)


def test_an_image_does_not_depend_on_its_batch():
    stream, index, shape = Stream(0, "x_T"), torch.arange(300), (3, 5, 7)
    together = stream.normal(4, index, shape)
    assert together.shape == (300, 3, 5, 7)
    assert together.dtype == torch.float32
    for sizes in ([1] * 300, [7] * 43, [128, 128, 44]):
        parts = [stream.normal(4, part, shape) for part in index.split(sizes if sum(sizes) == 300 else sizes[0])]
        assert torch.equal(torch.cat(parts), together)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stream.normal(4, order, shape), together[order])
    uniform = stream.uniform(4, index, 5)
    assert uniform.dtype == torch.float64
    assert torch.equal(torch.cat([stream.uniform(4, part, 5) for part in index.split(11)]), uniform)


def test_one_step_for_all_or_one_for_each():
    stream, index = Stream(3, "eps"), torch.tensor([5, 5, 9])
    steps = torch.tensor([0, 7, 7])
    mixed = stream.normal(steps, index, (4,))
    for row, step, i in zip(mixed, steps, index, strict=True):
        assert torch.equal(row, stream.normal(int(step), i.reshape(1), (4,))[0])


def test_a_longer_draw_begins_with_the_shorter_one():
    stream, index = Stream(0, "t"), torch.arange(10)
    assert torch.equal(stream.normal(0, index, (11,))[:, :6], stream.normal(0, index, (6,)))
    assert torch.equal(stream.uniform(0, index, 7)[:, :2], stream.uniform(0, index, 2))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Stream(0, "x").normal(0, torch.arange(5), (3,))
    assert torch.equal(torch.rand(3), expected)


def test_moments_and_distribution_of_normal_draws():
    n = 2_000_000
    draws = Stream(0, "eps").normal(0, torch.arange(n // 50), (50,)).double().flatten()
    # Standard errors for N(0, 1): mean 1/√n, variance √(2/n), third moment √(15/n), fourth √(96/n); four of them.
    for moment, expected, spread in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(float((draws**moment).mean()) - expected) < 4 * math.sqrt(spread / n)
    assert stats.kstest(draws[::10].numpy(), "norm").pvalue > 1e-4
    # Beyond 4.5 there are 13.6 expected of two million; beyond √(2 · 33 ln 2) = 6.76 none are possible.
    assert 2 <= int((draws.abs() > 4.5).sum()) <= 30


def test_uniform_draws_are_uniform_and_inside():
    draws = Stream(0, "t").uniform(0, torch.arange(200_000), 3).flatten()
    assert float(draws.min()) > 0
    assert float(draws.max()) < 1
    assert stats.kstest(draws.numpy(), "uniform").pvalue > 1e-4
    counts = torch.bincount((draws * 1000).long(), minlength=1000)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_uniform_never_reaches_its_ends():
    """With 53 bits the last cell's middle, 1 − 2⁻⁵⁴, rounds to 1, and ⌊u T⌋ is no step any more."""
    top = torch.tensor([2**32 - 1])
    assert float(_to_unit(top, top)) == 1 - 2**-53
    assert float(_to_unit(top * 0, top * 0)) == 2**-53


def test_streams_do_not_repeat_each_other():
    """Draws that differ in the seed, the purpose, the step or the index are uncorrelated; equal ones are equal."""
    n = 100_000
    base = {"seed": 0, "purpose": "eps", "step": 0, "offset": 0}
    changes = [{}, {"seed": 1}, {"purpose": "z"}, {"step": 1}, {"step": 2**31}, {"offset": n}, {"offset": 2**32}]
    drawn = []
    for change in changes:
        c = {**base, **change}
        index = torch.arange(n // 10) + c["offset"]
        drawn.append(Stream(c["seed"], c["purpose"]).normal(c["step"], index, (10,)).double().flatten())
    for one, other in itertools.combinations(drawn, 2):
        # The correlation of independent normals has the standard error 1/√n; 21 pairs stay below 4.5 of them, and
        # so do their squares, whose correlation has the same.
        for f in (lambda x: x, torch.square):
            correlation = float(torch.corrcoef(torch.stack([f(one), f(other)]))[0, 1])
            assert abs(correlation) < 4.5 / math.sqrt(n)
    again = Stream(0, "eps").normal(0, torch.arange(n // 10), (10,)).double().flatten()
    assert torch.equal(again, drawn[0])


def test_neighbouring_draws_are_uncorrelated():
    draws = Stream(0, "eps").normal(0, torch.arange(20_000), (12,)).double()
    correlation = torch.corrcoef(draws.T) - torch.eye(12, dtype=torch.float64)
    assert float(correlation.abs().max()) < 4.5 / math.sqrt(20_000)
    lagged = torch.corrcoef(torch.stack([draws[:-1].flatten(), draws[1:].flatten()]))[0, 1]
    assert abs(float(lagged)) < 4 / math.sqrt(draws.numel())


def test_derived_seeds():
    seeds = {derive_seed(s, p, k) for s in range(20) for p in ("init", "split") for k in range(20)}
    assert len(seeds) == 800
    assert all(0 <= seed < 2**63 for seed in seeds)
    digest = hashlib.sha256(b"7/split/2").digest()
    assert derive_seed(7, "split", 2) == int.from_bytes(digest[:8], "little") // 2
    assert derive_seed(7, "split") == derive_seed(7, "split", 0)
    torch.Generator().manual_seed(max(seeds))
