"""The figures: told apart without colour alone, clean SVG, pixels that are the data."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ddpm_bench.report import trainings
from ddpm_bench.report.figures import power, samples, timestep_kl
from ddpm_bench.report.figures.decomposition import axis_limit, column_axis
from ddpm_bench.report.figures.encoding import DASHES, MOST_LINES_WITH_DASHES, PALETTE, encode
from ddpm_bench.report.figures.lines import Quantity, draw_lines
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import variants
from tests.make_results import Writer
from tests.report.conftest import Example


def lines(**axes: int) -> list[dict[str, str]]:
    """The cross product of axes with so many levels each."""
    return [
        dict(zip(axes, (f"{name}{index}" for name, index in zip(axes, levels, strict=True)), strict=True))
        for levels in itertools.product(*(range(count) for count in axes.values()))
    ]


@pytest.mark.parametrize(
    ("axes", "panels"),
    [
        ({"prediction": 2, "variance": 2, "schedule": 2, "loss": 2}, 2),
        ({"prediction": 4, "loss": 4, "schedule": 1}, 4),  # 16 colours do not exist: one panel for each loss
        ({"prediction": 12, "schedule": 1}, 1),  # nothing left to put in panels: markers
        ({"variance": 3, "schedule": 1}, 1),
        ({"prediction": 4, "variance": 4, "schedule": 2, "loss": 3}, 6),  # 48 lines a panel would be too many
        ({"prediction": 6, "variance": 3}, 3),  # the variance last of all
    ],
)
def test_lines_of_a_panel_are_told_apart(axes: dict[str, int], panels: int):
    encoding = encode(lines(**axes), ("schedule",))
    assert len(encoding.panels) == panels
    assert sorted(index for chosen in encoding.panels.values() for index in chosen) == list(range(len(lines(**axes))))
    for chosen in encoding.panels.values():
        looks = {str(encoding.looks[index].style()) for index in chosen}
        assert len(looks) == len(chosen) <= MOST_LINES_WITH_DASHES
    shown = [title for row in encoding.rows for title in row if title is not None]
    assert sorted(shown) == sorted(encoding.panels)
    assert all(len(row) <= 4 for row in encoding.rows)


def test_one_point_is_seen():
    """A line of one point has no length: it has a marker."""
    encoding = encode([{"schedule": "linear"}])
    shown = [draw_lines(encoding, [Quantity(label="y", lines=[pd.Series({1: 2.0} | more)])], "t")[0]
             for more in ({}, {2: 3.0})]  # fmt: skip
    marker = re.compile(r"<use [^>]*fill:#0173b2")
    assert [len(marker.findall(svg)) for svg in shown] == [1, 0]


def test_many_colours_become_fewer_with_dashes():
    """Where no variance is shown by dashes: the last axis of few values. Few colours stay alone."""
    encoding = encode(lines(prediction=3, steps=3))
    assert list(encoding.panels) == [""]
    assert [[label for label, _ in part] for part in encoding.keys] == [
        ["prediction0", "prediction1", "prediction2"], ["steps0", "steps1", "steps2"],
    ]  # fmt: skip
    assert len({look.colour for look in encoding.looks}) == len({str(look.dash) for look in encoding.looks}) == 3
    assert len({str(look.style()) for look in encoding.looks}) == 9
    assert len({look.colour for look in encode(lines(prediction=3, steps=2)).looks}) == 6


def test_panels_of_two_axes_are_a_table():
    some = [line for line in lines(prediction=4, loss=3, schedule=2) if line["loss"] != "loss2" or "1" in str(line)]
    some = [line for line in some if line != {"prediction": "prediction0", "loss": "loss2", "schedule": "schedule1"}]
    encoding = encode(some, ("prediction", "loss"))
    assert encoding.rows == [
        ["prediction0, loss0", "prediction1, loss0", "prediction2, loss0", "prediction3, loss0"],
        ["prediction0, loss1", "prediction1, loss1", "prediction2, loss1", "prediction3, loss1"],
        [None, "prediction1, loss2", "prediction2, loss2", "prediction3, loss2"],
    ]


def test_a_variance_has_the_same_dashes_in_each_figure():
    every = lines(variance=4, prediction=2)
    whole = encode(every)
    for chosen in ([1, 2], [3], [0, 3]):
        some = [line for line in every if int(line["variance"][-1]) in chosen]
        part = encode(some, every=every)
        expected = [whole.looks[every.index(line)] for line in some]
        assert part.looks == expected


def test_powers_of_ten_are_text():
    assert [power(value) for value in (1e-6, 2e-5, 1.0, 1e4, 0.1)] == ["10⁻⁶", "2·10⁻⁵", "10⁰", "10⁴", "10⁻¹"]


def test_many_bars_stand_in_columns():
    assert column_axis(lines(prediction=4, loss=6)) is None
    assert column_axis(lines(prediction=4, variance=4, schedule=2)) == "schedule"
    # losses in three columns would leave gaps: not each goes with each variance
    some = [line for line in lines(variance=4, loss=3, schedule=2, prediction=4) if line["loss"] != "loss2"]
    some += [line for line in lines(variance=1, loss=3, schedule=2, prediction=4) if line["loss"] == "loss2"]
    assert column_axis(some) == "schedule"
    assert column_axis(lines(prediction=6, loss=5)) is None


def test_the_palette_is_seaborns_colorblind():
    # as printed in seaborn's documentation of its palette "colorblind"
    assert " ".join(PALETTE).upper() == (
        "#0173B2 #DE8F05 #029E73 #D55E00 #CC78BC #CA9161 #FBAFE4 #949494 #ECE133 #56B4E9"
    )
    assert len({str(dash) for dash in DASHES}) == len(DASHES)


def test_pixels_of_a_strip_are_the_levels():
    images = np.array([[[[0, 8], [16, 4]]], [[[16, 16], [0, 0]]]], np.uint8)
    picture = samples.strip(images, 0, 16, factor=2, gap=1)
    assert picture.shape == (4, 2 * 4 + 1)
    # 8 of 0…16 is 127.5, rounded to the even 128; 4 is 63.75 → 64
    assert picture[::2, 0:4:2].tolist() == [[0, 128], [255, 64]]
    assert (picture[:, 4] == 255).all()
    assert picture[::2, 5::2].tolist() == [[255, 255], [0, 0]]
    assert (picture[0, :2] == picture[1, :2]).all()
    colour = np.zeros((1, 3, 1, 1), np.uint8)
    colour[0, 1] = 255
    assert samples.strip(colour, 0, 255, factor=1).tolist() == [[[0, 255, 0]]]


def test_a_row_of_the_grid_is_the_same_noise_in_each_variant(example: Example):
    view = ResultsView(example.runs, example.suite)
    grid = samples.draw(view, variants(view))
    assert grid is not None
    assert grid.seed == 0  # seed 1 lacks two variants
    strips = {strip.cell: strip for strip in grid.strips if strip.png}
    assert len(strips) == 8
    cell = next(cell for cell in view.cells if cell["id"] in strips)
    stored = np.load(example.runs / cell["artifacts"]["samples"][0] / "samples.npy").astype(float)
    with Image.open(io.BytesIO(strips[cell["id"]].png)) as image:
        pixels = np.asarray(image)
    for index in range(grid.count):
        tile = pixels[2::5, index * 43 + 2 : index * 43 + 40 : 5]  # 8 pixels of factor 5, a gap of 3
        assert (tile == np.rint(stored[index, 0] * 255.0 / 16)).all()


def test_real_values_are_mapped_by_one_stated_range(tmp_path: Path):
    writer = Writer(tmp_path, 4, 2)
    folder = writer.write()
    text = (
        (folder / "results.json")
        .read_text(encoding="utf-8")
        .replace('"levels": 17,\n  "num_train"', '"levels": null,\n  "num_train"')
    )
    (folder / "results.json").write_text(text, encoding="utf-8")
    view = ResultsView(tmp_path, "digits_ablation")
    for scale, cell in enumerate((cell for cell in view.cells if cell["artifacts"].get("samples")), start=1):
        values = np.linspace(-scale, scale, 128 * 64, dtype=np.float32).reshape(128, 1, 8, 8)
        np.save(tmp_path / cell["artifacts"]["samples"][0] / "samples.npy", values)
    grid = samples.draw(view, variants(view))
    assert grid is not None
    assert grid.mapping.startswith("values from -")
    low, high = (float(word) for word in grid.mapping.split() if word.lstrip("-").replace(".", "").isdigit())
    assert low == -high


def test_the_data_of_the_kl_figure_are_means_over_seeds(example: Example):
    view = ResultsView(example.runs, example.suite)
    drawing = timestep_kl.draw(view, variants(view))
    assert drawing is not None
    first = variants(view)[0]
    ids = [cell["id"] for cell in first.cells]
    rows = view.timestep_kl[view.timestep_kl["cell_id"].isin(ids)]
    assert drawing.data["t"].tolist() == list(range(1, 101))
    for t in (1, 2, 100):
        expected = rows[rows["t"] == t]["kl"].sum() / 2
        # a sum of two divided by two: exact up to one rounding
        assert drawing.data[first.label][t - 1] == pytest.approx(expected, rel=1e-15)


def test_shared_trainings_are_one_curve(example: Example):
    view = ResultsView(example.runs, example.suite)
    found, missing = trainings.trainings(view)
    keys = {cell["train_key"] for cell in view.cells if cell["artifacts"].get("train")}
    assert len(found) == len(keys) < sum(bool(cell["artifacts"]) for cell in view.cells)
    assert missing == 0
    assert {item.axes["variance"] for item in found if item.axes["loss"] == "simple"} >= {""}
    assert {item.unit for item in found} == {"L_simple of ε", "L_simple of x₀", "L_vlb"}
    assert sum(item.divergence is not None for item in found) == 1


def test_curves_of_several_seeds_are_their_mean_with_an_interval():
    """Losses 1, 2 and 4 at one step: mean 7/3, half width 4.3027·√(7/3)/√3 (t at 97.5 %, 2 degrees of freedom)."""
    tables = [pd.DataFrame({"step": [10, 20], "loss": [loss, 1.0]}) for loss in (1.0, 2.0, 4.0)]
    seeds = [
        trainings.Training(axes={"loss": "simple"}, unit="L", seed=seed, table=table, divergence=None)
        for seed, table in enumerate(tables)
    ]
    [mean] = trainings.averaged(seeds)
    assert mean.num_seeds == 3
    assert mean.table["loss"].tolist() == pytest.approx([7 / 3, 1.0])
    assert mean.table["loss_error"].tolist() == pytest.approx(
        [4.302653 * math.sqrt(7 / 3) / math.sqrt(3), 0.0], rel=1e-6
    )
    assert trainings.averaged(seeds[:2]) == seeds[:2]
    diverged = dataclasses.replace(seeds[0], divergence={"step": 20})
    assert trainings.averaged([diverged, *seeds[1:]]) == [diverged, *seeds[1:]]


def test_a_longer_training_has_the_curves_of_the_shorter_ones():
    """Places on one trajectory are one line, whatever order they come in; another seed or loss is another line."""

    def training(steps: int, seed: int = 0, loss: str = "simple") -> trainings.Training:
        table = pd.DataFrame({"step": range(0, steps + 1, 10), "loss": 1.0})
        axes = {"loss": loss, "training.steps": str(steps)}
        return trainings.Training(axes=axes, unit="L", seed=seed, table=table, divergence=None)

    places = [training(20), training(40), training(10), training(30, seed=1), training(20, loss="vlb")]
    found = trainings.longest(places)
    assert [(item.axes, item.seed, item.table["step"].max()) for item in found] == [
        ({"loss": "simple", "training.steps": ""}, 0, 40),
        ({"loss": "simple", "training.steps": ""}, 1, 30),
        ({"loss": "vlb", "training.steps": ""}, 0, 20),
    ]
    assert trainings.longest(found) == found


def test_one_vacuous_bound_does_not_flatten_the_rest():
    assert axis_limit(3.0, 4.0) > 4.0
    assert axis_limit(7.9, 4.0) > 7.9
    assert axis_limit(160.0, 4.0) < 9
    assert axis_limit(160.0, 0.0) > 160
