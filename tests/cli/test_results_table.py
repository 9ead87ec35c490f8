"""The results table on a terminal: the report's own numbers, within its width."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from ddpm_bench.cli._results_table import print_results
from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.table import headline_table
from tests.support import REPOSITORY


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An example of 16 cells and two seeds, some of which failed, diverged or are illegal."""
    folder = tmp_path_factory.mktemp("example") / "runs"
    script = REPOSITORY / "tests" / "make_results.py"
    subprocess.run([sys.executable, script, folder, "--cells", "16", "--seeds", "2"], check=True, capture_output=True)
    return folder


@pytest.fixture
def view(runs: Path) -> ResultsView:
    return ResultsView(runs, "digits_ablation")


def printed(view: ResultsView, width: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_results(view, Console(width=width))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("width", "tables"), [(60, 3), (80, 2), (160, 1)])
def test_it_is_as_wide_as_the_terminal(
    view: ResultsView, width: int, tables: int, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(view, width, capsys)
    grid = [line for line in lines if line[:1] in "┏┃┡│├└"]
    assert max(map(cell_len, grid)) <= width
    # Columns that do not fit stand in a table of their own below.
    assert sum(line.startswith("┏") for line in grid) == tables


def test_every_number_is_the_reports(view: ResultsView, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(printed(view, 80, capsys))
    with words.symbols(view.data["symbols"]):
        table = headline_table(view)
    shown = 0
    for row in [*table.rows, *table.baselines]:
        lines = [line for line in text.splitlines() if line.startswith(f"│ {row.label} ")]
        statuses = {cell["status"] for cell in row.variant.cells} if row.variant else set()
        assert bool(lines) == (statuses != {"illegal"})  # a combination without a meaning is named below alone
        for entry in row.entries:
            if entry and entry.summary.mean is not None:
                number = f"{entry.text} ± {entry.error_text}" if entry.error_text else entry.text
                assert any(number in line for line in lines)
                shown += 1
    assert shown > 20
    for column in table.columns:
        assert all(word in text for word in f"{column.title} {column.arrow}".split())


def test_trouble_is_told_below_in_whole_lines(view: ResultsView, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(view, 80, capsys)
    with words.symbols(view.data["symbols"]):
        rows = headline_table(view).rows
    troubles: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for trouble in row.troubles:
            troubles.setdefault(trouble, []).append(row.label)
    expected = [
        f"{'; '.join(names)}: {status}" + (f": {reason}" if reason else "")
        for (status, reason), names in troubles.items()
    ]
    assert len(expected) == 3
    assert lines[-3:] == expected
    assert "* a vacuous bound: longer than the uniform code" in lines
    assert "± 95 % t interval over seeds" in lines
