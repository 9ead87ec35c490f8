"""What a newcomer meets first: README, Makefile, Dockerfile, versions, the installed package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ddpm_bench as db
from tests.conftest import FinishedRun
from tests.support import REPOSITORY, TINY, store_state

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
SUITES = sorted((REPOSITORY / "suites").glob("*.toml"))


def blocks(language: str) -> list[str]:
    """The code blocks of the README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """The text of the README below a heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found, title
    return found.group(1)


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, text) of the Dockerfile, comments left out, continued lines joined."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


class TestVersions:
    def test_one_version_everywhere(self) -> None:
        changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
        newest = re.search(r"^## (\S+)", changes, re.MULTILINE)
        assert newest
        assert newest.group(1) == PROJECT["project"]["version"] == db.__version__

    def test_constraints_pin_every_dependency_within_its_bounds(self) -> None:
        lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
        pinned = {canonicalize_name(name): version for name, version in pins.items()}
        project = PROJECT["project"]
        wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
        for requirement in map(Requirement, wanted):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version is not None, requirement.name
            assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"
        for name, version in re.findall(r"\b(torch|torchvision)==(\S+)", README):
            assert version == pinned[name]

    def test_the_licence_is_the_declared_one(self) -> None:
        assert PROJECT["project"]["license"] == "MIT"
        assert (REPOSITORY / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


class TestReadme:
    def test_its_make_commands_exist(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        named = set(re.findall(r"`make ([a-z-]+)`", README))
        assert {"demo", "test"} <= named <= targets

    def test_its_table_of_commands_is_the_command_line(self) -> None:
        from ddpm_bench.cli.app import app

        def commands(group: Any, prefix: str = "") -> set[str]:
            found: set[str] = set()
            for name, command in group.commands.items():
                if not command.hidden:
                    inner = hasattr(command, "commands")
                    found |= commands(command, f"{prefix}{name} ") if inner else {prefix + name}
            return found

        rows = re.findall(r"^\| `([a-z ]+?)(?: \[?[A-Z].*?)?` \|", section("Commands"), re.MULTILINE)
        assert len(rows) == len(set(rows))
        assert set(rows) == commands(typer.main.get_command(app))

    def test_its_options_exist(self) -> None:
        """Every option it names for ddpm-bench stands in the source of a command."""
        source = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "ddpm_bench" / "cli").glob("*.py"))
        text = re.sub(r"```sh\n(?:python3|pip).*?```", "", README, flags=re.DOTALL)
        named = set(re.findall(r"(?<![-\w])--([a-z][a-z-]+)", text)) - {"help"}
        assert {"set", "only", "name", "skip-missing", "format", "paths"} <= named
        for option in named:
            assert f'"--{option}"' in source or re.search(rf"\b{option.replace('-', '_')}: ", source), option

    def test_its_suite_is_the_quickstart(self) -> None:
        listing, _ = blocks("toml")
        shipped = (REPOSITORY / "suites" / "digits_quickstart.toml").read_text(encoding="utf-8")
        assert tomllib.loads(listing) == tomllib.loads(shipped)

    def test_its_claims_can_be_asked_of_that_suite(self, tmp_path: Path) -> None:
        base = REPOSITORY / "suites" / "digits_quickstart.toml"
        _, claims = blocks("toml")
        file = tmp_path / "question.toml"
        file.write_text(f'schema = 1\nextends = "{base}"\nname = "question"\ntitle = "…"\n{claims}', encoding="utf-8")
        suite = db.load_suite(file)
        assert (len(suite.claims), len(suite.cells)) == (2, 4 * 6)

    def test_its_suites_exist_and_all_are_named(self) -> None:
        named = set(re.findall(r"suites/([a-z_0-9]+\.toml)", README))
        assert named == {path.name for path in SUITES}

    def test_its_links_lead_somewhere(self) -> None:
        links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
        assert "docs/report.png" in links
        for link in links:
            assert (REPOSITORY / link).is_file(), link

    def test_its_mistakes_are_reported_as_it_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        head = 'name = "my"\n[dataset]\nname = "digits"\n[network]\nname = "unet"\n'
        wrong = '[training]\nbatch_sise = 64\n[matrix]\nschedule = ["linear", "cosin"]\n'
        Path("my.toml").write_text(head + wrong, encoding="utf-8")
        with pytest.raises(db.errors.UserError) as caught:
            db.load_suite("my.toml")
        assert "\n".join(caught.value.problems) in README
        assert len(caught.value.problems) == 2

    def test_its_python_runs(
        self, tiny: FinishedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Against the finished tiny run under the name of the quickstart, so that db.run finds everything done."""
        (code,) = [block for block in blocks("python") if "import ddpm_bench as db" in block]
        assert len(code.splitlines()) <= 12
        (tiny.folder / "suites").mkdir()
        suite = TINY.replace('name = "tiny"', 'name = "digits_quickstart"')
        (tiny.folder / "suites" / "digits_quickstart.toml").write_text(suite, encoding="utf-8")
        before = store_state(tiny.runs)
        monkeypatch.chdir(tiny.folder)
        found: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), found)
        assert store_state(tiny.runs) == before
        assert capsys.readouterr().out.startswith("[]\n")
        assert found["images"].dtype == np.uint8 and found["images"].ndim == 4
        assert found["process"].alpha_bar.shape == (10,)
        # L_0 and the L_{t-1} are bits_per_dim without L_T, which is a term of its own
        metrics = found["cell"].metrics
        expected = metrics["bits_per_dim"]["value"] - metrics["bits_per_dim_l_T"]["value"]
        sums = found["results"].timestep_kl.groupby("cell_id")["kl"].sum()
        # ten terms, each written with at least nine digits
        assert sums[found["cell"].id] == pytest.approx(expected, rel=1e-8)

    def test_its_schedule_works(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (code,) = [block for block in blocks("python") if "@register" in block]
        value = re.search(r"`(schedule = \[.*?\])`", section("A schedule of your own"))
        assert value
        (tmp_path / "geometric.py").write_text(code, encoding="utf-8")
        shipped = (REPOSITORY / "suites" / "digits_quickstart.toml").read_text(encoding="utf-8")
        suite = tmp_path / "mine.toml"
        suite.write_text(f'plugins = ["geometric.py"]\n{shipped}{value.group(1)}\n', encoding="utf-8")
        cells = db.load_suite(suite).cells
        monkeypatch.delitem(sys.modules, "geometric")
        assert len(cells) == 8
        (schedule,) = {cell.cell.diffusion.schedule for cell in cells if "geometric" in cell.axes["schedule"]}
        betas = schedule.betas(100)
        assert float(betas[0]) == pytest.approx(1e-3)
        assert float(betas[-1]) == pytest.approx(0.3)
        assert schedule.process(100).alpha_bar[-1] < 0.01

    def test_its_other_data_fit_the_quickstart(self) -> None:
        (command,) = [block for block in blocks("sh") if "dataset.name=fashion_mnist" in block]
        overrides = tuple(re.findall(r"--set '?([^\s']+)'?", command))
        suite = db.load_suite(REPOSITORY / "suites" / "digits_quickstart.toml", overrides=overrides, name="fashion")
        assert len(overrides) == 3
        assert suite.cells[0].cell.dataset.shape(Path()) == (1, 16, 16)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_shipped_suite_loads(path: Path) -> None:
    suite = db.load_suite(path)
    assert suite.name == path.stem
    assert suite.cells
    assert suite.on_illegal == "skip" or all(cell.reason is None for cell in suite.cells)


class TestMakefile:
    def test_the_demo_runs_the_quickstart_and_checks_it(self) -> None:
        done = subprocess.run(
            ["make", "--dry-run", "demo"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
        )
        assert re.search(r"^\S+/ddpm-bench run suites/digits_quickstart\.toml$", done.stdout, re.MULTILINE)
        assert re.search(r"^\S+/python -m benchmarks\.quickstart_learns$", done.stdout, re.MULTILINE)

    def test_ci_runs_every_check(self) -> None:
        script = REPOSITORY / ".ci" / "run"
        assert os.access(script, os.X_OK)
        text = script.read_text(encoding="utf-8")
        assert re.findall(r"^make (\S+)$", text, re.MULTILINE) == ["check", "test", "test-slow"]


class TestDockerfile:
    def test_it_is_a_cuda_runtime_image_with_a_user_and_volumes(self) -> None:
        found = dockerfile()
        arguments = dict(text.split("=") for name, text in found if name == "ARG")
        (image,) = [text for name, text in found if name == "FROM"]
        image = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match.group(1)], image)
        assert re.fullmatch(r"nvidia/cuda:13\.\d+\.\d+-runtime-ubuntu24\.04", image)
        values = dict(found)
        assert values["USER"] not in ("root", "0")
        environment = " ".join(text for name, text in found if name == "ENV")
        volumes = json.loads(values["VOLUME"])
        for name in ("DDPM_BENCH_RUNS", "DDPM_BENCH_DATA", "DDPM_BENCH_WEIGHTS"):
            assert re.search(rf"\b{name}=(\S+)", environment).group(1) in volumes  # type: ignore[union-attr]
        assert f"{values['WORKDIR']}/reports" in volumes  # the default of --reports
        assert json.loads(values["ENTRYPOINT"]) == ["ddpm-bench"]
        assert json.loads(values["CMD"]) == ["--help"]

    def test_what_it_copies_exists_and_is_not_ignored(self) -> None:
        kept = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
        for name, text in dockerfile():
            if name == "COPY":
                *sources, _ = [word for word in text.split() if not word.startswith("--")]
                for source in sources:
                    assert (REPOSITORY / source).exists(), source
                    assert f"!{source}" in kept, source

    @pytest.mark.slow
    def test_its_pip_and_entry_lines_work(self, finished_tiny: FinishedRun, tmp_path: Path) -> None:
        """Every line but apt-get's, with the folders of the image below tmp_path; then the installed command.

        `report` needs the template, style and script: they must be part of a package that is not editable.
        """
        root = tmp_path / "image"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        python = Path(sys.base_prefix) / "bin"
        environment["PATH"] = f"{python}{os.pathsep}{environment['PATH']}"
        folder = root

        def inside(text: str) -> str:
            return re.sub(r"(?<![\w./])/(?=(?:opt|bench|data|weights)\b)", f"{root}/", text)

        def run(*command: str) -> str:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            return done.stdout

        for name, text in dockerfile():
            if name == "ENV":
                for variable, value in re.findall(r"(\w+)=(\S+)", text):
                    environment[variable] = inside(value).replace("$PATH", environment["PATH"])
            elif name == "WORKDIR":
                folder = Path(inside(text))
                folder.mkdir(parents=True, exist_ok=True)
            elif name == "COPY":
                *sources, target = [word for word in text.split() if not word.startswith("--")]
                for source in sources:
                    path = REPOSITORY / source
                    if path.is_dir():
                        shutil.copytree(path, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
                    else:
                        shutil.copy(path, folder / target)
            elif name == "RUN" and not text.startswith("apt-get"):
                run("sh", "-c", inside(text))

        entry = json.loads(dict(dockerfile())["ENTRYPOINT"])
        assert shutil.which(entry[0], path=environment["PATH"]) == str(root / "opt" / "venv" / "bin" / entry[0])
        assert "run again to resume" in " ".join(run(*entry, *json.loads(dict(dockerfile())["CMD"])).split())
        assert re.search(r"^schedules +constant, cosine, linear", run(*entry, "list"), re.MULTILINE)
        installed = Path(run("python", "-c", "import ddpm_bench; print(ddpm_bench.__path__[0])").strip())
        assert installed.is_relative_to(root / "opt" / "venv")
        package = REPOSITORY / "ddpm_bench"
        ours = {path.relative_to(package) for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        assert ours - {path.relative_to(installed) for path in installed.rglob("*")} == set()

        shutil.copytree(finished_tiny.runs, environment["DDPM_BENCH_RUNS"])
        page = folder / run(*entry, "report", "tiny").strip()
        assert page == root / "bench" / "reports" / "tiny" / "index.html"
        assert page.read_bytes().startswith(b"<!")
        assert "to do:" in run(*entry, "plan", "suites/digits_quickstart.toml")


def test_every_file_of_the_package_is_installed() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["ddpm_bench"]
    package = REPOSITORY / "ddpm_bench"
    others = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert any(name.endswith(".html") for name in others)
    for name in others:
        assert any(PurePosixPath(name).match(pattern) for pattern in patterns), name
    for folder in {path.parent for path in package.rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), f"{folder} is no package: setuptools leaves it out"
