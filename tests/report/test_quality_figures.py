"""Figures from the tables that quality metrics leave beside their values."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ddpm_bench.report import illegal, words
from ddpm_bench.report.figures import class_histogram, frechet_over_n
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant, variants
from ddpm_bench.store import write_text
from tests.make_results import Writer

SIZES = (180, 206, 240, 288, 360)
CLASSES = ("zero", "one", "two")
NAME = "fd_digits_cnn"


def tables(index: int) -> dict[str, Any]:
    """A line over 1/n with the slope 900, generated twice, and a histogram; by the number of the cell."""
    limit = 2.0 + 0.25 * index
    curve = [
        {"generation": g, "n": n, "value": limit + 900 / n + (0.1 if g else -0.1)} for g in range(2) for n in SIZES
    ]
    shares = (0.5 - 0.02 * index, 0.3, 0.2 + 0.02 * index)
    histogram = [
        {"generation": g, "class": name, "generated": share, "reference": real}
        for g in range(2)
        for name, share, real in zip(CLASSES, shares, (0.4, 0.4, 0.2), strict=True)
    ]
    return {NAME: {"frechet_over_n": curve}, "ch_digits_cnn": {"class_histogram": histogram}}


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> ResultsView:
    """Eight variants of two seeds with made tables; cell i of the suite has the limit 2 + i/4."""
    folder = tmp_path_factory.mktemp("tables")
    Writer(folder, 16, 2).write()
    file = folder / "suites" / "digits_ablation" / "results.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    for index, cell in enumerate(cell for cell in data["cells"] if cell["status"] == "done"):
        cell["tables"] = tables(index)
        record = cell["metrics"]["fd_efficientnet_lite0"]
        protocol = {**record["protocol"], "rank_deficient": False, "extractor": "digits_cnn"}
        limit = 2.0 + 0.25 * index
        cell["metrics"][NAME] = {**record, "value": limit + 2.5, "stderr": 0.1, "protocol": protocol}
        cell["metrics"][f"{NAME}_infinity"] = {**record, "value": limit, "stderr": 0.2, "protocol": protocol}
        cell["metrics"]["ch_digits_cnn"] = {**record, "value": 0.1, "protocol": protocol}
    write_text(file, json.dumps(data))
    return ResultsView(folder, "digits_ablation")


def legal(view: ResultsView) -> list[Variant]:
    return [group for group in variants(view) if not illegal.is_illegal(group)]


def limit(view: ResultsView, group: Variant) -> float:
    done = [cell["id"] for cell in view.cells if cell["status"] == "done"]
    return math.fsum(2.0 + 0.25 * done.index(cell["id"]) for cell in group.done) / len(group.done)


def test_the_curve_is_the_mean_over_generations_and_seeds(view: ResultsView) -> None:
    drawing = frechet_over_n.draw(view, legal(view))
    assert drawing is not None
    for group in legal(view):
        if not group.done:
            continue
        rows = drawing.data[drawing.data["variant"] == group.label].set_index("one_over_n")
        assert list(rows.index) == [0.0, *(1 / n for n in reversed(SIZES))]
        for place, row in rows.iterrows():
            assert row["value"] == pytest.approx(limit(view, group) + 900 * float(str(place)), rel=1e-12)


def test_bars_are_intervals_over_seeds(view: ResultsView) -> None:
    """Two seeds a quarter apart: s = 0.25/√2, t_{0.975, 1} = 12.7062, so ± 12.7062 · 0.25/2. One seed: its own error,
    which only the extrapolated value and that of all images have."""
    drawing = frechet_over_n.draw(view, legal(view))
    assert drawing is not None
    several = [group for group in legal(view) if len(group.done) == 2]
    adjacent = [
        group
        for group in several
        if abs(group.done[0]["metrics"][NAME]["value"] - group.done[1]["metrics"][NAME]["value"]) == 0.25
    ]
    assert adjacent
    rows = drawing.data[drawing.data["variant"] == adjacent[0].label]
    assert rows["error"].tolist() == pytest.approx([12.7062 * 0.125] * 6, rel=1e-5)
    assert "95 % t interval over seeds" in drawing.caption


def test_the_extrapolated_range_is_said_in_words(view: ResultsView) -> None:
    drawing = frechet_over_n.draw(view, legal(view))
    assert drawing is not None
    limits = {group.label: limit(view, group) for group in legal(view) if group.done}
    low, high = min(limits, key=limits.__getitem__), max(limits, key=limits.__getitem__)
    assert f"ranges from {limits[low]:.3g} ({low}) to {limits[high]:.3g} ({high})." in drawing.alternative


def test_histograms_in_per_cent(view: ResultsView) -> None:
    drawing = class_histogram.draw(view, legal(view))
    assert drawing is not None
    data = drawing.data.set_index("variant")
    assert data.loc["real images"].to_dict() == pytest.approx({"zero": 40.0, "one": 40.0, "two": 20.0})
    for group in legal(view):
        if group.done:
            index = (limit(view, group) - 2.0) / 0.25
            expected = {"zero": 50 - 2 * index, "one": 30.0, "two": 20 + 2 * index}
            assert data.loc[group.label].to_dict() == pytest.approx(expected)
    assert data.sum(axis=1).tolist() == pytest.approx([100.0] * len(data))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("fd_digits_cnn_infinity", "Fréchet distance (digits_cnn), n → ∞"),
        ("fd_digits_cnn_test_n360_infinity", "Fréchet distance (digits_cnn), test, n = 360, n → ∞"),
        ("ch_digits_cnn_confidence", "class histogram distance (digits_cnn), mean confidence"),
        ("kd_x_test_subset_std", "kernel distance (x), test, standard deviation over subsets"),
        ("precision_digits_cnn", "precision (digits_cnn)"),
    ],
)
def test_titles(name: str, title: str) -> None:
    assert words.metric(name) == title
    assert words.is_companion(name, ["kd_x", "fd_digits_cnn", "ch_digits_cnn", name]) is (
        name != "precision_digits_cnn"
    )


def test_without_an_unsuffixed_name_the_first_one_leads() -> None:
    """reference_split = "test": every name ends in _test, and the table must have a column all the same."""
    names = ["bits_per_dim", "bits_per_dim_l_0", "kd_x_test", "kd_x_test_subset_std", "kd_x_test_n360"]
    assert [name for name in names if not words.is_companion(name, names)] == ["bits_per_dim", "kd_x_test"]


def test_without_tables_there_are_no_figures(tmp_path: Path) -> None:
    Writer(tmp_path, 4, 1).write()
    bare = ResultsView(tmp_path, "digits_ablation")
    assert frechet_over_n.draw(bare, legal(bare)) is None
    assert class_histogram.draw(bare, legal(bare)) is None
