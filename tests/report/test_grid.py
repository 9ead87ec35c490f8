"""Prediction × objective: every field is one variant of the results table, or says why it is blank."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import ddpm_bench as db
from ddpm_bench.identity import canonical
from ddpm_bench.report import build
from ddpm_bench.report.grid import Field, Objectives, objectives
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.table import headline_table
from tests.make_results import Writer
from tests.pages import Page
from tests.report.conftest import Example
from tests.support import REPOSITORY

KD = "kd_x"


def cell(axes: dict[str, str], value: float | None = 1.0, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A finished cell with one metric, unless changed; value None: there is none, for a reason."""
    record = {
        "value": value, "stderr": 0.25, "stderr_noise": None, "num_samples": 9, "unit": "MMD²",
        "higher_is_better": False, "protocol": {}, "reason": None if value is not None else "no weights",
    }  # fmt: skip
    found = {
        "id": "-".join([*axes.values(), f"s{seed}"]), "label": "", "axes": axes, "variant": None, "seed": seed,
        "status": "done", "reason": None, "train_key": "k", "shares_training_with": [], "artifacts": {}, "log": None,
        "training": None, "network_calls": None, "fit": None, "gallery": None, "metrics": {KD: record}, "timings": {},
    }  # fmt: skip
    return found | changes


def view_of(folder: Path, cells: list[dict[str, Any]], **changes: Any) -> ResultsView:
    """The results of these cells."""
    rest = {"axes": list(cells[0]["axes"]), "baselines": [], "claims": [], "data": None}
    Writer(folder, 1, 1).write("made", waiting=True, cells=cells, **(rest | changes))
    return ResultsView(folder, "made")


def grid_of(folder: Path, cells: list[dict[str, Any]], **changes: Any) -> Objectives | None:
    return objectives(headline_table(view_of(folder, cells, **changes)))


def axes(prediction: str, loss: str, variance: str, **others: str) -> dict[str, str]:
    return {"prediction": prediction, "loss": loss, "variance": variance, **others}


def four(**others: str) -> list[dict[str, Any]]:
    """Two predictions and two losses, valued 1 to 4."""
    pairs = [(prediction, loss) for prediction in ("epsilon", "x0") for loss in ("simple", "vlb")]
    return [cell(axes(*pair, "beta", **others), float(index + 1)) for index, pair in enumerate(pairs)]


def shown(field: Field) -> float | str:
    """What a field says: its value, or why it is blank."""
    assert field.blank or field.entry
    return field.blank or field.entry.summary.mean  # type: ignore[union-attr,return-value]


def values(found: Objectives | None, metric: int = 0, block: int = 0) -> dict[str, list[float | str]]:
    """What is predicted → what its fields say."""
    assert found is not None
    return {label: [shown(field) for field in line] for label, line in found.grids[metric].blocks[block].lines}


# Where values stand


def test_a_field_is_its_variant(tmp_path: Path) -> None:
    found = grid_of(tmp_path, four())
    assert values(found) == {"ε": [1.0, 2.0], "x₀": [3.0, 4.0]}
    assert found is not None
    assert found.heads == [("L_simple", [""]), ("L_vlb", [""])]
    assert (found.notes, found.rest) == ([], "")


def test_losses_with_their_variances(tmp_path: Path) -> None:
    """Columns of one loss stand together, whatever the order of the cells."""
    pairs = [("simple", "beta"), ("vlb", "beta"), ("simple", "beta_tilde"), ("vlb", "beta_tilde")]
    cells = [
        cell(axes(prediction, *pair), 10.0 * row + column)
        for row, prediction in enumerate(("epsilon", "x0"))
        for column, pair in enumerate(pairs)
    ]
    found = grid_of(tmp_path, cells)
    assert found is not None
    assert found.heads == [("L_simple", ["σ²=β", "σ²=β̃"]), ("L_vlb", ["σ²=β", "σ²=β̃"])]
    assert values(found) == {"ε": [0.0, 2.0, 1.0, 3.0], "x₀": [10.0, 12.0, 11.0, 13.0]}


