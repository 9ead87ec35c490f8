"""Example results, written and rendered once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ddpm_bench.report import build, words
from tests.make_results import SYMBOLS, Writer


@dataclass(frozen=True)
class Example:
    """A runs/ directory with one suite and the report made from it."""

    runs: Path
    page: Path
    suite: str = "digits_ablation"

    @property
    def data(self) -> dict[str, Any]:
        """results.json."""
        return json.loads((self.runs / "suites" / self.suite / "results.json").read_text(encoding="utf-8"))

    @property
    def html(self) -> str:
        """The page."""
        return self.page.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Sixteen legal cells (eight variants, two seeds) and an illegal variant."""
    folder = tmp_path_factory.mktemp("example")
    Writer(folder / "runs", num_cells=16, num_seeds=2).write()
    return Example(folder / "runs", build(folder / "runs", "digits_ablation", folder / "reports"))


@pytest.fixture(scope="session")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Eight variants of six seeds with claims of every verdict."""
    folder = tmp_path_factory.mktemp("claimed")
    Writer(folder / "runs", num_cells=48, num_seeds=6, matrix="claims").write()
    return Example(folder / "runs", build(folder / "runs", "digits_claims", folder / "reports"), "digits_claims")


@pytest.fixture(autouse=True)
def field_symbols():
    """Parts of the report called by themselves write values as `build` has them written."""
    with words.symbols(SYMBOLS):
        yield
