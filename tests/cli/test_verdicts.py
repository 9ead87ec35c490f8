"""Verdicts in the terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console

from ddpm_bench.claims import judge
from ddpm_bench.cli._verdicts import print_verdicts
from ddpm_bench.report.source import ResultsView
from tests.test_claims import AXES, EPSILON, X_0, better_epsilon, claim, make_cells


def shown(claims: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    view = SimpleNamespace(data={"claims": claims, "symbols": {}})
    print_verdicts(cast(ResultsView, view), Console(file=out, width=80, highlight=False))
    return out.getvalue()


def test_each_claim_has_its_verdict_and_what_was_found() -> None:
    cells = make_cells(better_epsilon)
    statements = [claim(cells, EPSILON, X_0), claim(cells, X_0, EPSILON, 0.1)]
    statements[0]["statement"], statements[1]["statement"] = "ε needs [fewer] bits", "ε and x₀ are equal"
    text = shown(judge(statements, cells, list(AXES)))
    lines = text.splitlines()
    assert lines[0] == "claims: 1 supported, 1 contradicted"
    assert lines[1].split() == ["supported", "ε", "needs", "[fewer]", "bits"]
    assert "better by 0.49" in lines[2] or "better by 0.5" in lines[2]
    assert lines[3].startswith("contradicted")
    assert max(map(len, lines)) <= 80


def test_an_untestable_claim_says_why() -> None:
    cells = make_cells(better_epsilon, seeds=range(1))
    text = shown(judge([claim(cells, EPSILON, X_0)], cells, list(AXES)))
    assert "claims: 1 untestable" in text
    assert "A verdict needs 6 seeds, this has 1 seed." in text


def test_without_claims_nothing_is_said() -> None:
    assert shown([]) == ""
