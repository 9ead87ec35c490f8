"""Selectors: what matches what, and what is wrong with the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_bench.keys import SHORT, Mistaken
from ddpm_bench.matrix import Point, matrix_points, read_axes, read_base
from ddpm_bench.selectors import parse, parse_only, select

TABLES: dict[str, Any] = {
    "dataset": {"name": "digits"},
    "network": {"name": "unet", "channels": 16},
    "training": {"learning_rate": 1e-3},
}
MATRIX: dict[str, Any] = {
    "prediction": ["epsilon", "x0"],
    "schedule": ["linear", {"name": "cosine", "s": 0.01}],
    "loss": ["simple", {"name": "simple", "weighting": "snr"}, "vlb", {"name": "vlb", "variance": "beta_tilde"}],
    "network": {"channels": [16, 32]},
    "seed": [0, 1],
}


def make_points(matrix: dict[str, Any] = MATRIX, tables: dict[str, Any] = TABLES) -> list[Point]:
    problems: list[str] = []
    base = read_base(tables, lambda path, text: problems.append(f"{path}: {text}"))
    axes = read_axes(matrix, base, lambda path, text: problems.append(f"{path}: {text}"))
    points = matrix_points(base, axes, lambda path, text: problems.append(f"{path}: {text}"))
    assert not problems
    return points


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return make_points()


def count(table: Any, points: list[Point]) -> int:
    selector = parse(table, "s", points, lambda path, text: pytest.fail(f"{path}: {text}"))
    assert selector is not None
    return sum(selector.matches(point) for point in points)


# 2 predictions × 2 schedules × 4 losses × 2 widths × 2 seeds = 64 cells.
@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"prediction": "epsilon"}, 32),
        ({"diffusion": {"prediction": "epsilon"}}, 32),
        ({"diffusion.prediction": "epsilon"}, 32),
        ({"schedule": "cosine"}, 32),
        ({"schedule": {"name": "cosine"}}, 32),
        ({"schedule": {"name": "cosine", "s": 0.01}}, 32),
        ({"schedule": {"name": "cosine", "s": 0.008}}, 0),
        ({"schedule": {"name": "cosine", "max_beta": 0.999}}, 32),  # a default counts as given
        ({"schedule": {"s": 0.01}}, 32),
        ({"loss": "simple"}, 32),
        ({"loss": {"name": "simple", "weighting": "snr"}}, 16),
        ({"loss": {"name": "simple", "weighting": "none"}}, 16),
        ({"loss": {"name": "simple", "weighting": {"name": "none"}}}, 16),
        ({"loss": {"weighting": "snr"}}, 16),
        ({"loss.weighting": "snr"}, 16),
        ({"loss": {"name": "vlb", "variance": "beta_tilde"}}, 16),
        ({"network": "unet"}, 64),
        ({"network": {"channels": 32}}, 32),
        ({"network.channels": 32, "seed": 1, "prediction": "x0"}, 8),
        ({"variance": "beta"}, 64),
        ({"training": {"learning_rate": 1e-3, "steps": 1000}}, 64),
        ({"training.steps": 7}, 0),
        ({"thresholding": "clip"}, 64),  # left out: digits have levels
        ({"thresholding": "none"}, 0),
        ({"sampling_steps": "all", "timesteps": 1000}, 64),
        ({"seed": 0}, 32),
        ({"seed": 2}, 0),
    ],
)
def test_what_matches(points, table, expected):
    assert count(table, points) == expected


def test_whole_numbers_match_numbers():
    points = make_points({"training": {"learning_rate": [1, 2.0]}})
    assert count({"training.learning_rate": 1.0}, points) == 1
    assert count({"training.learning_rate": 2}, points) == 1


def test_thresholding_left_out_is_none_for_data_without_levels():
    points = make_points({}, {"dataset": {"name": "gaussian"}})
    assert count({"thresholding": "none"}, points) == 1


@pytest.mark.parametrize(
    ("table", "path", "text"),
    [
        ({"predicton": "x0"}, "s.predicton", 'unknown key; did you mean "prediction"?'),
        ({"dataset": "digits"}, "s.dataset", "unknown key"),
        ({"evaluation": {"samples": 3}}, "s.evaluation", "unknown key"),
        ({"training": {"stepz": 3}}, "s.training.stepz", 'unknown key; did you mean "training.steps"?'),
        ({"prediction": "x00"}, "s.prediction", 'unknown prediction "x00"; did you mean "x0"?'),
        ({"prediction": ["x0", "epsilon"]}, "s.prediction", "expected a name or a table"),
        ({"loss": {"name": "simple", "weight": "snr"}}, "s.loss.weight", 'unknown key; did you mean "weighting"?'),
        ({"loss": {"weight": "snr"}}, "s.loss.weight", 'unknown key; did you mean "weighting"?'),
        (
            {"loss": {"name": "simple", "weighting": "snrr"}},
            "s.loss.weighting",
            'unknown weighting "snrr"; did you mean "snr"?',
        ),
        ({"schedule": {"name": "cosine", "s": "x"}}, "s.schedule.s", 'expected a number, got the string "x"'),
        ({"seed": "0"}, "s.seed", 'expected an integer, got the string "0"'),
        ({"seed": True}, "s.seed", "expected an integer, got the boolean true"),
        ({"timesteps.x": 1}, "s.timesteps.x", "timesteps has no parameters: it is a value, not an entry"),
        ({"network": {}}, "s.network", "expected a name or a table"),
        ({"training": {}}, "s.training", "unknown key"),
        ({}, "s", "is empty: it would select everything"),
        ("x0", "s", "expected a table of short names or dotted keys"),
    ],
)
def test_what_is_wrong_with_a_selector(points, table, path, text):
    problems: list[tuple[str, str]] = []
    assert parse(table, "s", points, lambda *problem: problems.append(problem)) is None
    assert len(problems) == 1
    assert problems[0][0] == path
    assert problems[0][1].startswith(text)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"prediction": "mu"}, "matches no cell: prediction is epsilon or x0 here"),
        ({"seed": 5, "prediction": "x0"}, "matches no cell: seed is 0 or 1 here"),
        ({"schedule": {"name": "cosine", "s": 0.02}}, "matches no cell: schedule is linear or cosine(s=0.01) here"),
    ],
)
def test_a_selector_without_cells_says_what_there_is(points, table, text):
    problems: list[tuple[str, str]] = []
    assert select(table, "s", points, lambda *problem: problems.append(problem)) == (None, [])
    assert problems == [("s", text)]


def test_what_never_meets_matches_no_cell(points):
    problems: list[tuple[str, str]] = []
    some = [point for point in points if (point.values["seed"] == 0) == (point.get(SHORT["prediction"]).name == "x0")]
    select({"seed": 0, "prediction": "epsilon"}, "s", some, lambda *problem: problems.append(problem))
    assert problems == [("s", "matches no cell: none has all of this at once")]


def test_a_selection_within_another(points):
    where = parse({"seed": 1}, "w", points, lambda *_: None)
    found, indices = select({"prediction": "x0"}, "s", points, lambda *_: None, where)
    assert found is not None
    assert found.axes == ("prediction",)
    assert len(indices) == 16
    assert all(points[i].values["seed"] == 1 and points[i].get(SHORT["prediction"]).name == "x0" for i in indices)


def test_a_mistaken_value_matches_what_it_may_have_meant():
    point = Point({**make_points()[0].values, "diffusion.prediction": Mistaken("epsilonn")}, "matrix")
    assert count({"prediction": "epsilon"}, [point]) == 1
    assert count({"prediction": "mu"}, [point]) == 0


def test_the_axes_that_a_selector_speaks_of(points):
    table = {"loss": {"weighting": "snr"}, "schedule": {"name": "cosine", "s": 0.01}, "network": {"channels": 32}}
    selector = parse(table, "s", points, lambda *_: None)
    assert selector is not None
    assert selector.axes == ("loss.weighting", "schedule", "network.channels")


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("prediction=x0", {"prediction": "x0"}),
        ("prediction = x0 , seed=3", {"prediction": "x0", "seed": 3}),
        (
            'loss={name="simple",weighting="a,b"},variance=beta',
            {"loss": {"name": "simple", "weighting": "a,b"}, "variance": "beta"},
        ),
        ("network.channels=32", {"network.channels": 32}),
        ("schedule='co=sine'", {"schedule": "co=sine"}),
    ],
)
def test_only(text, table):
    assert parse_only(text) == table


@pytest.mark.parametrize("text", ["", "x0", "a=", "=1", "a=1,", "a=1,a=2", "a={b=1", 'a="x'])
def test_only_that_is_none(text):
    with pytest.raises(ValueError):
        parse_only(text)


names = {"prediction": ["epsilon", "x0"], "schedule": ["linear", "cosine"], "loss": ["simple", "vlb"], "seed": [0, 1]}


@given(st.dictionaries(st.sampled_from(sorted(names)), st.integers(0, 1), min_size=1), st.randoms())
def test_keys_narrow_a_selection_in_any_order(choice, random):
    points = make_points()
    table = {key: names[key][index] for key, index in choice.items()}
    shuffled = list(table.items())
    random.shuffle(shuffled)

    def chosen(table: Any) -> set[int]:
        selector = parse(table, "s", points, lambda path, text: pytest.fail(f"{path}: {text}"))
        assert selector is not None
        return {index for index, point in enumerate(points) if selector.matches(point)}

    assert chosen(table) == chosen(dict(shuffled)) == set.intersection(*(chosen({key: v}) for key, v in table.items()))