def test_a_weighting_is_part_of_the_objective(tmp_path: Path) -> None:
    cells = [
        cell(axes(prediction, loss, "beta"))
        for prediction in ("x0", "v")
        for loss in ("simple", "simple(weighting=snr)")
    ]
    found = grid_of(tmp_path, cells)
    assert found is not None
    assert [head for head, _ in found.heads] == ["L_simple", "L_simple (weighting=snr)"]


def test_an_axis_below_the_loss_is_an_objective(tmp_path: Path) -> None:
    """loss.weighting in the matrix: the loss itself says nothing more."""
    cells = [
        cell({"prediction": prediction, "loss": loss, "loss.weighting": weighting, "variance": "beta"}, float(index))
        for index, (prediction, (loss, weighting)) in enumerate(itertools.product(
            ("epsilon", "x0"), (("simple", "none"), ("simple(weighting=snr)", "snr"))
        ))
    ]  # fmt: skip
    found = grid_of(tmp_path, cells)
    assert values(found) == {"ε": [0.0, 1.0], "x₀": [2.0, 3.0]}
    assert [head for head, _ in found.heads] == ["weighting none", "snr"]


def test_a_metric_that_nothing_has_a_value_of_has_no_grid(tmp_path: Path) -> None:
    cells = four()
    for item in cells:
        item["metrics"] = {"first": {**item["metrics"][KD], "value": None}, **item["metrics"]}
    found = grid_of(tmp_path, cells)
    assert [grid.column.metric for grid in found.grids] == [KD]


def test_entries_are_those_of_the_results_table(example: Example) -> None:
    """Over the seeds; those of cells that are not done are missing, and the field says so."""
    table = headline_table(ResultsView(example.runs, example.suite))
    found = objectives(table)
    assert found is not None
    entries = [entry for row in table.rows for entry in row.entries]
    for grid in found.grids:
        fields = [field for block in grid.blocks for _, line in block.lines for field in line if not field.blank]
        assert len(fields) == 8
        for field in fields:
            assert any(field.entry is entry for entry in entries)
            assert field.entry is not None
            mean = [
                item["metrics"][grid.column.metric]["value"]
                for item in example.data["cells"]
                if item["id"] in field.entry.summary.cells
            ]
            assert field.entry.summary.mean == math.fsum(mean) / len(mean)
    assert {field.seeds for _, line in found.grids[0].blocks[0].lines for field in line} == {
        "", "1 of 2 seeds, 1 failed", "1 of 2 seeds, 1 diverged",
    }  # fmt: skip


def test_three_metrics_that_stand_for_themselves(tmp_path: Path, example: Example) -> None:
    found = objectives(headline_table(ResultsView(example.runs, example.suite)))
    assert found is not None
    assert [grid.column.metric for grid in found.grids] == [
        "bits_per_dim", "kd_efficientnet_lite0", "fd_efficientnet_lite0",
    ]  # fmt: skip
    cells = four()
    for item in cells:
        item["metrics"] = {f"kd_{name}": item["metrics"][KD] for name in "abcd"}
    found = grid_of(tmp_path, cells)
    assert found is not None
    assert [grid.column.metric for grid in found.grids] == ["kd_a", "kd_b", "kd_c"]


# Other axes


def test_other_axes_are_never_averaged_over(tmp_path: Path) -> None:
    cells = [*four(schedule="linear"), *four(schedule="cosine")]
    for item in cells[4:]:
        item["metrics"][KD]["value"] += 10
    found = grid_of(tmp_path, cells)
    assert found is not None
    assert [block.label for block in found.grids[0].blocks] == ["linear", "cosine"]
    assert values(found, block=0) == {"ε": [1.0, 2.0], "x₀": [3.0, 4.0]}
    assert values(found, block=1) == {"ε": [11.0, 12.0], "x₀": [13.0, 14.0]}


@pytest.mark.parametrize(("count", "blocks"), [(4, 4), (5, 1)])
def test_of_many_combinations_the_first_is_shown(count: int, blocks: int, tmp_path: Path) -> None:
    found = grid_of(tmp_path, [item for steps in range(count) for item in four(timesteps=str(100 + steps))])
    assert found is not None
    assert [block.label for block in found.grids[0].blocks] == [f"T={100 + steps}" for steps in range(blocks)]
    assert found.rest == (
        "" if blocks > 1 else
        "Shown is T=100, the first of 5 combinations of the other axes; the results table has all of them."
    )  # fmt: skip


