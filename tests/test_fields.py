"""Typed values from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_bench import fields
from ddpm_bench.diffusion.losses import Loss
from ddpm_bench.diffusion.losses.simple import Simple
from ddpm_bench.diffusion.losses.vlb import Vlb
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.schedules.cosine import Cosine
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.diffusion.variances.beta import Beta
from ddpm_bench.diffusion.weightings.snr import Snr
from ddpm_bench.errors import require


@dataclass(frozen=True, kw_only=True)
class Table:
    """One field of every kind."""

    count: int
    rate: float = 0.5
    on: bool = False
    word: str = "w"
    choice: Literal["ab", "cd"] = "ab"
    some: int | Literal["all"] = "all"
    maybe: float | None = None
    sizes: tuple[int, ...] = (1,)
    picks: tuple[Literal["x", "y"], ...] = ()
    schedule: Schedule = field(default_factory=Cosine)
    variance: Variance | None = None

    def __post_init__(self) -> None:
        require(self.count > 0, "count", f"must be positive, got {self.count}")


def build(text: str) -> tuple[Any, list[tuple[str, str]]]:
    problems: list[tuple[str, str]] = []
    return fields.build(Table, tomllib.loads(text), "t", lambda *problem: problems.append(problem)), problems


def test_every_kind_of_value():
    built, problems = build(
        'count = 3\nrate = 2\non = true\nword = "z"\nchoice = "cd"\nsome = 7\nmaybe = 1\nsizes = [2, 3]\n'
        'picks = ["y"]\n'
        'schedule = {name = "cosine", s = 1}\nvariance = "beta"'
    )
    assert not problems
    assert built == Table(
        count=3,
        rate=2.0,
        on=True,
        word="z",
        choice="cd",
        some=7,
        maybe=1.0,
        sizes=(2, 3),
        picks=("y",),
        schedule=Cosine(s=1.0),
        variance=Beta(),
    )
    assert (type(built.rate), type(built.maybe), type(built.schedule.s)) == (float, float, float)


@pytest.mark.parametrize(
    ("line", "path", "text"),
    [
        ('count = "3"', "t.count", 'expected an integer, got the string "3"'),
        ("count = 3.0", "t.count", "expected an integer, got the number 3.0"),
        ("count = true", "t.count", "expected an integer, got the boolean true"),
        ("count = 0", "t.count", "must be positive, got 0"),
        ("", "t", '"count" is missing'),
        ("count = 1\nrate = true", "t.rate", "expected a number, got the boolean true"),
        ("count = 1\nrate = inf", "t.rate", "expected a finite number, got inf"),
        ("count = 1\nrate = nan", "t.rate", "expected a finite number, got nan"),
        ("count = 1\non = 1", "t.on", "expected true or false, got the integer 1"),
        ("count = 1\nword = 1", "t.word", "expected a string, got the integer 1"),
        ("count = 1\nword = [1]", "t.word", "expected a string, got the list [1]"),
        ("count = 1\nword = {a = 1}", "t.word", "expected a string, got the table {a = 1}"),
        ('count = 1\nchoice = "abc"', "t.choice", 'unknown value "abc"; did you mean "ab"?'),
        ("count = 1\nchoice = 3", "t.choice", '3 is not one of "ab", "cd"'),
        ('count = 1\nsome = "al"', "t.some", 'expected an integer or "all", got the string "al"; did you mean "all"?'),
        ('count = 1\nsome = "x"', "t.some", 'expected an integer or "all", got the string "x"'),
        ("count = 1\nsome = [1, 2]", "t.some", 'expected an integer or "all", got the list [1, 2]'),
        ("count = 1\nsizes = 3", "t.sizes", "expected a list, got the integer 3"),
        ('count = 1\nsizes = [3, "x"]', "t.sizes[1]", 'expected an integer, got the string "x"'),
        ('count = 1\npicks = ["x", "z"]', "t.picks[1]", 'unknown value "z"; known: x, y'),
        ("count = 1\ncuont = 2", "t.cuont", 'unknown key; did you mean "count"?'),
        ("count = 1\nschedule = 3", "t.schedule", "expected a name or a table {name = …}, got the integer 3"),
        ("count = 1\nschedule = {s = 3}", "t.schedule", "expected a name or a table {name = …}, got the table {s = 3}"),
        ('count = 1\nschedule = "cosin"', "t.schedule", 'unknown schedule "cosin"; did you mean "cosine"?'),
        ('count = 1\nschedule = {name = "cosine", s = -1}', "t.schedule.s", "must be positive, got -1.0"),
        ('count = 1\nschedule = {name = "cosine", x = 1}', "t.schedule.x", "unknown key; known: max_beta, s"),
        ('count = 1\nvariance = "bet"', "t.variance", 'unknown variance "bet"; did you mean "beta"?'),
    ],
)
def test_what_is_wrong(line, path, text):
    built, problems = build(line)
    assert built is fields.Invalid
    assert problems[0][0] == path
    assert problems[0][1].startswith(text)
    assert len(problems) == 1


def test_all_problems_are_reported_also_those_inside_an_optional_entry():
    built, problems = build('count = "x"\nz = 1\nsizes = ["a", 1, "b"]\nvariance = {name = "beta", p = 1, q = 2}')
    assert built is fields.Invalid
    assert [path for path, _ in problems] == [
        "t.count",
        "t.z",
        "t.sizes[0]",
        "t.sizes[2]",
        "t.variance.p",
        "t.variance.q",
    ]


def test_entries_hold_entries():
    problems: list[Any] = []
    table = tomllib.loads('loss = {name = "simple", weighting = {name = "snr"}}')["loss"]
    assert fields.coerce(Loss, table, "loss", lambda *p: problems.append(p)) == Simple(weighting=Snr())
    assert fields.coerce(Loss, {"name": "vlb", "variance": "beta"}, "loss", lambda *p: problems.append(p)) == Vlb(
        variance=Beta()
    )
    assert not problems


def test_an_entry_stays_what_it_is():
    entry = Cosine(s=0.5)
    assert fields.entry("schedules", entry, "x", lambda *_: None) is entry


values = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(fields.hints(Table))), values)
def test_whatever_stands_there_is_taken_as_it_is_or_reported(name, value):
    """No value raises, none is converted silently except an integer that becomes a number."""
    problems: list[Any] = []
    kind = fields.hints(Table)[name]
    result = fields.coerce(kind, value, "p", lambda *problem: problems.append(problem))
    assert (result is fields.Invalid) == bool(problems)
    if result is fields.Invalid or isinstance(result, Schedule | Variance):
        return
    expected = tuple(value) if isinstance(value, list) else value
    assert result == expected
    assert type(result) is type(expected) or (type(expected) is int and type(result) is float)


@given(
    st.recursive(
        st.booleans() | st.integers() | st.sampled_from(["a", "b c"]), lambda inner: st.lists(inner, max_size=3)
    )
)
def test_values_are_shown_as_toml(value):
    assert tomllib.loads(f"x = {fields.show(value)}")["x"] == value
