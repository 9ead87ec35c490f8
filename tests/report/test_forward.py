"""The forward process on the page: what the artifacts hold, once for each schedule, and nothing where there is none."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import norm

from ddpm_bench.planning import MAX_PRIOR_BITS
from ddpm_bench.report import build
from ddpm_bench.report.figures import forward, noised
from ddpm_bench.report.figures.forward import Forward, each, processes
from ddpm_bench.report.figures.noised import distance_to_noise
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import variants
from tests.make_results import Writer
from tests.pages import Page

FACTOR, GAP = 5, 3  # 8×8 digits, enlarged to at least 36 pixels


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Variants of two schedules, one training each."""
    folder = tmp_path_factory.mktemp("forward")
    Writer(folder, 16, 1).write()
    return folder


@pytest.fixture
def view(runs: Path) -> ResultsView:
    return ResultsView(runs, "digits_ablation")


def found(view: ResultsView) -> list[Forward]:
    return processes(view, variants(view))


def test_each_schedule_is_there_once(view: ResultsView) -> None:
    places = {cell["artifacts"]["forward"] for cell in view.cells if cell["artifacts"]}
    assert [item.label for item in found(view)] == ["linear", "cosine"]
    assert {item.folder for item in found(view)} == {view.runs / place for place in places}


def test_one_schedule_is_named_with_its_length(tmp_path: Path) -> None:
    Writer(tmp_path, 4, 1).write()
    assert [item.label for item in found(ResultsView(tmp_path, "digits_ablation"))] == ["linear, T=100"]


def test_the_data_are_those_of_the_artifacts(view: ResultsView) -> None:
    drawing = forward.draw(view, variants(view))
    assert drawing is not None
    assert drawing.data["t"].tolist() == list(range(1, 101))
    for item in found(view):
        held = pd.read_csv(item.folder / "forward.csv")
        for name in ("alpha_bar", "snr", "beta", "beta_tilde", "kl", "stderr"):
            assert drawing.data[f"{name} of {item.label}"].tolist() == held[name].tolist()


def test_what_the_caption_says(view: ResultsView) -> None:
    drawing = forward.draw(view, variants(view))
    assert drawing is not None
    for item in found(view):
        table = pd.read_csv(item.folder / "forward.csv")
        half = int((table["alpha_bar"] > 0.5).sum()) + 1
        assert f"{half} ({item.label})" in drawing.caption
        mantissa, exponent = f"{table['kl'].iloc[-1]:.1e}".split("e")
        assert f"{mantissa}e−{int(exponent[1:])} ({item.label})" in drawing.caption
        assert f"{item.label}: KL from {table['kl'].iloc[0]:.3f} to " in drawing.alternative
    assert "360 images of the test split" in drawing.caption
    assert "bits/dim, below 0.001" in drawing.caption
    assert forward.MAX_PRIOR_BITS == MAX_PRIOR_BITS  # the page and the plan warn from the same L_T on


