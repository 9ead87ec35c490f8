"""docs/plugins.md shows the files that the tests run, and names what exists."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from ddpm_bench import registry
from ddpm_bench.errors import UserError
from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "tests" / "plugin_package"
TEXT = (REPOSITORY / "docs" / "plugins.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
ROWS = re.findall(r"^\| (\w+) \| (\w+) \| (`ddpm_bench\.[\w.]+`|none.*?) \| (.*) \|$", TEXT, re.MULTILINE)


def test_every_file_of_the_package_is_shown() -> None:
    own = {"__init__.py", "conftest.py", "test_example.py"}  # an empty one, and the tests that are mentioned
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.*") if "__pycache__" not in path.parts}
    assert {name for name in files if name.rpartition("/")[2] not in own} == BLOCKS.keys()
    assert TEXT.count("```") == 2 * (len(BLOCKS) + 1)  # and one command


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_the_file(name: str) -> None:
    assert BLOCKS[name] == (PACKAGE / name).read_text(encoding="utf-8")


def test_the_table_has_every_axis_with_its_base_class_and_methods() -> None:
    assert {(directory, key) for directory, key, *_ in ROWS} == {
        (axis.directory, axis.key) for axis in registry.AXES.values()
    }
    for directory, _, base, methods in ROWS:
        if directory == "variants":
            continue
        module, _, name = base.strip("`").rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        assert cls.axis == directory
        assert all(hasattr(cls, method) for method in re.findall(r"`(\w+)`", methods))


def test_the_entry_points_lead_to_the_files() -> None:
    groups = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert {group.removeprefix("ddpm_bench.") for group in groups} <= registry.AXES.keys()
    shown = {name for name in BLOCKS if name.startswith("ddpm_bench_example/")}
    assert {f"ddpm_bench_example/{name}.py" for points in groups.values() for name in points} == shown


def problem_of(function: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def test_the_messages_are_those_that_appear(tmp_path: Path) -> None:
    documented = re.findall(r"^\| `(.*?)` \|", TEXT.partition("## When something is wrong")[2], re.MULTILINE)
    text = BLOCKS["ddpm_bench_example/log_linear.py"]
    files = {
        "json": text,
        "log_linear": f"import nothing_like_this\n{text}",
        "document_test_baseless": text.replace("class LogLinear(Schedule)", "class LogLinear"),
        "document_test_loose": text.replace("frozen=True, ", ""),
        "document_test_undocumented": text.replace('    """The logarithm', '    _ = """The logarithm'),
        "cosine": text,
    }
    found = [problem_of(registry.load_plugin_file, tmp_path / "log_linear.py")]
    for name, content in files.items():
        (tmp_path / f"{name}.py").write_text(content, encoding="utf-8")
        found.append(problem_of(registry.load_plugin_file, tmp_path / f"{name}.py"))
    for value in ("nothing_like_this:Mine", "json:loads"):
        point = EntryPoint("mine", value, "ddpm_bench.schedules")
        found.append(problem_of(registry._load, registry.AXES["schedules"], "package/mine", point))
    for message, problem in zip(documented, found, strict=True):
        assert re.search(re.escape(message).replace("…", ".*"), problem), message
