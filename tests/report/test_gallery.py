"""The gallery of the report: pictures of the artifacts, shares as results.json holds them, a bounded size."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import t as student

from ddpm_bench.report import build
from ddpm_bench.report.figures import gallery
from ddpm_bench.report.figures.gallery import MAX_SHOWN
from ddpm_bench.report.shares import Share, make_shares
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import variants
from tests.make_results import Writer
from tests.pages import Page
from tests.report.conftest import Example

FACTOR = 5  # 8×8 digits, enlarged to at least 36 pixels


def pictures(page: Page) -> dict[str, list[dict[str, str]]]:
    """Cell → its pictures, in the order of the page."""
    found: dict[str, list[dict[str, str]]] = {}
    for tag, attributes, _ in page.elements:
        if tag == "img" and "data-gallery" in attributes:
            found.setdefault(attributes["data-gallery"], []).append(attributes)
    return found


def decoded(attributes: dict[str, str]) -> list[np.ndarray]:
    """The images of a picture as levels, each pixel of which must stand in a square of its own."""
    png = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
    pixels = np.array(Image.open(io.BytesIO(png)))
    assert pixels.shape[:2] == (int(attributes["height"]), int(attributes["width"]))
    side, found = 8 * FACTOR, []
    for left in range(0, pixels.shape[1], side + 3):
        tile = pixels[:, left : left + side].reshape(8, FACTOR, 8, FACTOR)
        assert (tile == tile[:, :1, :, :1]).all()
        found.append(np.rint(tile[:, 0, :, 0].astype(float) * 16 / 255).astype(np.uint8))
    return found


def array(example: Example, place: str, name: str) -> np.ndarray:
    values: np.ndarray = np.load(example.runs / place / f"{name}.npy")
    return values


def test_pictures_are_the_artifacts(example: Example) -> None:
    """Of each variant's first seed: four samples along the chain, two interpolations, samples and their neighbours."""
    shown = pictures(Page(example.html))
    cells = [cell for cell in example.data["cells"] if cell["artifacts"].get("gallery") and not cell["seed"]]
    assert list(shown) == [cell["id"] for cell in cells]
    assert len(cells) == 8
    for cell in cells:
        found, places = [decoded(item) for item in shown[cell["id"]]], cell["artifacts"]
        wanted = [
            *array(example, places["gallery"], "progressive"),
            *array(example, places["gallery"], "interpolation"),
        ]
        wanted += [array(example, places["samples"][0], "samples")[:16]]
        wanted += [array(example, place, "images")[:16] for place in places["nearest"].values()]
        assert len(found) == len(wanted) == 4 + 2 + 3
        for row, images in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(np.stack(row), images[:, 0])


def test_pictures_say_what_they_show(example: Example) -> None:
    page = Page(example.html)
    for cell in example.data["cells"]:
        if cell["id"] not in pictures(page):
            continue
        progressive = pictures(page)[cell["id"]][0]["alt"]
        timesteps = ", ".join(map(str, cell["gallery"]["timesteps"]))
        assert progressive == f"Sample 0 of {label(example, cell)}, seed 0: x̂₀ at t = {timesteps}"
    ticks = ["".join(text) for _, found, text in page.elements if found.get("class") == "ticks"]
    assert set(ticks) == {"100867258432915" + "1"}
    assert len(ticks) == 8 * 2  # above the first of the rows that stand one above the other
    kinds = ["".join(text) for _, found, text in page.elements if found.get("class") == "kind"]
    assert kinds == ["samples", "in pixels", "in features of efficientnet_lite0"] * 8
    captions = ["".join(text) for tag, _, text in page.elements if tag == "figcaption"]
    assert [re.match(r"Figure (\d+)\.", text)[1] for text in captions] == [str(i + 1) for i in range(len(captions))]
    assert sum("each is N(0, I) again" in text for text in captions) == 1


def label(example: Example, cell: dict) -> str:  # type: ignore[type-arg]
    groups = variants(ResultsView(example.runs, example.suite))
    return next(group.label for group in groups if cell["id"] in [item["id"] for item in group.cells])


