"""The shape of the code: who may import whom, what stays cheap to import, what every module owes its reader."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ddpm_bench
from ddpm_bench import registry

PACKAGE = Path(ddpm_bench.__file__).parent
MAX_LINES = 300

# A module (by the first part of its name below ddpm_bench) imports from its own layer and those above it in the list.
LAYERS = [
    {"errors", "identity", "randomness", "environment", "store", "vision"},
    {"registry", "fields"},
    {"diffusion"},
    {"networks", "datasets", "extractors"},
    {"metrics"},
    {"spec"},
    {"variants", "toml", "_toml_lines", "keys", "matrix", "labels", "selectors", "cells", "statements",
     "_suite_parts", "suite"},
    {"stages"},  # above the suite, which they do not know: see FORBIDDEN
    {"executors"},
    {"planning", "progress"},
    {"running", "evaluating"},
    {"cli", "__main__"},
]  # fmt: skip
# What reads results stands apart: files, numpy, pandas and json only. `running` and `cli` may use it.
RESULTS = [
    {"errors", "environment", "store", "log_snr", "protocols"}, {"collecting", "statistics", "matching"},
    {"claims", "effects", "paired"}, {"records"},
    {"report", "tracking"},
]  # fmt: skip

FORBIDDEN = {
    "store": {"errors", "identity", "registry"},  # paths and digests, nothing else
    "stages": {"toml", "suite", "matrix", "cells", "keys", "labels", "selectors", "statements"},
    "report": {"tracking"},
    "tracking": {"report"},
    "running": {"diffusion", "networks", "datasets", "extractors", "metrics"},  # it knows no mathematics
}
UPWARD = {
    # A cell of the results hands out its network and its process: torch is asked for when they are.
    ("ddpm_bench.records", "ddpm_bench.spec"),
    ("ddpm_bench.records", "ddpm_bench.registry"),
    ("ddpm_bench.records", "ddpm_bench.stages._model"),
}
"""Imports inside functions that go against the layers, each with its reason."""


@dataclass(frozen=True)
class Import:
    """One import. where: "module", "function" or "typing" (below `if TYPE_CHECKING`)."""

    module: str
    target: str
    where: str


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def trees() -> dict[str, ast.Module]:
    return {module_name(file): ast.parse(file.read_text(encoding="utf-8")) for file in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> Iterator[Import]:
    def visit(node: ast.AST, where: str) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = where
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inside = "function"
            elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                inside = "typing"
            if isinstance(child, ast.Import):
                yield from (Import(module, alias.name, where) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}: relative import"
                names = (f"{child.module}.{alias.name}" for alias in child.names)
                targets = {name if name in trees() else str(child.module) for name in names}
                yield from (Import(module, target, where) for target in sorted(targets))
            yield from visit(child, inside)

    yield from visit(trees()[module], "module")


@cache
def imports() -> tuple[Import, ...]:
    return tuple(found for module in trees() for found in imports_of(module))


def own() -> list[Import]:
    return [found for found in imports() if found.target.partition(".")[0] == "ddpm_bench"]


def part(module: str) -> str:
    """spec of ddpm_bench.spec, stages of ddpm_bench.stages.train; "" of the package itself."""
    return module.split(".")[1] if "." in module else ""


def level(name: str, layers: list[set[str]]) -> int | None:
    return next((index for index, layer in enumerate(layers) if name in layer), None)


def may_import(source: str, target: str) -> bool:
    """Whether a module of `source` may import one of `target`."""
    if target in FORBIDDEN.get(source, ()):
        return False
    above, below = level(source, RESULTS), level(target, RESULTS)
    if above is not None and level(source, LAYERS) is None:
        return below is not None and below <= above
    here, there = level(source, LAYERS), level(target, LAYERS)
    if there is None:  # results, seen from the other branch
        return source in ("running", "evaluating", "cli") and below is not None
    assert here is not None
    return there <= here


def test_every_module_has_its_layer() -> None:
    known = set().union(*LAYERS, *RESULTS, {""})
    assert {part(module) for module in trees()} <= known
    assert known <= {part(module) for module in trees()}, "a layer names a module that is gone"


def test_the_rule_itself() -> None:
    assert may_import("spec", "diffusion") and not may_import("diffusion", "spec")
    assert may_import("planning", "stages") and not may_import("stages", "planning")
    assert may_import("report", "records") and not may_import("report", "spec")
    assert may_import("running", "tracking") and not may_import("planning", "records")
    assert not may_import("stages", "suite") and not may_import("store", "errors")


def test_imports_point_one_way() -> None:
    # The package itself is the lazy Python API: it imports nothing at its top (below) and the CLI calls it.
    wrong = [
        f"{found.module} imports {found.target} ({found.where})"
        for found in own()
        if part(found.module) != ""
        and not (part(found.module) == "cli" and part(found.target) == "")
        and part(found.target) != part(found.module)
        and (part(found.target) == "" or not may_import(part(found.module), part(found.target)))
        and not (found.where == "function" and (found.module, found.target) in UPWARD)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_exception_is_used() -> None:
    assert {(found.module, found.target) for found in own() if found.where == "function"} >= UPWARD


def test_the_package_and_its_commands_import_late() -> None:
    at_top = {(found.module, part(found.target)) for found in own() if found.where == "module"}
    assert not {target for module, target in at_top if module == "ddpm_bench"}
    light = {"cli", "errors"}
    commands = {module for module in trees() if part(module) == "cli" and "._" not in module}
    assert {(module, target) for module, target in at_top if module in commands and target not in light} == set()


def test_no_cycle_among_top_level_imports() -> None:
    graph: dict[str, set[str]] = {module: set() for module in trees()}
    for found in own():
        if found.where == "module":
            graph[found.module].add(found.target)
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_mlflow_in_tracking_only() -> None:
    users = {part(found.module) for found in imports() if found.target.partition(".")[0] == "mlflow"}
    assert users == {"tracking"}


def test_results_need_neither_torch_nor_scikit_learn() -> None:
    allowed = {"numpy", "pandas", "scipy", "matplotlib", "seaborn", "jinja2", "markupsafe", "PIL", "filelock"}
    readers = {"collecting", "records", "report", "environment", "store", "log_snr", "protocols", "paired",
               "statistics", "matching", "claims", "effects"}  # fmt: skip
    used = {found.target.partition(".")[0] for found in imports() if part(found.module) in readers}
    assert used - set(sys.stdlib_module_names) - {"ddpm_bench"} <= allowed


HEAVY = ("torch", "torchvision", "torch_fidelity", "mlflow", "scipy", "sklearn", "numpy", "pandas", "matplotlib")
MODULES_AFTER = (
    "import json, sys; {code}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
)


def loaded_after(code: str, home: Path) -> set[str]:
    """The top-level packages that are loaded in a new process after the code."""
    command = [sys.executable, "-c", MODULES_AFTER.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=home)
    return set(json.loads(done.stdout.splitlines()[-1]))


HELP = """
import sys
sys.argv = ["ddpm-bench", "--help"]
from ddpm_bench.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
"""


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = loaded_after(f"exec({HELP!r})", tmp_path)
    assert "typer" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import ddpm_bench", HEAVY),
        ("import ddpm_bench.records", HEAVY),
        ("import ddpm_bench.tracking", tuple(name for name in HEAVY if name != "numpy")),
        ("import ddpm_bench.report", ("torch", "torchvision", "torch_fidelity", "mlflow", "sklearn")),
        ("from ddpm_bench import registry; [registry.names(axis) for axis in registry.AXES]", HEAVY),
    ],
)
def test_light_imports(code: str, forbidden: tuple[str, ...], tmp_path: Path) -> None:
    assert not loaded_after(code, tmp_path) & set(forbidden)


def quickest(command: list[str], cwd: Path, enough: float, measure: str = "wall") -> float:
    """The least time of up to 20 calls, fewer once it is short enough.

    The minimum and not the median: other processes (the tests beside this one) can only add time, so the shortest call
    is the nearest to what the command itself takes.
    """
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd, env=os.environ)
        taken = time.perf_counter() - started if measure == "wall" else float(done.stdout)
        best = min(best, taken)
        if best < enough:
            break
    return best


def test_help_answers_at_once(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("ddpm-bench")
    command = [str(script), "--help"] if script.is_file() else [sys.executable, "-m", "ddpm_bench", "--help"]
    assert quickest(command, tmp_path, 0.3) < 0.3


def test_importing_the_package_is_quick(tmp_path: Path) -> None:
    code = "import time; a = time.perf_counter(); import ddpm_bench; print(time.perf_counter() - a)"
    assert quickest([sys.executable, "-c", code], tmp_path, 0.1, measure="printed") < 0.1


def registered() -> dict[str, set[str]]:
    """Registered name → the modules of the entries that bear it."""
    found: dict[str, set[str]] = {}
    for axis in registry.AXES.values():
        for name in registry.names(axis.directory):
            found.setdefault(name, set()).add(f"{axis.package}.{name}")
    return found


def name_branches(module: str) -> Iterator[tuple[str, str]]:
    """(source, literal) of every comparison and match of a `.name` with a string literal."""
    for node in ast.walk(trees()[module]):
        sides: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            patterns = (case.pattern for case in node.cases)
            sides = [node.subject, *(p.value for p in patterns if isinstance(p, ast.MatchValue))]
        if any(isinstance(side, ast.Attribute) and side.attr == "name" for side in sides):
            for side in sides:
                for leaf in ast.walk(side):
                    if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                        yield ast.unparse(node), leaf.value


def test_no_branch_on_a_registered_name_outside_its_own_file() -> None:
    names = registered()
    found = [
        f"{module}: {text}"
        for module in trees()
        for text, literal in name_branches(module)
        if literal in names and module not in names[literal]
    ]
    assert not found, "\n".join(found)


def test_the_search_for_branches_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        'if cell.loss.name == "vlb" or x.name in ("beta", "other"):\n    pass\nmatch x.name:\n    case "ddim": pass\n'
    )
    monkeypatch.setitem(trees(), "example", ast.parse(code))
    assert sorted(literal for _, literal in name_branches("example")) == ["beta", "ddim", "other", "vlb"]


def public_without_docstring(module: str) -> Iterator[str]:
    def visit(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    yield f"{prefix}.{node.name}"
                if isinstance(node, ast.ClassDef):
                    yield from visit(node.body, f"{prefix}.{node.name}")

    tree = trees()[module]
    if not ast.get_docstring(tree):
        yield module
    yield from visit(tree.body, module)


def test_everything_public_is_documented() -> None:
    documented = ("diffusion", "metrics", "stages")
    bare = [name for module in trees() if part(module) in documented for name in public_without_docstring(module)]
    assert not bare, "\n".join(bare)


def test_modules_can_be_read_in_one_sitting() -> None:
    lengths = {
        file.relative_to(PACKAGE).as_posix(): file.read_text(encoding="utf-8").count("\n")
        for file in PACKAGE.rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines >= MAX_LINES} == {}
