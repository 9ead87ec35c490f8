"""Calling the command line in this process, as a terminal of 80 columns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ddpm_bench.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of the standard error stream."""
        return self.err.splitlines()


Call = Callable[..., Answer]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`ddpm-bench ARGUMENTS` through its entry point, in an empty folder with nothing installed in the caches."""
    home = tmp_path / "work"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("DDPM_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DDPM_BENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("DDPM_BENCH_RUNS", raising=False)

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["ddpm-bench", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        code = end.value.code
        return Answer(code if isinstance(code, int) else 0, said.out, said.err)

    return run
