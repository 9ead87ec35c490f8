"""`new`: a suite that holds what its comments say, for every data set, and never over an existing file."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddpm_bench as db
from ddpm_bench import registry
from ddpm_bench.datasets.fashion_mnist import DEBIAN
from ddpm_bench.statistics import MIN_SEEDS
from tests.cli.conftest import Call

REQUIRED = {"image_folder": "path = 'pictures', size = 12"}
"""What has to be given for a data set that has no default for it."""
TINY = (
    "training.steps=2", "training.batch_size=8", "training.warmup_steps=1", "network.channels=8",
    "diffusion.timesteps=21", "evaluation.images=8", "evaluation.samples=8", "evaluation.gallery=false",
)  # fmt: skip


def option(name: str) -> str:
    """What --dataset says for a data set."""
    return f"{{ name = '{name}', {REQUIRED[name]} }}" if name in REQUIRED else name


def make_pictures(folder: Path) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(40):
        Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / f"{index}.png")


def uncommented(text: str) -> str:
    """The suite with everything that is commented out: a # without a space behind it."""
    return re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("dataset", registry.names("datasets"))
def test_the_suite_is_legal_on_every_data_set(call: Call, dataset: str) -> None:
    answer = call("new", "mine", "--dataset", option(dataset))
    assert (answer.code, answer.err) == (0, "")
    suite = db.load_suite("mine.toml")
    assert suite.name == "mine"
    assert suite.configuration["dataset"]["name"] == dataset
    assert len(suite.cells) == 4
    assert len(suite.claims) == 1
    assert all(cell.reason is None for cell in suite.cells)
    assert max(suite.cells[0].cell.dataset.shape(Path())[1:]) <= 16
    whole = uncommented(Path("mine.toml").read_text(encoding="utf-8"))
    Path("whole.toml").write_text(whole, encoding="utf-8")
    assert len(db.load_suite("whole.toml").cells) == 4  # one excluded, one included
    assert {"exclude", "include"} <= tomllib.loads(whole).keys()
    assert "where" in tomllib.loads(whole)["claim"][0]


@pytest.mark.parametrize("dataset", ["digits", "gaussian", "fashion_mnist", "image_folder"])
def test_a_run_would_start_where_the_data_are_here(call: Call, dataset: str) -> None:
    if dataset == "fashion_mnist" and not DEBIAN.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    make_pictures(Path("pictures"))
    said = call("new", "mine", "--dataset", option(dataset))
    assert "data fetch" not in said.out
    answer = call("plan", "mine.toml")
    assert (answer.code, answer.err) == (0, "")
    assert "4 cells, 2 trainings" in answer.out


@pytest.mark.parametrize("dataset", registry.names("datasets"))
def test_data_that_are_missing_are_mentioned_with_the_command(call: Call, dataset: str) -> None:
    answer = call("new", "mine", "--dataset", option(dataset))
    text = Path("mine.toml").read_text(encoding="utf-8")
    missing = [problem for problem in db.plan(db.load_suite("mine.toml")).problems if problem.startswith("dataset")]
    downloads = registry.get("datasets", dataset).published.downloader is not None
    for said in (answer.out, text):
        assert (f"`ddpm-bench data fetch {dataset}`" in said) == (bool(missing) and downloads)
    if missing and not downloads:
        assert "no directory or zip file" in text


def test_every_table_is_explained_in_its_line(call: Call) -> None:
    call("new", "mine")
    lines = Path("mine.toml").read_text(encoding="utf-8").splitlines()
    tables = [line for line in lines if re.match(r"#?\[", line)]
    assert len(tables) == 10
    assert all(re.fullmatch(r"#?\[+\w+\]+ +# \S.*", line) for line in tables)
    assert max(map(len, lines)) <= 120


def test_it_says_how_many_seeds_a_verdict_needs(call: Call) -> None:
    call("new", "mine")
    (line,) = [
        line for line in Path("mine.toml").read_text(encoding="utf-8").splitlines() if line.startswith("seed = ")
    ]
    assert line.endswith(f"needs {MIN_SEEDS} seeds: {list(range(MIN_SEEDS))}")
    assert db.load_suite("mine.toml", overrides=(f"matrix.seed={list(range(MIN_SEEDS))}",)).cells[-1].cell.seed == 5


