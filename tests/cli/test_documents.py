"""The pages of docs/: all are in the index, their links lead somewhere, the commands of the tutorial are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

import ddpm_bench as db
from ddpm_bench.cli.app import app
from tests.cli.conftest import Call
from tests.support import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.replace("\\\n", " "))
    for block in re.findall(r"^```sh\n(.*?)^```$", TUTORIAL, re.DOTALL | re.MULTILINE)
    for line in re.split(r"(?<!\\)\n", block)
    if line.startswith("ddpm-bench ")
]


def anchors(page: Path) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-").lower() for heading in headings}


def parsed(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """(command, its parameters) of a command line, parsed and not run. Raises SystemExit for one that is wrong."""
    group: Any = typer.main.get_command(app)
    name, *rest = arguments
    context = group.commands[name].make_context(name, rest)
    return name, context.params


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| \[([\w.]+)\]\(\1\) \|", index, re.MULTILINE)
    assert len(named) == len(set(named))
    pages = {path.name for path in [*PAGES, *DOCS.glob("*.ipynb")]}
    assert set(named) == pages - {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        if place.startswith("http"):
            continue
        target = (page.parent / place) if place else page
        assert target.is_file(), link
        if anchor and target.suffix == ".md":
            assert re.sub(r"-\d+$", "", anchor) in anchors(target) or anchor in anchors(target), link


def test_the_tutorial_names_suites_that_exist() -> None:
    for name in re.findall(r"suites/(\w+\.toml)", TUTORIAL):
        assert (REPOSITORY / "suites" / name).is_file(), name


def test_the_commands_of_the_tutorial_are_commands(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line parses; the suite is written by the first one, and every later one plans, with the overrides before
    it, as a run would."""
    assert [arguments[1] for arguments in COMMANDS[:3]] == ["new", "plan", "run"]
    kept: tuple[str, ...] = ()
    for arguments in COMMANDS:
        name, given = parsed(arguments[1:])
        if name == "new":
            assert call(*arguments[1:]).code == 0
        elif name in ("plan", "run"):
            suite = Path(given["suite"]).with_suffix(".toml")
            before = kept if suite.name != given["suite"] else ()
            overrides = (*before, *(given["overrides"] or ()))
            loaded = db.load_suite(suite, overrides=overrides, only=tuple(given["only"] or ()), name=given["name"])
            assert db.plan(loaded).problems == []
            if name == "run" and given["name"] is None:
                kept = overrides
        else:
            assert name in ("report", "status", "ui", "show", "list", "logs")


def test_its_second_claim_is_a_claim(call: Call) -> None:
    (table,) = re.findall(r"^```toml\n(\[\[claim\]\].*?)^```$", TUTORIAL, re.DOTALL | re.MULTILINE)
    assert call("new", "mine").code == 0
    file = Path("mine.toml")
    file.write_text(file.read_text(encoding="utf-8") + table, encoding="utf-8")
    assert len(db.load_suite(file).claims) == 2