def test_what_the_prediction_or_the_objective_fixes_belongs_to_it(tmp_path: Path) -> None:
    cells = four()
    for item in cells:
        item["axes"] |= {"thresholding": "none" if item["axes"]["prediction"] == "x0" else "clip"}
        item["axes"] |= {"training.steps": "800" if item["axes"]["loss"] == "vlb" else "500"}
    found = grid_of(tmp_path, cells)
    assert values(found) == {"ε, clip": [1.0, 2.0], "x₀, thresholding none": [3.0, 4.0]}
    assert found is not None
    assert [head for head, _ in found.heads] == ["L_simple, 500 training steps", "L_vlb, 800 training steps"]


# Blanks


def test_a_blank_says_why(tmp_path: Path) -> None:
    """One of each kind, the reasons as notes; equal reasons are one note."""
    ended = {"num_parameters": 1, "steps": 20, "divergence": {"step": 20, "t": 3, "loss": 1e9}}
    lost = "RuntimeError: out of memory"
    fields = {
        ("epsilon", "simple"): {},
        ("epsilon", "vlb"): {"status": "diverged", "reason": "not finite", "training": ended},
        ("epsilon", "hybrid"): {"status": "illegal", "reason": "trains nothing"},
        ("x0", "simple"): {"status": "failed", "reason": lost}, ("x0", "vlb"): {"status": "waiting"},
        ("x0", "hybrid"): {"status": "illegal", "reason": "trains nothing"}, ("v", "simple"): {"value": None},
    }  # fmt: skip
    cells = [cell(axes(*place, "beta"), **changes) for place, changes in fields.items()]
    for item in cells:
        item["metrics"] = item["metrics"] if item["status"] == "done" else {}
    found = grid_of(tmp_path, cells)
    assert values(found) == {
        "ε": [1.0, "diverged", "illegal"], "x₀": ["failed", "waiting", "illegal"],
        "v": ["no value", "not in the suite", "not in the suite"],
    }  # fmt: skip
    assert found is not None
    assert found.notes == ["not finite (step 20, t = 3, loss 1e+09)", "trains nothing", lost, "no weights"]
    numbers = [[field.note for field in line] for _, line in found.grids[0].blocks[0].lines]
    assert numbers == [[0, 1, 2], [3, 0, 2], [4, 0, 0]]


def test_seeds_without_a_value_are_counted(tmp_path: Path) -> None:
    cells = [
        *four(),
        *(cell(item["axes"], item["metrics"][KD]["value"] + 2, seed=1) for item in four()[:3]),
        cell(four()[3]["axes"], None, seed=1),
    ]
    cells[5] |= {"status": "diverged", "reason": "not finite", "metrics": {}}
    found = grid_of(tmp_path, cells)
    assert values(found) == {"ε": [2.0, 2.0], "x₀": [4.0, 4.0]}
    assert found is not None
    assert [[field.seeds for field in line] for _, line in found.grids[0].blocks[0].lines] == [
        ["", "1 of 2 seeds, 1 diverged"], ["", "1 of 2 seeds"],
    ]  # fmt: skip


@pytest.mark.parametrize(("legal", "columns"), [(3, 4), (6, 6)])
def test_objectives_illegal_whatever_is_predicted_leave_a_wide_grid(legal: int, columns: int, tmp_path: Path) -> None:
    cells = []
    for prediction in ("epsilon", "x0"):
        cells += [cell(axes(prediction, f"l{index}", "beta")) for index in range(legal)]
        cells.append(cell(axes(prediction, "hybrid", "beta"), status="illegal", reason="trains nothing", metrics={}))
    found = grid_of(tmp_path, cells)
    assert found is not None
    assert len(found.heads) == columns
    assert found.rest == ("" if legal == 3 else "1 objective is illegal whatever is predicted and left out.")
    assert found.notes == (["trains nothing"] if legal == 3 else [])