def test_features_made_for_the_data_are_preferred(call: Call) -> None:
    """An extractor that names the data set; else the kernel distance, which needs fewest images."""
    for dataset in registry.names("datasets"):
        call("new", dataset, "--dataset", option(dataset))
        protocol = tomllib.loads(Path(f"{dataset}.toml").read_text(encoding="utf-8"))["evaluation"]
        own = [name for name in registry.names("extractors")
               if registry.get("extractors", name).classes_of == dataset]  # fmt: skip
        if own:
            assert (protocol["extractor"], protocol["metrics"][-1]) == (own[0], "frechet_distance")
        elif "extractor" in protocol:
            assert protocol["metrics"][-1] == "kernel_distance"
        else:
            assert protocol["metrics"] == ["bits_per_dim", "timestep_kl"]


def test_parameters_of_the_data_set_are_kept(call: Call) -> None:
    call("new", "mine", "--dataset", "{ name = 'cifar10', size = 20 }")
    dataset = db.load_suite("mine.toml").cells[0].cell.dataset
    assert dataclasses.asdict(dataset) == {"size": 20}
    assert "takes much longer" not in Path("mine.toml").read_text(encoding="utf-8")
    call("new", "small", "--dataset", "cifar10")
    assert re.search(r"^size = 16 +# left out: 32×32", Path("small.toml").read_text(encoding="utf-8"), re.MULTILINE)


def test_it_says_what_to_type_next(call: Call) -> None:
    Path("folder").mkdir()
    answer = call("new", "mine", "--to", "folder")
    assert answer.out.splitlines() == [
        "wrote    folder/mine.toml",
        "next     `ddpm-bench plan folder/mine.toml` says what it would do and what that costs;",
        "         `ddpm-bench run folder/mine.toml` does it",
    ]
    assert db.load_suite("folder/mine.toml").title == "ε or x₀, β or β̃ on digits"


def test_nothing_is_overwritten(call: Call) -> None:
    Path("mine.toml").write_text("mine", encoding="utf-8")
    answer = call("new", "mine")
    assert (answer.code, answer.out) == (2, "")
    assert answer.errors == ["mine.toml exists already, and nothing is overwritten; choose another name"]
    assert Path("mine.toml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["a/b"], '"a/b" cannot name a suite: letters, digits and ._- only, not beginning with . or -'),
        ([".hidden"], '".hidden" cannot name a suite'),
        (["mine", "--to", "nowhere"], "--to nowhere: no such folder"),
        (["mine", "--dataset", "cifar"], 'unknown dataset "cifar"; did you mean "cifar10"?'),
        (["mine", "--dataset", ""], 'unknown dataset ""; known: '),
        (["mine", "--dataset", "[1]"], "--dataset [1]: expected a name or a table"),
        (
            ["mine", "--dataset", "{ name = 'digits', sise = 4 }"],
            'digits.sise: unknown key; did you mean "size"?',
        ),
        (["mine", "--dataset", "image_folder"], "--dataset image_folder: say which: "),
    ],
)
def test_mistakes_write_nothing(call: Call, arguments: list[str], problem: str) -> None:
    answer = call("new", *arguments)
    assert answer.code == 2
    assert len(answer.errors) == 1
    assert answer.errors[0].startswith(problem)
    assert not list(Path().iterdir())


@pytest.mark.slow
def test_it_runs(call: Call) -> None:
    """As printed but for its size."""
    call("new", "mine")
    answer = call("run", "mine.toml", *(part for setting in TINY for part in ("--set", setting)), "--jobs", "1")
    assert answer.code == 0, answer.err
    results = db.results("mine")
    assert {cell.status for cell in results.cells} == {"done"}
    assert {"bits_per_dim", "fd_digits_cnn"} <= set(results.table["metric"])
