"""What must agree before two values share a column, a difference or a claim."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import ddpm_bench as db
from ddpm_bench.errors import UserError
from ddpm_bench.protocols import differences, must_agree, no_claim, require_equal
from ddpm_bench.protocols import varied_axes as cell_axes
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import columns, variants, varied_axes
from ddpm_bench.store import write_text
from tests.conftest import FinishedRun
from tests.make_results import Writer

QUALITY = {
    "n_generated": 300, "n_reference": 54_000, "reference_split": "train", "extractor": "inception",
    "weights_sha256": "6726825d", "sampler": {"name": "ddim", "eta": 0.0}, "sampling_steps": 10,
    "thresholding": "clip", "weights": "ema",
}  # fmt: skip


def test_what_belongs_to_the_cell_may_differ() -> None:
    other = {**QUALITY, "sampler": {"name": "ancestral"}, "sampling_steps": "all", "thresholding": "dynamic",
             "weights": "raw", "first_step": "beta_1", "precision": "bfloat16", "seed": 3}  # fmt: skip
    assert differences(QUALITY, other) == []
    assert must_agree(other) == {
        "extractor": "inception", "n_generated": 300, "n_reference": 54_000, "reference_split": "train",
        "weights_sha256": "6726825d",
    }  # fmt: skip
    require_equal("fid", [("a", QUALITY), ("b", other)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_generated", 301),
        ("reference_split", "test"),
        ("extractor", "other"),
        ("weights_sha256", "0"),
        ("levels", 17),
    ],
)
def test_all_else_must_agree(name: str, value: Any) -> None:
    before = QUALITY.get(name, "not said")
    assert differences(QUALITY, {**QUALITY, name: value}) == [f"{name}: {before} and {value}"]
    assert differences({**QUALITY, name: value}, QUALITY) == [f"{name}: {value} and {before}"]


def test_an_entry_whose_parameters_vary_is_no_axis_beside_them() -> None:
    def cells(*labels: tuple[str, str]) -> list[dict[str, Any]]:
        return [{"axes": {"loss": loss, "loss.weighting": weighting}} for loss, weighting in labels]

    named = ["loss.weighting", "loss"]
    same = cells(("simple", "none"), ("simple(weighting=snr)", "snr"))
    assert cell_axes(named, same) == ["loss.weighting"]
    # another loss, or another parameter that is no axis, is said by the entry alone
    assert cell_axes(named, [*same, *cells(("vlb", "none"))]) == named
    assert cell_axes(named, [*same, *cells(("simple(power=2, weighting=snr)", "snr"))]) == named
    assert cell_axes(["loss"], cells(("simple", "none"), ("vlb", "none"))) == ["loss"]


def test_varied_axes_are_the_cells() -> None:
    other = {**QUALITY, "channels": 64, "timesteps": 10}
    assert differences({**QUALITY, "channels": 32, "timesteps": 20}, other, ["network.channels", "timesteps"]) == []


def test_unequal_protocols_are_refused_with_what_differs() -> None:
    measured = [("a", QUALITY), ("b", QUALITY), ("c", {**QUALITY, "n_generated": 50, "neighbours": 5})]
    with pytest.raises(UserError) as caught:
        require_equal("precision_inception", measured)
    assert str(caught.value) == (
        "precision_inception of a and c was measured under different protocols (n_generated: 300 and 50; neighbours: "
        "not said and 5): evaluate both under one"
    )


def test_what_supports_no_claim() -> None:
    assert no_claim(QUALITY) is None
    assert no_claim({**QUALITY, "rank_deficient": False, "classes_of_data": True}) is None
    assert no_claim({**QUALITY, "rank_deficient": True}) == "taken from too few images for its rank"
    assert no_claim({**QUALITY, "classes_of_data": False}) == "taken over classes that are not those of the data"


@pytest.fixture
def two_sizes(tmp_path: Path) -> ResultsView:
    """Results in which the kernel distance of one variant comes from fewer images than that of the others."""
    Writer(tmp_path, 16, 2).write()
    file = tmp_path / "suites" / "digits_ablation" / "results.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    view = ResultsView(tmp_path, "digits_ablation")
    group = variants(view)[1]
    for cell in data["cells"]:
        if cell["id"] in [item["id"] for item in group.cells]:
            cell["metrics"]["kd_efficientnet_lite0"]["protocol"]["n_generated"] = 100
            cell["metrics"]["kd_efficientnet_lite0"]["protocol"]["sampler"] = "ddim"
            cell["metrics"]["fd_efficientnet_lite0"]["protocol"]["sampler"] = "ddim"
    write_text(file, json.dumps(data))
    return ResultsView(tmp_path, "digits_ablation")


def test_unequal_protocols_have_columns_of_their_own(two_sizes: ResultsView) -> None:
    varied = varied_axes(two_sizes)
    kernel = columns(two_sizes, ["kd_efficientnet_lite0"])
    assert [column.protocol["n_generated"] for column in kernel] == [360, 100]
    assert len(columns(two_sizes, ["fd_efficientnet_lite0"])) == 1  # another sampler is no other protocol
    for group in variants(two_sizes):
        shown = [group.summary(column, varied).mean for column in kernel]
        assert sum(value is not None for value in shown) <= 1


def test_values_that_support_no_claim_are_never_bold(two_sizes: ResultsView) -> None:
    (column,) = columns(two_sizes, ["fd_efficientnet_lite0"])
    assert column.no_claim == "taken from too few images for its rank"


@pytest.mark.xdist_group("runs")
def test_differences_are_taken_under_one_protocol(finished_tiny: FinishedRun, tmp_path: Path) -> None:
    first, second = db.results("tiny", runs=finished_tiny.runs).cells[:2]
    assert first.difference(second).num_images == 24
    place = finished_tiny.runs / second.artifacts["likelihood"]["test"]
    copy = tmp_path / "store" / "likelihood" / "copy"
    shutil.copytree(place, copy)
    estimates = json.loads((copy / "estimates.json").read_text())
    estimates[""]["protocol"]["decoder"] = "tanh"
    (copy / "estimates.json").write_text(json.dumps(estimates))
    record = {**second.record, "artifacts": {**second.artifacts, "likelihood": {"test": "store/likelihood/copy"}}}
    with pytest.raises(UserError, match=r"different protocols \(decoder: exact and tanh\)"):
        first.difference(dataclasses.replace(second, runs=tmp_path, record=record))