# No grid


@pytest.mark.parametrize(
    "places",
    [
        [("epsilon", "simple", "beta"), ("epsilon", "vlb", "beta")],  # one prediction
        [("epsilon", "simple", "beta"), ("x0", "simple", "beta")],  # one objective
        [("epsilon", "simple", "beta"), ("x0", "vlb", "beta_tilde"), ("v", "vlb", "beta")],  # none shared by two
    ],
)
def test_nothing_to_cross(places: list[tuple[str, str, str]], tmp_path: Path) -> None:
    assert grid_of(tmp_path, [cell(axes(*place)) for place in places]) is None


def test_a_suite_without_values(tmp_path: Path) -> None:
    assert grid_of(tmp_path, [item | {"status": "waiting", "metrics": {}} for item in four()]) is None


# The suite it is made for, and the page


def test_the_suite_of_table_2(tmp_path: Path) -> None:
    """As the suite file has it: which fields are blank, and where the eight published values stand."""
    suite = db.load_suite(REPOSITORY / "suites" / "cifar_ho_table2.toml")
    units = {"fid": False, "inception_score": True}
    cells = []
    for item in suite.cells:
        changes: dict[str, Any] = {"status": "illegal", "reason": item.reason, "metrics": {}}
        if item.reason is None:
            empty = {"value": None, "stderr": None, "num_samples": 0, "unit": "", "protocol": {}, "reason": "not yet"}
            records = {name: empty | {"higher_is_better": higher} for name, higher in units.items()}
            changes = {"status": "waiting", "metrics": records}
        cells.append(cell(dict(item.axes), **changes) | {"id": item.id})
    references = json.loads(json.dumps(canonical(list(suite.references))))
    found = grid_of(tmp_path, cells, references=references, axes=list(suite.axes))
    assert found is not None
    assert found.heads == [("L_vlb", ["σ²=learned", "σ²=β"]), ("L_simple", ["σ²=learned", "σ²=β"])]
    blank = {
        "μ, thresholding none": ["waiting", "waiting", "illegal", "waiting"],
        "ε, clip": ["waiting", "waiting", "illegal", "waiting"],
    }
    published = {
        "fid": [[23.69, 13.22, None, None], [None, 13.51, None, 3.17]],
        "inception_score": [[7.28, 8.06, None, None], [None, 7.67, None, 9.46]],
    }
    assert [grid.column.metric for grid in found.grids] == list(published)
    for index, grid in enumerate(found.grids):
        assert values(found, index) == blank
        beside = [
            [field.entry.published[0].value if field.entry and field.entry.published else None for field in line]
            for _, line in grid.blocks[0].lines
        ]
        assert beside == published[grid.column.metric]
    assert len(found.notes) == 1
    assert "nothing trains the variance head" in found.notes[0]


def test_the_page(tmp_path: Path) -> None:
    """Values with all digits behind them, published ones on lines of their own, notes below."""
    cells = four(timesteps="100", sampling_steps="all")
    cells[3] |= {"status": "illegal", "reason": "makes no sense", "metrics": {}}
    reference = {"metric": KD, "value": 0.5, "source": "a book", "checked": None, "cells": [cells[0]["id"]]}
    rest = {"protocol": None, "where": None, "dataset": "digits"}
    view = view_of(tmp_path, cells, references=[reference | rest])
    text = build(view.runs, view.suite, tmp_path / "out").read_text(encoding="utf-8")
    part = text[text.index('<h2 id="objectives">') : text.index('<h2 id="illegal">')]
    page = Page(part)
    assert [(found["data-cell"], found["data-value"], said) for found, said in page.having("data-value")] == [
        (cells[index]["id"], repr(index + 1.0), f"{index + 1}.00\xa0± 0.25") for index in range(3)
    ]
    fields = ["".join(said) for tag, _, said in page.elements if tag == "td"]
    assert fields[0] == "1.00\xa0± 0.25published 0.5†"
    assert fields[3] == "illegal1"
    assert re.search(r"<sup>1</sup> makes no sense", part)
    assert 'href="#objectives"' in text