def test_a_process_that_does_not_end_at_noise(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    view = ResultsView(tmp_path / "runs", "digits_ablation")
    linear = found(view)[0].folder / "forward.csv"
    table = pd.read_csv(linear)
    table.loc[99, "kl"], table["alpha_bar"] = 0.02, table["alpha_bar"].clip(lower=0.6)
    table.to_csv(linear, index=False)
    drawing = forward.draw(view, variants(view))
    assert drawing is not None
    assert "ᾱ falls to ½ at t = 50 (cosine), never with linear." in drawing.caption
    assert "0.020 (linear)" in drawing.caption
    assert "That of linear is above 0.001: x_T is not N(0, I)" in drawing.caption


def test_different_lengths_are_drawn_over_their_share(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 4, 1)
    writer.variants = [
        axes | {"timesteps": str(steps)} for steps, axes in zip((50, 100), writer.variants, strict=False)
    ]
    cells = [writer.cell(axes, 0) for axes in writer.variants]
    view = ResultsView(tmp_path, writer.write(cells=cells, axes=["timesteps"]).name)
    assert [item.label for item in found(view)] == ["T=50", "T=100"]
    drawing = forward.draw(view, variants(view))
    assert drawing is not None
    assert len(drawing.data) == 100
    assert drawing.data["kl of T=50"].notna().sum() == 50


# Pixels and pictures


def test_the_densities_are_those_of_the_artifacts(view: ResultsView) -> None:
    drawing = noised.draw(view, variants(view))
    assert drawing is not None
    for item in found(view):
        edges, law = np.load(item.folder / "edges.npy"), np.load(item.folder / "pixels.npy")
        for index, t in enumerate(json.loads((item.folder / "forward.json").read_text())["times"]):
            shown = drawing.data[f"density at t={t} of {item.label}"].to_numpy()
            np.testing.assert_allclose(shown * np.diff(edges), law[index], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(drawing.data["pixel"], (edges[:-1] + edges[1:]) / 2, atol=1e-6)


def test_the_distance_to_noise(tmp_path: Path) -> None:
    """Of N(0, 1) itself it is 0; of a law that is nowhere in common with it, 1; moved by 1, 2Φ(½) − 1."""
    edges = np.linspace(-8, 8, 1601)
    np.save(tmp_path / "edges.npy", edges)

    def distance(law: np.ndarray) -> float:
        np.save(tmp_path / "pixels.npy", law[None])
        return distance_to_noise(Forward("", tmp_path))

    assert distance(np.diff(norm.cdf(edges))) == pytest.approx(0, abs=1e-12)
    assert distance(np.diff(norm.cdf(edges, 1))) == pytest.approx(2 * norm.cdf(0.5) - 1, abs=1e-12)
    # everything outside of the bins: what N(0, 1) has there, 1.2e-15, is in common
    assert distance(np.zeros(1600)) == pytest.approx(1, abs=1e-12)


def pixels(image: dict[str, str]) -> np.ndarray:
    """A picture as rows of images, each pixel of which must stand in a square of its own: [images, times, 8, 8]."""
    png = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    whole = np.array(Image.open(io.BytesIO(png)))
    assert whole.shape == (int(image["height"]), int(image["width"]))
    side, rows = 8 * FACTOR, []
    for top in range(0, len(whole), side + GAP):
        tiles = []
        for left in range(0, whole.shape[1], side + GAP):
            tile = whole[top : top + side, left : left + side].reshape(8, FACTOR, 8, FACTOR)
            assert (tile == tile[:, :1, :, :1]).all()
            tiles.append(tile[:, 0, :, 0])
        rows.append(tiles)
    return np.array(rows)


def images_of(page: Page) -> dict[str, dict[str, Any]]:
    return {found["data-strip"]: found for tag, found, _ in page.elements if tag == "img" and "data-strip" in found}


def test_pictures_are_the_noised_images(view: ResultsView, tmp_path: Path) -> None:
    page = Page(build(view.runs, view.suite, tmp_path).read_text(encoding="utf-8"))
    images = images_of(page)
    assert list(images) == ["linear", "cosine"]
    for item in found(view):
        x_t = np.load(item.folder / "noised.npy")[:, :, 0].astype(float)
        np.testing.assert_array_equal(pixels(images[item.label]), np.rint(((x_t + 1) * 127.5).clip(0, 255)))
        assert ", ".join(map(str, item.info["times"])) in images[item.label]["alt"]
    ids = [found["id"] for found, _ in page.having("id")]
    assert ids.index("gallery") < ids.index("forward") < ids.index("noised") < ids.index("reproduce")


def test_large_images_are_fewer(view: ResultsView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noised, "MAX_VALUES", 2 * 2 * 9 * 64)  # two schedules, two images of 9 t
    drawing = noised.draw(view, variants(view))
    assert drawing is not None
    assert "Below, 2 test images" in drawing.caption
    assert {strip.height for strip in drawing.strips} == {2 * 8 * FACTOR + GAP}


def test_few_schedules_are_compared_by_eye(view: ResultsView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noised, "MAX_SHOWN", 1)
    drawing = noised.draw(view, variants(view))
    assert drawing is not None
    assert [strip.label for strip in drawing.strips] == ["linear"]
    assert drawing.caption.endswith("Shown are the first 1 of 2 schedules.")


def test_real_values_have_a_range_of_their_own(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    view = ResultsView(tmp_path / "runs", "digits_ablation")
    for item in found(view):
        (item.folder / "forward.json").write_text(json.dumps(item.info | {"levels": None}))
        np.save(item.folder / "noised.npy", 10 * np.load(item.folder / "noised.npy"))
    drawing = noised.draw(view, variants(view))
    assert drawing is not None
    assert "Black is −1," not in drawing.caption
    assert "Black is −" in drawing.caption


# Where there is nothing to show


def test_older_results_and_a_pruned_store(tmp_path: Path) -> None:
    folder = Writer(tmp_path, 4, 1).write()
    shutil.rmtree(tmp_path / "store" / "forward")
    pruned = build(tmp_path, folder.name, tmp_path / "pruned")
    data = json.loads((folder / "results.json").read_text())
    for cell in data["cells"]:
        cell["artifacts"].pop("forward", None)
    (folder / "results.json").write_text(json.dumps(data))
    older = build(tmp_path, folder.name, tmp_path / "older")
    for path in (pruned, older):
        ids = [found["id"] for found, _ in Page(path.read_text(encoding="utf-8")).having("id")]
        assert not {"forward", "noised"} & set(ids)
        assert not list((path.parent / "figures").glob("forward.*"))


def test_values_with_their_schedules() -> None:
    assert each({"linear": "1", "cosine": "2", "sigmoid": "3"}) == "1 (linear), 2 (cosine) and 3 (sigmoid)"
    assert each({"linear": "1"}) == "1 (linear)"  # one of several
    assert each({"linear": "1"}, alone=True) == "1"