def test_shares_are_means_over_seeds(example: Example) -> None:
    groups = {group.key: group for group in variants(ResultsView(example.runs, example.suite))}
    shown = Page(example.html).having("data-share", "data-variant", "data-value")
    assert len(shown) == 8 * 2 * 2
    for found, text in shown:
        space, kind = found["data-share"].split()
        cells = [cell for cell in groups[found["data-variant"]].cells if cell["gallery"]]
        values = [cell["gallery"]["nearest"][space][kind]["value"] for cell in cells]
        assert float(found["data-value"]) == pytest.approx(np.mean(values), rel=1e-12)
        error = cells[0]["gallery"]["nearest"][space][kind]["stderr"]
        if len(values) > 1:
            error = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
        percent, plus_minus = re.fullmatch(r"([\d.]+) % ± ([\d.]+) %", text).groups()
        unit = 10.0 ** -len(percent.partition(".")[2])  # half of the last digit
        assert unit == (1.0 if 100 * error >= 1 else 0.1)
        assert abs(float(percent) - 100 * np.mean(values)) <= 0.5 * unit + 1e-9
        assert abs(float(plus_minus) - 100 * error) <= 0.5 * unit + 1e-9
    counts = {len([cell for cell in group.cells if cell["gallery"]]) for group in groups.values()}
    assert counts >= {1, 2}  # variants with one seed left are among them


def test_the_sentence_names_the_extremes(example: Example) -> None:
    groups = variants(ResultsView(example.runs, example.suite))
    shares = make_shares(groups)
    assert shares is not None
    values = {group.label: found["pixels", "nearer"].mean for group, found in shares.rows}
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    sentence = shares.sentences[1]
    assert re.search(
        rf"in {100 * values[low]:.0f} % ± \d+ % \({re.escape(low)}\) to {100 * values[high]:.0f} %", sentence
    )
    assert f"({high}) of all pairs; of 8 variants, " in sentence
    assert shares.sentences[0] == "Compared are 360 samples of a cell, 360 test images and 1293 training images."


@pytest.mark.parametrize(
    ("mean", "error", "seeds", "side"),
    [
        (0.6, 0.04, 1, 1), (0.57, 0.04, 1, 0), (0.57, 0.04, 2, 1), (0.4, 0.04, 1, -1), (0.46, 0.04, 3, 0),
        (1.0, None, 1, 0), (0.0, None, 1, 0), (0.5, None, 1, 0),
    ],
)  # fmt: skip
def test_which_side_of_one_half(mean: float, error: float | None, seeds: int, side: int) -> None:
    """1.96 standard errors of one training; of several the interval itself."""
    assert Share(mean=mean, error=error, num_seeds=seeds).side == side


def test_a_share_without_error() -> None:
    assert Share(mean=1.0, error=None, num_seeds=1).text == "100 %"
    assert Share(mean=0.614, error=0.043, num_seeds=1).text == "61 % ± 4 %"


def test_more_variants_than_are_shown(tmp_path: Path) -> None:
    """56 variants: the pictures of eight, the shares of all, the rest said."""
    Writer(tmp_path, 96, 1, matrix="variants").write()
    view = ResultsView(tmp_path, "digits_variants")
    groups = [group for group in variants(view) if group.cells[0]["status"] == "done"]
    found = gallery.draw(view, groups)
    assert found is not None
    assert [len(figure.rows) for figure in found.figures] == [MAX_SHOWN] * 3
    assert found.note.startswith(f"Pictures of the first {MAX_SHOWN} of 56 variants;")
    assert found.shares is not None
    assert len(found.shares.rows) == 56
    size = sum(len(item.png) for figure in found.figures for row in figure.rows for item in row.pictures)
    assert size < 300_000


