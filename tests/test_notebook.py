"""docs/notebook.ipynb runs from its first cell to its last, on the results of a run as small as it gets."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.conftest import FinishedRun
from tests.support import TINY
from tools import notebook

PAGE = notebook.read()


def sources() -> list[str]:
    return ["".join(cell["source"]) for cell in notebook.code_cells(PAGE)]


def test_it_is_a_notebook() -> None:
    assert (PAGE["nbformat"], PAGE["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in PAGE["cells"]}) == len(PAGE["cells"])
    assert all("".join(cell["source"]).strip() for cell in PAGE["cells"])


def test_every_output_is_that_of_a_run_in_order() -> None:
    cells = notebook.code_cells(PAGE)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["outputs"] for cell in cells)
    assert all(max(map(len, source.splitlines())) <= 120 for source in sources())


def test_it_runs(tiny: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finished tiny run under the name of the quickstart, beside a folder docs/ as in the repository."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    tiny.again(TINY.replace('name = "tiny"', 'name = "digits_quickstart"'))
    docs = tiny.folder / "docs"
    docs.mkdir()
    page = json.loads(json.dumps(PAGE))
    names = notebook.execute(page, docs)
    assert len(names["by_axes"]) == 4
    outputs = [output for cell in notebook.code_cells(page) for output in cell["outputs"]]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert [base64.b64decode(picture)[:4] for picture in pictures] == [b"\x89PNG"]
    folder = tiny.folder / "reports" / "paper"
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "paper.tex").read_text(encoding="utf-8").count(r"\pm") == 4
    # the table holds the numbers of results.json
    cell = names["by_axes"]["epsilon", "beta"]
    assert names["values"].loc[("epsilon", "beta"), "bits_per_dim"] == pytest.approx(
        cell.metrics["bits_per_dim"]["value"], rel=1e-12  # a number that was written out with repr
    )  # fmt: skip


def test_outputs_are_those_of_jupyter(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "code", "source": ["print('a')\n", "x = 2"]},
        {"cell_type": "markdown", "source": ["x = 3"]},
        {"cell_type": "code", "source": ["x + 1"]},
    ]
    names = notebook.execute({"cells": cells}, tmp_path)
    assert names["x"] == 2
    assert cells[0]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["a\n"]}]
    assert cells[2]["outputs"] == [
        {"output_type": "execute_result", "execution_count": 2, "metadata": {}, "data": {"text/plain": ["3"]}}
    ]
