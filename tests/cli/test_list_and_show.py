"""`list` reads directories and imports no entry; `show` has something to say of every one."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_bench import registry
from tests.cli.conftest import Call

ENTRIES = [(axis.directory, name) for axis in registry.AXES.values() for name in registry.names(axis.directory)]

LIST = """
import sys
sys.argv = ["ddpm-bench", "list"]
from ddpm_bench.cli import main
try:
    main()
finally:
    packages = ("diffusion", "networks", "datasets", "extractors", "metrics", "variants")
    print(sorted(name for name in sys.modules if name.startswith(tuple(f"ddpm_bench.{p}" for p in packages))))
    print("torch" in sys.modules)
"""


def test_everything_is_listed_without_importing_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIST], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, modules, torch = done.stdout.splitlines()
    assert (modules, torch) == ("[]", "False")
    listed = {line.split(None, 1)[0]: line.split(None, 1)[1] for line in lines}
    assert listed.keys() == registry.AXES.keys()
    for axis, names in listed.items():
        files = (Path(registry.__file__).parent / Path(*registry.AXES[axis].package.split(".")[1:])).glob("[a-z]*.py")
        assert set(names.split(", ")) - {"–"} >= {file.stem for file in files}


def test_one_axis_by_its_directory_or_its_key(call: Call) -> None:
    assert call("list", "schedules").out == call("list", "schedule").out == "schedules  cosine, linear\n"


@pytest.mark.parametrize(("axis", "name"), ENTRIES)
def test_show(call: Call, axis: str, name: str) -> None:
    answer = call("show", axis, name)
    assert (answer.code, answer.err) == (0, "")
    entry = registry.get(axis, name)
    assert answer.out.startswith(f"{registry.AXES[axis].key} {name}\n\n{registry.first_line(entry)}\n")
    assert answer.out.endswith(inspect.getsource(entry))
    documentation = answer.out.partition("\nSource  ")[0]
    if not dataclasses.is_dataclass(entry):
        return
    for field in dataclasses.fields(entry):
        assert f"\n  {field.name}: " in documentation
    assert ("\nParameters\n" in documentation) == bool(dataclasses.fields(entry))


def test_parameters_are_shown_with_default_and_meaning(call: Call) -> None:
    out = call("show", "schedule", "cosine").out
    assert "\nParameters\n  s: float = 0.008\n      Offset that keeps β_1 from vanishing.\n" in out