@pytest.mark.parametrize(("shape", "count"), [([1, 28, 28], 8), ([3, 32, 32], 8), ([3, 64, 64], 2), ([3, 256, 256], 1)])
def test_large_images_are_shown_of_fewer_variants(
    example: Example, monkeypatch: pytest.MonkeyPatch, shape: list[int], count: int
) -> None:
    view = ResultsView(example.runs, example.suite)
    view.data["data"]["shape"] = shape
    monkeypatch.setattr(gallery, "WIDTH", 10**4)
    found = gallery.draw(view, variants(view))
    assert found is not None
    assert [len(figure.rows) for figure in found.figures] == [count] * 3
    values = sum(len(row.pictures) * 8 for figure in found.figures for row in figure.rows) * np.prod(shape)
    assert count == 1 or values < 4e6
    assert (found.note == "") == (count == 8)


def test_chains_of_different_lengths(tmp_path: Path) -> None:
    Writer(tmp_path, 10, 1, matrix="steps").write()
    view = ResultsView(tmp_path, "digits_steps")
    found = gallery.draw(view, variants(view))
    assert found is not None
    ticks = [row.ticks for row in found.figures[0].rows]
    assert ["100", "75", "50", "26", "1"] in ticks
    assert any(len(row) == 8 for row in ticks)
    widths = [row.pictures[0].width for row in found.figures[0].rows]
    assert widths == [len(row) * (8 * FACTOR + 3) - 3 for row in ticks]
    assert found.figures[0].abreast == 2


def test_large_images_stand_one_above_the_other(tmp_path: Path) -> None:
    """Colour, 32×32: a row of eight takes 536 pixels, so one fits beside the label."""
    folder = Writer(tmp_path, 2, 1).write()
    data = json.loads((folder / "results.json").read_text())
    data["data"] |= {"shape": [3, 32, 32], "levels": 256}
    (folder / "results.json").write_text(json.dumps(data))
    rng = np.random.default_rng(0)
    for file in (tmp_path / "store").rglob("*.npy"):
        shape = np.load(file).shape
        np.save(file, rng.integers(256, size=(*shape[:-3], 3, 32, 32)).astype(np.uint8))
    view = ResultsView(tmp_path, "digits_ablation")
    found = gallery.draw(view, variants(view))
    assert found is not None
    assert [figure.abreast for figure in found.figures] == [1, 1, 1]
    assert [figure.rows[0].pictures[0].width for figure in found.figures] == [8 * 67 - 3, 8 * 67 - 3, 11 * 67 - 3]
    picture = found.figures[1].rows[0].pictures[0]
    pixels = np.array(Image.open(io.BytesIO(picture.png)))
    cell = next(cell for cell in data["cells"] if cell["id"] == found.figures[1].rows[0].cell)
    images = np.load(tmp_path / cell["artifacts"]["gallery"] / "interpolation.npy")[0]
    np.testing.assert_array_equal(pixels[::2, :64:2], images[0].transpose(1, 2, 0))


def test_a_suite_without_galleries_and_older_results(tmp_path: Path) -> None:
    """gallery = false, or results of a version that had none."""
    folder = Writer(tmp_path, 4, 2).write()
    data = json.loads((folder / "results.json").read_text())
    for cell in data["cells"]:
        cell.pop("gallery")
        for name in ("gallery", "nearest"):
            cell["artifacts"].pop(name, None)
    (folder / "results.json").write_text(json.dumps(data))
    page = build(tmp_path, "digits_ablation", tmp_path / "out").read_text(encoding="utf-8")
    assert 'id="gallery"' not in page
    assert 'href="#gallery"' not in page


def test_pictures_that_were_pruned_leave_the_shares(tmp_path: Path) -> None:
    Writer(tmp_path, 4, 2).write()
    shutil.rmtree(tmp_path / "store" / "gallery")
    page = Page(build(tmp_path, "digits_ablation", tmp_path / "out").read_text(encoding="utf-8"))
    ids = [found["id"] for found, _ in page.having("id")]
    assert "nearest" in ids
    assert not {"progressive", "interpolation"} & set(ids)
    assert page.having("data-share")
