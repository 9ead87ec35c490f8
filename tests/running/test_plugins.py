"""What others add: a file beside a suite, and a package that is really installed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ddpm_bench as db
from tests.support import REPOSITORY, TINY, artifacts, cli, store_state, write_suite

pytestmark = pytest.mark.xdist_group("runs")

PACKAGE = REPOSITORY / "tests" / "plugin_package"
SCHEDULE = PACKAGE / "ddpm_bench_example" / "log_linear.py"
NAME = "ddpm-bench-example"


def new_artifacts(folder: Path, before: set[tuple[str, str]]) -> list[str]:
    return sorted(stage for stage, _ in artifacts(folder / "runs") - before)


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite, the user's own schedule, and the finished run. Not to be changed."""
    folder = tmp_path_factory.mktemp("one_file")
    for file in (PACKAGE / "one_file.toml", SCHEDULE):
        shutil.copy(file, folder)
    done = cli("run", "one_file.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(one_file: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(one_file, tmp_path / "copy"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_an_entry_of_a_file_is_called_like_the_file(one_file: Path) -> None:
    cells = db.results("one_file", runs=one_file / "runs").cells
    assert [cell.axes["schedule"] for cell in cells] == ["cosine", "log_linear"]
    assert [cell.label for cell in cells] == ["ε, σ²=β, cosine, L_simple", "ε, σ²=β, log-linear, L_simple"]
    assert all(cell.status == "done" for cell in cells)
    assert not (one_file / "__pycache__").exists()


def test_a_comment_recomputes_nothing(copy: Path) -> None:
    before = store_state(copy / "runs")
    edit(copy / "log_linear.py", "        t = torch", "        # 1-based, as in the papers\n\n        t = torch")
    done = cli("run", "one_file.toml", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert store_state(copy / "runs") == before


def test_code_recomputes_exactly_its_cells(copy: Path) -> None:
    before, files = artifacts(copy / "runs"), store_state(copy / "runs")
    edit(copy / "log_linear.py", "max_beta=0.999", "max_beta=0.998")
    plan = cli("plan", "one_file.toml", cwd=copy, COLUMNS="120").stdout
    assert "2 cells, 2 trainings, 1 of them exist" in plan
    assert re.search(r"epsilon-beta-cosine-simple-s0 +│ +1 │ all", plan)
    assert re.search(r"epsilon-beta-log_linear-simple-s0 +│ +2 │ nothing", plan)
    assert re.search(r"\n  ε, σ²=β, log-linear, L_simple: schedule\.source: [0-9a-f]{8}… → [0-9a-f]{8}…\n", plan)
    done = cli("run", "one_file.toml", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert new_artifacts(copy, before) == ["forward", "gallery", "likelihood", "nearest", "sample", "score", "train"]
    assert {name: time for name, time in store_state(copy / "runs").items() if name in files} == files


def test_a_file_that_fails_stops_its_suite_each_time_and_no_other(copy: Path) -> None:
    edit(copy / "log_linear.py", "import torch\n", "import torch\nimport something_that_is_nowhere\n")
    before = store_state(copy / "runs")
    for _ in range(2):
        done = cli("run", "one_file.toml", cwd=copy)
        assert done.returncode == 2
        assert "one_file.toml:4: plugins[0]: plugin " in done.stderr
        assert "cannot be imported: ModuleNotFoundError: No module named 'something_that_is_nowhere'" in done.stderr
        assert "Traceback" not in done.stderr
    assert store_state(copy / "runs") == before
    write_suite(copy)
    assert cli("plan", "tiny.toml", cwd=copy).returncode == 0


def test_what_is_no_entry_is_refused_with_the_reason_all_at_once(tmp_path: Path) -> None:
    mistakes = {
        "undocumented": ('    """The logarithm', '    _ = """The logarithm', "LogLinear needs a written docstring"),
        "baseless": ("class LogLinear(Schedule)", "class LogLinear", "LogLinear has no axis; subclass Schedule, Loss"),
        "loose": ("frozen=True, kw_only=True", "kw_only=True", "LogLinear is no frozen dataclass; put @register above"),
        "cosine": ("", "", 'the name "cosine" of cosine.LogLinear is taken by ddpm_bench.diffusion.schedules.cosine'),
    }
    for name, (old, new, _) in mistakes.items():
        shutil.copy(SCHEDULE, tmp_path / f"{name}.py")
        edit(tmp_path / f"{name}.py", old, new)
    write_suite(tmp_path, f"plugins = {json.dumps([f'{name}.py' for name in mistakes])}\n{TINY}")
    done = cli("plan", "tiny.toml", cwd=tmp_path)
    assert done.returncode == 2
    for line, (name, (_, _, message)) in zip(done.stderr.splitlines(), mistakes.items(), strict=True):
        assert f"{name}.py cannot be imported: TypeError: " in line
        assert message in line


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed, by pip from its sources and without the network."""
    sources, target = tmp_path_factory.mktemp("sources") / "package", tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, sources)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def package_run(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the finished run of a suite that uses all of the package. Not to be changed."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copy(PACKAGE / "package.toml", folder)
    done = cli("run", "package.toml", cwd=folder, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    return folder


def test_what_is_installed_is_listed_and_shown(site: Path, tmp_path: Path) -> None:
    listed = cli("list", cwd=tmp_path, PYTHONPATH=str(site)).stdout
    found = {line.split()[0]: line.rpartition(", ")[2] for line in listed.splitlines()}
    assert {axis: name for axis, name in found.items() if "/" in name} == {
        "schedules": f"{NAME}/log_linear", "weightings": f"{NAME}/soft_min_snr",
        "metrics": f"{NAME}/energy_distance", "datasets": f"{NAME}/bars",
    }  # fmt: skip
    one = cli("list", "schedules", cwd=tmp_path, PYTHONPATH=str(site)).stdout
    assert re.search(rf"^{NAME}/log_linear +The logarithm of the signal-to-noise ratio is linear in t\.$", one, re.M)
    shown = cli("show", "schedule", f"{NAME}/log_linear", cwd=tmp_path, PYTHONPATH=str(site)).stdout
    assert shown.startswith(f"schedule {NAME}/log_linear\n\nThe logarithm of")
    assert "first: float = 8.0" in shown


def test_a_run_with_all_of_the_package(package_run: Path) -> None:
    cells = db.results("package", runs=package_run / "runs").cells
    assert [cell.axes["schedule"] for cell in cells] == ["cosine", f"{NAME}/log_linear"]
    assert {cell.axes["loss"] for cell in cells} == {f"simple(weighting={NAME}/soft_min_snr(gamma=2.0))"}
    assert all(cell.status == "done" for cell in cells)
    results = json.loads((package_run / "runs/suites/package/results.json").read_text(encoding="utf-8"))
    assert results["data"]["name"] == f"{NAME}/bars"


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, pair by pair."""

    def mean(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
        return sum(float(np.linalg.norm(a.astype(np.float64) - b)) for a, b in pairs) / len(pairs)

    return (
        2 * mean([(a, b) for a in x for b in y])
        - mean([(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
        - mean([(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    )


def test_its_metric_is_in_the_results_the_table_and_the_report(package_run: Path) -> None:
    suite = package_run / "runs" / "suites" / "package"
    plan = json.loads((suite / "plan.json").read_text(encoding="utf-8"))
    store, values = package_run / "runs" / "store", {}
    for cell in json.loads((suite / "results.json").read_text(encoding="utf-8"))["cells"]:
        found = cell["metrics"]["ed_efficientnet_lite0"]
        values[cell["id"]] = found["value"]
        assert found["num_samples"] == found["protocol"]["n_generated"] == 16
        assert found["protocol"]["reference_split"] == "train"
        assert cell["metrics"]["ed_efficientnet_lite0_test"]["value"] is not None
        quality = next(item for item in plan["cells"] if item["id"] == cell["id"])["quality"]["ed_efficientnet_lite0"]
        inputs = plan["tasks"][quality]["inputs"]
        generated, reference = (
            np.concatenate([np.load(store / stage / key / "features.npy") for stage, key in inputs[side]])
            for side in ("generated", "reference")
        )
        # float64 sums over at most 16 · 58 pairs: n · 1e-16 relative to each mean, which is some 10² of the difference.
        assert found["value"] == pytest.approx(energy_distance(generated, reference), rel=1e-9)
    rows = csv.DictReader((suite / "results.csv").read_text(encoding="utf-8").splitlines())
    table = {row["cell_id"]: float(row["value"]) for row in rows if row["metric"] == "ed_efficientnet_lite0"}
    assert table == values
    page = (package_run / "reports" / "package" / "index.html").read_text(encoding="utf-8")
    assert "ed efficientnet lite0" in page
    assert all(f'data-value="{value}"' in page for value in values.values())
    assert "floor: 16 test images" in page  # measured with the same metric


def test_an_edit_of_the_package_recomputes_what_it_changes(package_run: Path, site: Path, tmp_path: Path) -> None:
    folder, changed = shutil.copytree(package_run, tmp_path / "copy"), shutil.copytree(site, tmp_path / "site")
    before = artifacts(folder / "runs")
    # Code of the data set: it is decoded again, the images are the same, and so nothing else is computed.
    edit(changed / "ddpm_bench_example" / "bars.py", '"""Images of bars."""', '"""Images of single bars."""')
    done = cli("run", "package.toml", cwd=folder, PYTHONPATH=str(changed))
    assert done.returncode == 0, done.stderr
    assert new_artifacts(folder, before) == ["data"]
    # Code of the metric: its values alone.
    edit(changed / "ddpm_bench_example" / "energy_distance.py", "float(2 * across", "float(across + across")
    plan = cli("plan", "package.toml", cwd=folder, COLUMNS="200", PYTHONPATH=str(changed)).stdout
    assert "2 cells, 2 trainings, 2 of them exist" in plan
    assert plan.count("│ train, score, likelihood, sample, features, gallery, nearest, forward │") == 2


def test_a_package_that_cannot_be_imported_stops_the_suites_that_use_it(site: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(site, tmp_path / "site")
    (broken / "ddpm_bench_example" / "log_linear.py").write_text("raise OSError('no luck')\n", encoding="utf-8")
    shutil.copy(PACKAGE / "package.toml", tmp_path)
    for command in ("plan", "run"):
        done = cli(command, "package.toml", cwd=tmp_path, PYTHONPATH=str(broken))
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f'package.toml:28: matrix.schedule[1]: the plugin schedule "{NAME}/log_linear" cannot be imported: '
            "OSError: no luck"
        ]
    assert not (tmp_path / "runs").exists()
    # The same file of the package does not disturb a suite that uses the others.
    text = (tmp_path / "package.toml").read_text(encoding="utf-8").replace(f', "{NAME}/log_linear"', "")
    write_suite(tmp_path, text)
    assert cli("plan", "tiny.toml", cwd=tmp_path, PYTHONPATH=str(broken)).returncode == 0


def test_the_contracts_of_the_project_hold_for_the_package(site: Path) -> None:
    """As docs/plugins.md says: from a clone, with the package installed beside it."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "-k", f"{NAME} or test_example",
               "tests/contracts", "tests/plugin_package"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted
    # The package's own four tests; of the contracts at least docstring, fields and identity for two entries.
    assert int(counted.group(1)) >= 4 + 2 * 3
