"""The loss landscape of the report: what the artifacts hold, words from the data, a bounded number of panels."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_bench.report import build
from ddpm_bench.report.figures import Drawing, landscape
from ddpm_bench.report.figures.landscape import LEVELS, MAX_SHOWN, levels_of
from ddpm_bench.report.landscapes import Landscape
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import variants
from tests.made_landscape import CHECKPOINTS, add
from tests.make_results import Writer

POINTS = 7


def drawn(runs: Path, suite: str = "digits_ablation") -> Drawing | None:
    view = ResultsView(runs, suite)
    return landscape.draw(view, variants(view))


def example(runs: Path, cells: int = 8, seeds: int = 2, matrix: str = "ablation", **more: Any) -> dict[str, Any]:
    """Place → landscape.json of results with landscapes."""
    Writer(runs, cells, seeds, matrix=matrix).write()
    return add(runs, f"digits_{matrix}", POINTS, **more)


def test_the_data_are_the_artifacts(tmp_path: Path) -> None:
    made = example(tmp_path)
    figure = drawn(tmp_path)
    assert figure is not None
    data = figure.data
    assert len(data) == len(made) * (POINTS**2 + 2 * CHECKPOINTS)
    for (_, rows), (place, found) in zip(data.groupby("training", sort=False), made.items(), strict=True):
        own, plane, grid = (rows[rows.point == name] for name in ("checkpoint", "checkpoint in the plane", "grid"))
        assert own.step.tolist() == found["steps"]
        np.testing.assert_array_equal(own[["component_1", "component_2"]], found["coordinates"])
        np.testing.assert_array_equal(own.bits_per_dim, found["bits_per_dim"])
        np.testing.assert_array_equal(plane.bits_per_dim, found["projected"]["bits_per_dim"])
        values = np.load(tmp_path / place / "bits_per_dim.npy")
        np.testing.assert_array_equal(grid.bits_per_dim, values.ravel())
        # A row of the array is one place on component 2.
        np.testing.assert_array_equal(grid.component_1.iloc[:POINTS], found["axes"][0])
        assert grid.component_2.iloc[:POINTS].nunique() == 1


def test_one_panel_for_each_training(tmp_path: Path) -> None:
    """Cells that share a training share its landscape, named by what they have in common."""
    made = example(tmp_path, 16)
    cells = json.loads((tmp_path / "suites/digits_ablation/results.json").read_text())["cells"]
    assert len(made) < len([cell for cell in cells if cell.get("landscape")])
    figure = drawn(tmp_path)
    assert figure is not None
    labels = list(figure.data.training.unique())
    assert "ε, L_simple" in labels  # σ² differs between the cells
    assert "ε, σ²=β, L_vlb" in labels
    assert all(label in figure.alternative for label in labels)


def test_the_null_stands_beside_the_share(tmp_path: Path) -> None:
    """In words from the data: 82 % + half of 18 % in the first training, 91 %; the walk of 21 points has 76.4 %."""
    made = example(tmp_path)
    figure = drawn(tmp_path)
    assert figure is not None
    shares = [sum(found["shares"][:2]) for found in made.values()]
    low, high = (f"{100 * share:.0f} %" for share in (min(shares), max(shares)))
    assert f"The plane holds {low} to {high} of the variance of the checkpoints." in figure.caption
    assert "Of a random walk of 21 checkpoints it would hold 76 %, averaged as these weights are 84 %" in figure.caption
    assert "21 checkpoints (steps 0 to 1000, evenly spread)" in figure.caption
    assert "the same 64 images at 9 t each, with σ²=β̃" in figure.caption


def test_raw_weights_have_one_null(tmp_path: Path) -> None:
    example(tmp_path, averaged=False)
    figure = drawn(tmp_path)
    assert figure is not None
    assert "it would hold 76 %: a share near that" in figure.caption
    assert "the raw weights" in figure.caption
    assert "averaged" not in figure.caption


def test_the_plane_is_not_the_checkpoint(tmp_path: Path) -> None:
    """The caption says what the last weights have themselves, and what the plane has where they fall on it."""
    (found, *_) = example(tmp_path, 2, 2).values()
    figure = drawn(tmp_path)
    assert figure is not None
    own, plane = found["bits_per_dim"][-1], found["projected"]["bits_per_dim"][-1]
    assert f"the last one has {own:.3g} bits/dim, its place in the plane {plane:.3g}." in figure.caption


def test_more_trainings_than_are_shown(tmp_path: Path) -> None:
    made = example(tmp_path, 96, 1, "variants")
    assert len(made) > MAX_SHOWN
    figure = drawn(tmp_path, "digits_variants")
    assert figure is not None
    assert figure.data.training.nunique() == MAX_SHOWN
    assert f"Shown are the first {MAX_SHOWN} of {len(made)} trainings" in figure.caption
    assert len(figure.svg) < 1_000_000


def made_landscape(grid: list[list[float]], own: list[float]) -> Landscape:
    return Landscape(label="x", found={"bits_per_dim": own}, record={}, grid=np.array(grid), epsilon_mse=np.array(grid))


def test_colours_halve_the_distance_to_the_least_loss() -> None:
    shown = [made_landscape([[2.0, 99.0]], [10.0, 4.0]), made_landscape([[3.0, np.inf]], [6.0, np.nan])]
    found = levels_of(shown)
    assert len(found) == LEVELS
    np.testing.assert_allclose(found[::-1] - 2.0, [8.0 * 0.5**k for k in range(LEVELS)])


def test_losses_below_zero_have_colours_too() -> None:
    """A density of real values may exceed one."""
    found = levels_of([made_landscape([[-3.0, 1.0]], [-1.0, -2.5])])
    assert (np.diff(found) > 0).all()
    assert (found[-1], found[0]) == pytest.approx((-1.0, -3 + 2 * 0.5 ** (LEVELS - 1)))


def test_what_is_not_finite_is_said(tmp_path: Path) -> None:
    (place, *_) = example(tmp_path, 2, 2)
    grid = np.load(tmp_path / place / "bits_per_dim.npy")
    grid[0, 0] = np.inf
    grid[1, 1] = np.nan
    np.save(tmp_path / place / "bits_per_dim.npy", grid)
    figure = drawn(tmp_path)
    assert figure is not None
    assert figure.caption.endswith("Grey: not finite.")


def test_no_finite_loss_at_all_is_no_landscape(tmp_path: Path) -> None:
    made = example(tmp_path, 4, 1)
    files = sorted(tmp_path.rglob("landscape.json"))
    assert len(files) == len(made) > 1
    for index, file in enumerate(files):
        found = json.loads(file.read_text(encoding="utf-8"))
        found["bits_per_dim"] = [None] * len(found["bits_per_dim"])
        file.write_text(json.dumps(found), encoding="utf-8")
        figure = drawn(tmp_path)
        left = len(files) - index - 1
        assert (figure.data.training.nunique() if figure else 0) == left


def test_the_page_and_its_files(tmp_path: Path) -> None:
    example(tmp_path)
    first = build(tmp_path, "digits_ablation", tmp_path / "out").read_text(encoding="utf-8")
    assert 'id="landscape"' in first
    assert 'download="landscape.csv"' in first
    assert re.search(r'aria-label="Contours of bits/dim around the paths of \d trainings', first)
    for ending in ("svg", "pdf"):
        assert (tmp_path / "out/digits_ablation/figures" / f"landscape.{ending}").stat().st_size > 5000
    again = build(tmp_path, "digits_ablation", tmp_path / "again").read_text(encoding="utf-8")
    assert first == again


@pytest.mark.parametrize("how", ["never asked for", "pruned", "older results"])
def test_results_without_landscapes(tmp_path: Path, how: str) -> None:
    if how == "pruned":
        example(tmp_path)
        shutil.rmtree(tmp_path / "store" / "landscape")
    else:
        Writer(tmp_path, 4, 2).write()
    if how == "older results":
        file = tmp_path / "suites/digits_ablation/results.json"
        data = json.loads(file.read_text())
        for cell in data["cells"]:
            cell.pop("landscape", None)
        file.write_text(json.dumps(data))
    assert drawn(tmp_path) is None
