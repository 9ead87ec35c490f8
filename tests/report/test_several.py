"""Several suites in one report, and the index of all."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ddpm_bench.errors import UserError
from ddpm_bench.report.index import build_index, views
from ddpm_bench.report.joint import JointView, settings_that_differ
from ddpm_bench.report.offending import offending
from ddpm_bench.report.several import build_joint, joint_name
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.table import headline_table
from ddpm_bench.report.variants import metric_names
from tests.make_results import Writer
from tests.pages import Page
from tests.report.conftest import Example


def placed(folder: Path, data: dict[str, Any], suite: str) -> ResultsView:
    """These results as those of a suite of this name."""
    place = folder / "suites" / suite
    place.mkdir(parents=True)
    (place / "results.json").write_text(json.dumps(data | {"suite": suite}), encoding="utf-8")
    return ResultsView(folder, suite)


@pytest.fixture
def pair(claimed: Example, tmp_path: Path) -> tuple[ResultsView, ResultsView]:
    """One suite twice, under two names: the second may be changed before it is used."""
    return placed(tmp_path, claimed.data, "one"), placed(tmp_path, copy.deepcopy(claimed.data), "two")


def test_the_name_joins_the_suites_in_their_order():
    assert joint_name(["b", "a"]) == "b+a"
    assert joint_name(["a", "b", "a"]) == "a+b"


def test_suites_of_one_protocol_share_columns_and_nothing_is_averaged_across(pair):
    table = headline_table(JointView(pair))
    single = headline_table(pair[0])
    assert table.axes == ["suite", *single.axes]
    assert [column.title for column in table.columns] == [column.title for column in single.columns]
    assert len(table.rows) == 2 * len(single.rows)
    for row in table.rows:
        suite = row.variant.axes["suite"]
        for entry in row.entries:
            assert {name.partition("/")[0] for name in entry.summary.cells} == {suite}
    means = [[entry.summary.mean for entry in row.entries] for row in table.rows]
    assert means == 2 * [[entry.summary.mean for entry in row.entries] for row in single.rows]
    assert [row.label for row in table.baselines] == [row.label for row in single.baselines]  # equal ones stand once


def test_another_protocol_or_other_data_have_columns_of_their_own(pair):
    first, second = pair
    for cell in second.cells:
        for record in cell["metrics"].values():
            record["protocol"]["estimator"] = {"name": "importance"}
    titles = [column.title for column in headline_table(JointView(pair)).columns]
    assert titles[:2] == ["bits/dim [1]", "bits/dim [2]"]
    for cell in second.cells:
        for record in cell["metrics"].values():
            record["protocol"]["estimator"] = {"name": "full"}
    second.data["data"]["digest"] = "f" * 64
    table = headline_table(JointView(pair))
    assert [column.title for column in table.columns[:2]] == ["bits/dim [1]", "bits/dim [2]"]
    assert first.cells[0]["metrics"]["bits_per_dim"]["protocol"].get("data") is None  # the records stay as they were
    labels = [row.label for row in table.baselines]
    assert labels[:2] == ["uniform code, one", "per-pixel histogram, one"]
    columns = {row.label: [index for index, entry in enumerate(row.entries) if entry] for row in table.baselines}
    assert (columns["uniform code, one"], columns["uniform code, two"]) == ([0], [1])


def test_a_metric_that_stands_for_itself_in_one_suite_has_its_column(pair):
    """Beside the distance to both references that to the test split is a companion; alone it is the distance."""
    first, second = pair
    name = next(name for name in metric_names(first) if f"{name}_test" in metric_names(first))
    for cell in second.cells:
        cell["metrics"].pop(name, None)
    assert f"{name}_test" not in [column.metric for column in headline_table(first).columns]
    table = headline_table(JointView(pair))
    assert {name, f"{name}_test"} <= {column.metric for column in table.columns}


def test_an_axis_below_an_entry_is_found_in_the_configuration(pair):
    first, second = pair
    for cell in second.cells:
        cell["axes"]["loss.weighting"] = "snr" if cell["axes"]["loss"] == "simple" else "none"
    first.data["configuration"]["diffusion"]["loss"] = {"name": "simple", "weighting": {"name": "p2"}}
    table = headline_table(JointView(pair))
    assert {row.variant.axes["loss.weighting"] for row in table.rows if row.variant.axes["suite"] == "one"} == {"p2"}


def test_what_only_one_suite_varies_is_an_axis_of_both(pair):
    first, second = pair
    for cell in second.cells:
        cell["axes"]["training.steps"] = "500" if cell["axes"]["loss"] == "simple" else "2000"
    table = headline_table(JointView(pair))
    assert "training.steps" in table.axes
    steps = {row.variant.axes["suite"]: set() for row in table.rows}
    for row in table.rows:
        steps[row.variant.axes["suite"]].add(row.variant.axes["training.steps"])
    assert steps == {"one": {"1000"}, "two": {"500", "2000"}}  # the first one's from its configuration
    first.data["configuration"]["training"]["steps"] = 1000
    second.data["configuration"]["training"]["steps"] = 2000
    assert ("training.steps", ["1000", "2000"]) in settings_that_differ(pair)


def test_the_joint_report_shows_both_and_leads_to_each(pair, tmp_path: Path):
    page = build_joint(pair, tmp_path / "reports")
    assert page == tmp_path / "reports" / "one+two" / "index.html"
    shown = Page(page.read_text(encoding="utf-8"))
    assert len(shown.having("data-claim")) == 12
    ids = [found["id"] for found, _ in shown.having("id")]
    assert len(ids) == len(set(ids))
    links = {found["href"] for found, _ in shown.having("href") if not found["href"].startswith(("#", "data:"))}
    assert links == {"../one/index.html", "../two/index.html"}
    rows = list(csv.DictReader((page.parent / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["suite"] for row in rows] == ["one"] * 8 + ["two"] * 8 + [""] * 4
    assert (page.parent / "table.md").read_text(encoding="utf-8").startswith("| suite | prediction |")
    again = build_joint(pair, tmp_path / "again")
    for path in sorted(path for path in page.parent.rglob("*") if path.is_file()):
        assert path.read_bytes() == (again.parent / path.relative_to(page.parent)).read_bytes()


def test_the_index_lists_what_was_run_and_what_was_shipped(claimed: Example, tmp_path: Path):
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    Writer(runs, 4, 2).write()
    for suite in ("shipped", "digits_ablation"):  # what was run here comes before what came with a report
        (reports / suite).mkdir(parents=True)
        changed = claimed.data | {"suite": suite, "title": f"{suite} <b>"}
        (reports / suite / "results.json").write_text(json.dumps(changed), encoding="utf-8")
    (reports / "shipped" / "index.html").write_text("", encoding="utf-8")
    found = views(runs, reports)
    assert [view.suite for view in found] == ["digits_ablation", "shipped"]
    text = build_index(found, reports).read_text(encoding="utf-8")
    shown = Page(text)
    assert [found["href"] for found, _ in shown.having("href")] == ["shipped/index.html"]
    assert "ddpm-bench report digits_ablation" in text
    assert "shipped &lt;b&gt;" in text and "digits_ablation <b>" not in text
    assert "6 claims: 3 supported, 1 contradicted, 1 inconclusive, 1 untestable" in text
    verdicts = [found["data-verdict"] for found, _ in shown.having("data-verdict")]
    assert verdicts[-6:] == [claim["verdict"] for claim in claimed.data["claims"]]
    assert build_index(views(tmp_path / "no", tmp_path / "none"), tmp_path / "none").is_file()


def test_what_fails_a_report(example: Example, claimed: Example):
    both = [ResultsView(example.runs, example.suite), ResultsView(claimed.runs, claimed.suite)]
    assert offending(both, []) == []
    assert offending(both[1:], ["contradicted"]) == [
        "digits_claims: contradicted: With few steps σ²=β̃ gives a tighter bound than σ²=β"
    ]
    failed = offending(both, ["failed"])
    assert [line.partition(": cell ")[0] for line in failed] == ["digits_ablation: failed"]
    assert len(offending(both, ["untestable"])) == 7
    with pytest.raises(UserError, match="has no results"):
        ResultsView(example.runs, "digits_claims")
