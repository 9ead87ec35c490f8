"""`list` reads directories and imports no entry; `show` has something to say of every one."""

from __future__ import annotations

import dataclasses
import inspect
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddpm_bench import registry
from tests.cli.conftest import Call

ENTRIES = [(axis.directory, name) for axis in registry.AXES.values() for name in registry.names(axis.directory)]


def first_line(entry: Any) -> str:
    return inspect.cleandoc(entry.__doc__).partition("\n")[0]


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


@pytest.mark.parametrize("axis", registry.AXES.values(), ids=str)
def test_one_axis_says_what_its_entries_are(call: Call, axis: registry.Axis) -> None:
    answer = call("list", axis.directory)
    assert answer.out == call("list", axis.key).out
    lines = [line.split(maxsplit=1) for line in answer.out.splitlines()]
    assert lines == [[name, first_line(registry.get(axis.key, name))] for name in registry.names(axis.key)]


def test_one_axis_is_listed_without_importing_it(tmp_path: Path) -> None:
    code = LIST.replace('"list"]', '"list", "variants"]')
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, modules, torch = done.stdout.splitlines()
    assert (modules, torch) == ("[]", "False")
    assert "improved_ddpm " in "\n".join(lines)


@pytest.mark.parametrize(("axis", "name"), ENTRIES)
def test_show(call: Call, axis: str, name: str) -> None:
    answer = call("show", axis, name)
    assert (answer.code, answer.err) == (0, "")
    entry = registry.get(axis, name)
    assert answer.out.startswith(f"{registry.AXES[axis].key} {name}\n\n{first_line(entry)}\n")
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


def curve(out: str) -> list[str]:
    """The lines of the drawing, and what stands below it."""
    return out.partition("\nCurve: ")[2].partition("\n\nSource  ")[0].splitlines()


@pytest.mark.parametrize("name", registry.names("schedules"))
@pytest.mark.parametrize("num_timesteps", [21, 1000])
def test_a_schedule_is_shown_with_its_alpha_bar(call: Call, name: str, num_timesteps: int) -> None:
    given = ["--set", "beta=0.01"] if name == "constant" else []
    out = call("show", "schedule", name, "--timesteps", str(num_timesteps), *given).out
    title, *rows, ends, betas, prior = curve(out)
    label = f"{name}(beta=0.01)" if given else name
    assert title == f"ᾱ_t of {label} at T = {num_timesteps}"
    assert ends.split("  ")[-1].strip() == f"t = {num_timesteps}"
    assert max(map(len, [*rows, ends, betas, prior])) < 80
    # The heights in eighths of a row are ᾱ_t, 1 at t = 0 and falling.
    columns = [sum(" ▁▂▃▄▅▆▇█".index(row.ljust(68)[4 + i]) for row in rows) for i in range(64)]
    process = registry.get("schedules", name)(**({"beta": 0.01} if given else {})).process(num_timesteps)
    alpha_bar = [1.0, *process.alpha_bar.tolist()]
    assert columns == [round(8 * len(rows) * alpha_bar[round(i * num_timesteps / 63)]) for i in range(64)]
    first, last = process.beta.tolist()[0], process.beta.tolist()[-1]
    assert betas == f"  β_1 = {first:.4g}, β_T = {last:.4g}, ᾱ_T = {alpha_bar[-1]:.4g}"
    assert prior == f"  L_T = {-0.5 * math.log1p(-alpha_bar[-1]) / math.log(2):.4g} bits/dim at x² = 1"


def test_the_default_length_is_1000(call: Call) -> None:
    out = call("show", "schedule", "linear").out
    assert curve(out) == curve(call("show", "schedules", "linear", "--timesteps", "1000").out)
    assert curve(out)[-2:] == [
        "  β_1 = 0.0001, β_T = 0.02, ᾱ_T = 4.036e-05",
        "  L_T = 2.911e-05 bits/dim at x² = 1",
    ]


def test_a_schedule_that_does_not_exist_for_a_length_says_why(call: Call) -> None:
    answer = call("show", "schedule", "scaled_linear", "--timesteps", "20")
    assert answer.code == 0
    title, reason = curve(answer.out)
    assert title == "scaled_linear does not exist at T = 20"
    assert reason.startswith("  the scaled_linear schedule needs more than 20 timesteps, got 20")
    assert curve(call("show", "schedule", "constant", "--set", "beta=0.5").out)[1].startswith("  alpha_bar_T falls")


def test_a_required_parameter_is_asked_for(call: Call) -> None:
    out = call("show", "schedule", "constant").out
    assert curve(out) == ["depends on beta, which has no default; --set beta=VALUE shows it"]
    assert "\n  beta: float = required\n" in out


@pytest.mark.parametrize(
    ("name", "given", "top", "bottom"),
    [
        ("snr", None, "1e+04", "0.0001"),
        ("snr_plus_one", None, "1e+04", "1"),
        ("truncated_snr", None, "1e+04", "1"),
        ("min_snr", None, "5", "0.0001"),
        ("min_snr", "gamma=3", "3", "0.0001"),
        ("p2", "gamma=0", "1e+04", "0.0001"),
        ("p2", None, "1", "0.0001"),
    ],
)
def test_a_weighting_is_shown_over_the_snr(call: Call, name: str, given: str | None, top: str, bottom: str) -> None:
    title, *rows, ends = curve(call("show", "weighting", name, *(["--set", given] if given else [])).out)
    assert title.startswith(f"w of {name}{'(' if given else ' '}")
    assert (rows[0].split()[0], rows[-1].split()[0]) == (top, bottom)
    assert ends.split("  ")[-1].strip() == "SNR = 1e-4"
    assert max(map(len, [*rows, ends])) < 80
    lengths = [len(row) for row in rows]
    assert lengths == sorted(lengths)  # falling with the SNR


def test_no_weighting_has_no_curve(call: Call) -> None:
    assert curve(call("show", "weighting", "none").out) == ["none, it depends on the prediction"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss", "vlb", "--timesteps", "100"], "--timesteps 100: for schedules only"),
        (["weighting", "p2", "--timesteps", "100"], "--timesteps 100: for schedules only"),
        (
            ["loss", "vlb", "--set", "variance=beta"],
            "--set variance=beta: for what is drawn only: schedules, weightings",
        ),
        (["schedule", "cosine", "--set", "z=1"], "cosine.z: unknown key; known: max_beta, s"),
        (["schedule", "cosine", "--set", "s=-1"], "cosine.s: must be positive, got -1.0"),
        (["schedule", "cosine", "--set", "s=wide"], 'cosine.s: expected a number, got the string "wide"'),
        (["schedule", "cosine", "--set", "s"], "--set s: expected key=value"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Call, arguments: list[str], message: str) -> None:
    answer = call("show", *arguments)
    assert (answer.code, answer.out, answer.errors) == (2, "", [message])


def test_showing_a_variant_needs_no_torch(tmp_path: Path) -> None:
    code = LIST.replace('"list"]', '"show", "variants", "improved_ddpm"]')
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
