"""docs/equations.md is what the docstrings say, and the mathematics says where it comes from."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support import REPOSITORY
from tools import equations

PACKAGE = REPOSITORY / "ddpm_bench"
FILES = sorted([*PACKAGE.glob("diffusion/**/*.py"), *PACKAGE.glob("metrics/*.py")])
ITEMS = [(module.file.relative_to(PACKAGE).as_posix(), item) for _, found in equations.modules() for module in found
         for item in module.items]  # fmt: skip
PLUMBING = {
    # No formula of its own: indexing, reading a head, walking a chain, choosing what is kept or named.
    "extract", "split_head", "kept_timesteps", "affine", "steps", "foreign_classes", "resolve", "result_names",
    # What torch-fidelity computes is named by the metrics that ask for it.
    "by_torch_fidelity",
}  # fmt: skip
DOCUMENT = r"\b(?:19|20)\d\d\b|NIST|torch-fidelity"
PLACE = (
    r"\beq\. \d|§ \d|\balgorithms? \d|\bappendix [A-Z]\b|\bfig(?:ure|\.) \d|\btheorem \d|\bprop\. \d|\bchapter \d"
    r"|\bcode,? |\babstract\b|, \d\.\d\b"
)


def public_functions(file: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def test_the_page_is_what_the_generator_writes() -> None:
    assert equations.PAGE.read_text(encoding="utf-8") == equations.page(), f"stale; run {equations.COMMAND}"


@pytest.mark.parametrize(("file", "item"), ITEMS, ids=[f"{file}:{item.name}" for file, item in ITEMS])
def test_a_source_names_a_document_and_a_place_in_it(file: str, item: equations.Item) -> None:
    assert re.search(DOCUMENT, item.source), item.source
    assert re.search(PLACE, item.source), item.source


@pytest.mark.parametrize("source", ["Ho et al. 2020.", "their paper, eq. 5.", "see § 4 of the paper"])
def test_a_source_without_document_or_place_is_noticed(source: str) -> None:
    assert not (re.search(DOCUMENT, source) and re.search(PLACE, source))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_every_function_and_entry_of_the_mathematics_is_on_the_page(file: Path) -> None:
    """Every public function beside the plumbing, and the entry of every file that an axis lists."""
    name = file.relative_to(PACKAGE).as_posix()
    listed = {item.name for place, item in ITEMS if place == name}
    wanted = {function.name for function in public_functions(file)} - PLUMBING
    assert wanted <= listed, f"no Source: {sorted(wanted - listed)}"
    if "@register" in file.read_text(encoding="utf-8"):
        assert file.stem in {item.entry for place, item in ITEMS if place == name}


def test_the_plumbing_exists() -> None:
    functions = {function.name for file in FILES for function in public_functions(file)}
    assert functions >= PLUMBING


def test_every_link_leads_somewhere() -> None:
    text = equations.PAGE.read_text(encoding="utf-8")
    for target in set(re.findall(r"\]\((\.\./[^)]+)\)", text)):
        assert (equations.PAGE.parent / target).is_file(), target
    headings = re.findall(r"^### (.*)$", text, re.MULTILINE)
    anchors: list[str] = []
    for heading in headings:
        anchor = re.sub(r"[`,.]", "", heading).replace(" ", "-").lower()
        anchors.append(f"{anchor}-{anchors.count(anchor)}" if anchor in anchors else anchor)
    assert re.findall(r"\]\(#([^)]+)\)", text) == anchors


def test_a_docstring_is_split_at_its_source() -> None:
    inline = "β̃_t. Source: Ho et al. 2020,\neq. 7."
    assert equations.split_source(inline) == ("β̃_t.", "Ho et al. 2020, eq. 7.")
    inside = "First.\n\nSource: A 2000, eq. 1.\n\nLast."
    assert equations.split_source(inside) == ("First.\n\nLast.", "A 2000, eq. 1.")
    assert equations.split_source("No source here.") == ("No source here.", "")
