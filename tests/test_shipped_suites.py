"""Every suite of suites/: it loads, plans without a problem, and is what its first lines say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import ddpm_bench as db
from ddpm_bench.networks import Problem
from ddpm_bench.suite import Suite
from tests.support import REPOSITORY

SUITES = sorted((REPOSITORY / "suites").glob("*.toml"))
COUNTS = {
    "celeba_epsilon_vs_x0": (8, 6, 0),
    "cifar_ablation": (16, 12, 0),
    "cifar_ho_table2": (6, 6, 2),
    "cifar_improved": (7, 5, 6),
    "cifar_sampling_steps": (20, 1, 0),
    "cifar_steps": (8, 3, 0),
    "cifar_timesteps": (6, 3, 0),
    "digits_ablation": (208, 88, 0),
    "digits_learning_rate": (54, 54, 0),
    "digits_quickstart": (4, 2, 0),
    "digits_schedules": (30, 10, 0),
    "digits_training_steps": (54, 54, 0),
    "digits_variants": (56, 40, 40),
    "digits_weightings": (18, 16, 0),
    "gaussian_oracle": (4, 2, 0),
    "mnist_steps": (8, 3, 0),
}
"""Legal cells, trainings, illegal cells."""
PUBLISHED = {
    "cifar_ablation": (6, 10, 0),
    "cifar_ho_table2": (4, 8, 0),
    "cifar_improved": (4, 10, 10),
    "cifar_sampling_steps": (6, 42, 27),
    "cifar_timesteps": (2, 6, 4),
    "celeba_epsilon_vs_x0": (3, 3, 0),
}
"""Claims, published values, and how many of these nobody has compared with their source."""


def load(path: Path, *overrides: str) -> Suite:
    return db.load_suite(path, overrides=overrides)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen grey squares in place of data sets that have to be fetched."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(12):
        Image.new("RGB", (32, 32), (20 * i, 20 * i, 20 * i)).save(folder / f"{i:02}.png")
    return folder


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_it_loads_and_plans(path: Path, stand_in: Path, tmp_path: Path) -> None:
    suite = load(path)
    assert suite.name == path.stem
    dataset = suite.cells[0].cell.dataset
    if dataset.published.downloader is not None:
        channels, side, _ = dataset.shape(tmp_path)
        given = f'{{name = "image_folder", path = "{stand_in}", size = {side}, channels = {channels}}}'
        suite = load(path, f"dataset={given}")
    plan = db.plan(suite, runs=tmp_path / "runs", skip_missing=True)
    assert plan.problems == []
    found = (len(plan.cells), len(plan.trainings()), len(plan.illegal))
    assert found == COUNTS.get(path.stem, found)


def test_the_counts_are_of_suites_that_exist() -> None:
    assert COUNTS.keys() | PUBLISHED.keys() <= {path.stem for path in SUITES}


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_it_begins_with_a_question_and_its_size(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").partition("schema")[0].splitlines()
    assert all(line.startswith("# ") for line in lines)
    text = " ".join(line.removeprefix("# ") for line in lines)
    if path.stem in PUBLISHED:
        cells, trainings, illegal = COUNTS[path.stem]
        assert "?" in text
        assert "For a GPU" in text
        assert re.search(rf"\b{cells} cells, {trainings} trainings?\b", text)
        assert (f"{illegal} more illegal" in text) == bool(illegal)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values_stand_beside_cells(name: str) -> None:
    """Each beside legal cells of its own data set, with its source; one that nobody has checked says so in words."""
    suite = load(REPOSITORY / "suites" / f"{name}.toml")
    unchecked = [item for item in suite.references if not item.checked]
    assert (len(suite.claims), len(suite.references), len(unchecked)) == PUBLISHED[name]
    legal = {cell.id for cell in suite.cells if cell.reason is None}
    dataset = suite.cells[0].cell.dataset.name
    for item in suite.references:
        assert item.dataset == dataset
        assert item.checked in (True, False)
        assert "not checked" in item.protocol if item in unchecked else "not checked" not in item.protocol
        assert set(item.cells) & legal
    for claim in suite.claims:
        assert claim.dataset == dataset
        assert claim.source
        sides = claim.equivalent or (claim.better, claim.than)
        assert all(set(side.cells) & legal for side in sides)
    assert suite.skipped_notes == ()


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "cifar_sampling_steps"])
def test_no_two_published_values_of_one_source_stand_beside_one_cell(name: str) -> None:
    suite = load(REPOSITORY / "suites" / f"{name}.toml")
    places = [(item.metric, item.source, cell) for item in suite.references for cell in item.cells]
    assert len(places) == len(set(places))


def test_the_networks_for_celeba_have_the_published_numbers_of_parameters() -> None:
    """Bagge & Rørhauge 2024, Table 1."""
    suite = load(REPOSITORY / "suites" / "celeba_epsilon_vs_x0.toml")
    counts = {}
    for item in suite.cells:
        cell = item.cell
        problem = Problem(
            shape=(3, 32, 32), levels=256, outputs=3, process=cell.process(), prediction=cell.diffusion.prediction,
            dataset=cell.dataset,
        )  # fmt: skip
        with torch.device("meta"):
            network = cell.network.build(problem)
        counts[cell.network.residual_blocks] = sum(parameter.numel() for parameter in network.parameters())
    assert counts == {1: 39_902_147, 4: 92_690_435}
