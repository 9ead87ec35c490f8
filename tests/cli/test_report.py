"""`ddpm-bench report`: shipped evidence, several suites, the index, and codes that a script can act on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.conftest import FinishedRun
from tests.make_results import Writer
from tests.support import TINY


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with a contradicted claim, as they come with a report."""
    folder = tmp_path_factory.mktemp("evidence")
    return Writer(folder, num_cells=24, num_seeds=6, matrix="claims").write("shipped") / "results.json"


@pytest.fixture
def reports(evidence: Path, tmp_path: Path) -> Path:
    """A reports/ folder with shipped results."""
    place = tmp_path / "reports" / "shipped"
    place.mkdir(parents=True)
    shutil.copy(evidence, place)
    return place.parent


def test_shipped_results_render_without_a_run(call: Call, reports: Path) -> None:
    answer = call("report", "shipped", "--reports", reports)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{reports / 'shipped' / 'index.html'}\n"
    assert {path.name for path in (reports / "shipped").iterdir()} == {
        "figures", "index.html", "results.json", "table.csv", "table.md", "table.tex",
    }  # fmt: skip


def test_a_page_that_came_with_its_results_is_kept_where_a_new_one_would_have_less(call: Call, reports: Path) -> None:
    page = reports / "shipped" / "index.html"
    page.write_text("a page with samples", encoding="utf-8")
    answer = call("report", "shipped", "--reports", reports)
    assert (answer.code, answer.out) == (0, f"{page}\n")
    assert answer.errors == [
        f"{page} is kept as it came: it was made where the suite was run, and has parts that results.json does not "
        "hold. Tables and figures were written beside it."
    ]
    assert page.read_text(encoding="utf-8") == "a page with samples"
    assert (page.parent / "table.csv").is_file()
    page.unlink()
    assert call("report", "shipped", "--reports", reports).err == ""
    first = page.read_bytes()
    page.write_bytes(first.replace(b"<main", b"<main data-old"))
    assert call("report", "shipped", "--reports", reports).err == ""  # it lacks what a new one lacks
    assert page.read_bytes() == first


def test_shipped_results_are_found_by_the_file_of_their_suite(call: Call, reports: Path, tmp_path: Path) -> None:
    file = tmp_path / "their.toml"
    file.write_text(TINY.replace('name = "tiny"', 'name = "shipped"'), encoding="utf-8")
    answer = call("report", file, "--runs", tmp_path / "none", "--reports", reports)
    assert (answer.code, answer.out) == (0, f"{reports / 'shipped' / 'index.html'}\n")
    file.write_text(TINY, encoding="utf-8")
    other = call("report", file, "--runs", tmp_path / "none", "--reports", reports)
    assert other.code == 2
    assert "tiny" in other.err


def test_results_that_were_copied_below_runs_come_before_those_of_a_report(
    call: Call, evidence: Path, reports: Path
) -> None:
    answer = call("report", "shipped", "--runs", evidence.parents[2], "--reports", reports)
    assert (answer.code, answer.err) == (0, "")
    assert 'id="samples"' in (reports / "shipped" / "index.html").read_text(encoding="utf-8")  # with their store


def test_fail_on_ends_with_code_1_after_the_report_is_written(call: Call, reports: Path) -> None:
    answer = call("report", "shipped", "--reports", reports, "--fail-on", "contradicted, failed")
    assert answer.code == 1
    claims = json.loads((reports / "shipped" / "results.json").read_text(encoding="utf-8"))["claims"]
    contradicted = [claim["statement"] for claim in claims if claim["verdict"] == "contradicted"]
    assert contradicted
    assert answer.errors == [f"shipped: contradicted: {statement}" for statement in contradicted]
    assert (reports / "shipped" / "index.html").is_file()
    assert call("report", "shipped", "--reports", reports, "--fail-on", "failed").code == 0
    assert call("report", "--index", "--reports", reports, "--fail-on", "contradicted").errors == answer.errors


def test_several_suites_make_their_reports_and_a_joint_one(
    call: Call, reports: Path, finished_tiny: FinishedRun
) -> None:
    arguments = ("report", "tiny", "shipped", "--runs", finished_tiny.runs, "--reports", reports)
    answer = call(*arguments)
    assert (answer.code, answer.err) == (0, "")
    names = ("tiny", "shipped", "tiny+shipped")
    assert answer.out.splitlines() == [str(reports / name / "index.html") for name in names]
    table = call(*arguments, "--format", "markdown")
    assert table.out == (reports / "tiny+shipped" / "table.md").read_text(encoding="utf-8")
    found = json.loads(call(*arguments, "--format", "json").out)
    assert [results["suite"] for results in found] == ["tiny", "shipped"]


def test_the_index_names_every_suite(call: Call, reports: Path, finished_tiny: FinishedRun) -> None:
    answer = call("report", "--index", "--runs", finished_tiny.runs, "--reports", reports)
    assert (answer.code, answer.err, answer.out) == (0, "", f"{reports / 'index.html'}\n")
    text = (reports / "index.html").read_text(encoding="utf-8")
    assert 'id="tiny"' in text
    assert 'id="shipped"' in text
    for name in ("shipped+tiny", "shipped+gone"):  # a joint report is listed where its suites are
        (reports / name).mkdir()
        (reports / name / "index.html").write_text("a page", encoding="utf-8")
    call("report", "--index", "--runs", finished_tiny.runs, "--reports", reports)
    text = (reports / "index.html").read_text(encoding="utf-8")
    assert ("shipped+tiny/index.html" in text, "shipped+gone" in text) == (True, False)
    both = call("report", "shipped", "--index", "--runs", finished_tiny.runs, "--reports", reports)
    assert both.out.splitlines() == [str(reports / "shipped/index.html"), str(reports / "index.html")]
    assert '<a href="shipped/index.html">' in (reports / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "xml"), "--format xml: unknown; known: csv, json, markdown, latex"),
        (("--fail-on", "contradictd"), '--fail-on contradictd: unknown; did you mean "contradicted"?'),
        (("--index", "--format", "csv"), "--index makes a page and --format prints a table: give one of them"),
    ],
)
def test_mistakes(call: Call, reports: Path, options: tuple[str, ...], message: str) -> None:
    answer = call("report", "shipped", "--reports", reports, *options)
    assert (answer.code, answer.errors, answer.out) == (2, [message], "")
    assert not (reports / "shipped" / "index.html").exists()
