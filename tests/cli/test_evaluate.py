"""`ddpm-bench evaluate`: a suite's protocol for images from elsewhere."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ddpm_bench as db
from ddpm_bench import records
from ddpm_bench.errors import UserError
from ddpm_bench.planning.file import to_json
from ddpm_bench.stages.features import to_rgb
from ddpm_bench.stages.runner import run_tasks
from ddpm_bench.store import write_json
from tests.cli.conftest import Answer, Call
from tests.support import TINY, artifacts, write_suite

pytestmark = pytest.mark.xdist_group("runs")

EXTRACTOR = '{name = "efficientnet_lite0", input_size = 32}'
METRICS = ["kernel_distance", "precision_recall", "frechet_distance", "classifier_score"]
LABEL = "efficientnet_lite0_32"
SUITE = (
    TINY.replace('metrics = ["bits_per_dim", "timestep_kl"]', f"metrics = {json.dumps(METRICS)}")
    .replace("samples = 20", f"samples = 20\ngenerations = 2\ngallery = false\nextractor = {EXTRACTOR}")
    .replace("steps = 40", "steps = 3")
    .replace('["epsilon", "x0"]', '["epsilon"]')
)


def write_images(folder: Path, grey: np.ndarray) -> Path:
    """uint8 [N, H, W] as PNG files."""
    folder.mkdir(parents=True)
    for index, image in enumerate(grey):
        Image.fromarray(image).save(folder / f"{index:04}.png")
    return folder


def noise(number: int, side: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, side, side)).astype(np.uint8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of a suite that has quality metrics, and its cells' samples as PNG files."""
    folder = tmp_path_factory.mktemp("quality")
    suite, runs = db.load_suite(write_suite(folder, SUITE)), folder / "runs"
    assert run_tasks(runs, [db.plan(suite, runs=runs).data], "cpu")
    plan = db.plan(suite, runs=runs)
    assert run_tasks(runs, list(plan.tasks().values()), "cpu")  # in this process: workers take seconds to start
    write_json(runs / "suites" / "tiny" / "plan.json", to_json(plan))
    records.update(runs, "tiny")
    for cell in db.results("tiny", runs=folder / "runs").cells:
        levels = torch.from_numpy(np.array(cell.samples()))
        write_images(folder / cell.axes["variance"], to_rgb(levels, 17)[:, 0].numpy())
    return folder


def values(answer: Answer) -> dict[str, Any]:
    """Images → the record of results.json that was printed."""
    assert answer.code == 0, answer.err
    return {cell["label"]: cell for cell in json.loads(answer.out)["cells"]}


def arguments(finished: Path, runs: Path, *more: str | Path) -> list[str | Path]:
    chosen = ["--dataset", "digits", "--metrics", ",".join(METRICS), "--extractor", EXTRACTOR]
    return ["evaluate", *chosen, "--set", "evaluation.generations=2", "--runs", runs, "--jobs", "1", *more]


def test_samples_of_a_suite_written_as_files_give_exactly_its_numbers(call: Call, finished: Path) -> None:
    names = ("beta", "beta_tilde")
    images = [text for name in names for text in ("--images", finished / name)]
    found = values(call(*arguments(finished, Path("runs"), *images, "--format", "json")))
    cells = {cell.axes["variance"]: cell for cell in db.results("tiny", runs=finished / "runs").cells}
    for name in names:
        here, there = found[str(finished / name)]["metrics"], cells[name].metrics
        assert here.keys() == there.keys()
        assert len(here) >= 12
        for metric, record in there.items():
            assert (here[metric]["value"], here[metric]["stderr"]) == (record["value"], record["stderr"]), metric
            protocol = {k: v for k, v in record["protocol"].items() if k in here[metric]["protocol"]}
            assert here[metric]["protocol"] == protocol
            cells_own = {"sampler", "sampling_steps", "thresholding", "weights"}
            assert set(record["protocol"]) - set(protocol) == cells_own
    suite = {
        (item["name"], item["metric"]): item["value"]
        for item in db.results("tiny", runs=finished / "runs").data["baselines"]
    }
    mine = json.loads(next(Path("runs/evaluations").glob("*/results.json")).read_text(encoding="utf-8"))["baselines"]
    assert mine
    for item in mine:
        assert item["value"] == suite[item["name"], item["metric"]]


def test_what_a_suite_has_computed_is_used(call: Call, finished: Path, tmp_path: Path) -> None:
    runs = tmp_path / "copy"
    shutil.copytree(finished / "runs", runs)
    before = artifacts(runs)
    assert call(*arguments(finished, runs, "--images", finished / "beta", "--format", "csv")).code == 0
    new = sorted(stage for stage, _ in artifacts(runs) - before)
    # No data, no reference, no floor: the images themselves, their features and a metric for each reference.
    assert new.count("given") == new.count("features") == 1
    assert set(new) == {"given", "features", "quality"}
    assert new.count("quality") == 2 * 3 + 1
    after = artifacts(runs)
    assert call(*arguments(finished, runs, "--images", finished / "beta", "--format", "csv")).code == 0
    assert artifacts(runs) == after


def test_tables(call: Call, finished: Path, tmp_path: Path) -> None:
    """One row for each set, floors below; the same columns in every form."""
    runs = finished / "runs"
    common = ["evaluate", "--images", finished / "beta", "--images", finished / "beta_tilde", "--dataset", "digits",
              "--metrics", "kernel_distance", "--extractor", EXTRACTOR, "--runs", runs, "--jobs", "1"]  # fmt: skip
    table = call(*common, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(table.out)))
    assert [row["row"] for row in rows] == [
        str(finished / "beta"), str(finished / "beta_tilde"), "floor: 40 test images", "uniform noise",
        "floor: 40 train images",
    ]  # fmt: skip
    assert all(float(row[f"kd_{LABEL}"]) for row in rows[:4])
    for form, sign in (("markdown", "| --- |"), ("latex", r"\toprule")):
        text = call(*common, "--format", form).out
        assert sign in text
        assert "floor: 40 test images" in text
    plain = call(*common)
    assert "floor: 40 test images" in plain.out
    assert "results  " in plain.out
    assert "copy" not in plain.err


def test_sets_of_different_sizes_are_compared_at_one_number(call: Call, finished: Path) -> None:
    few = write_images(Path("few"), noise(12))
    answer = call(
        "evaluate", "--images", finished / "beta", "--images", few, "--dataset", "digits", "--metrics",
        f"kd_{LABEL}", "--extractor", EXTRACTOR, "--runs", finished / "runs", "--jobs", "1", "--format", "json",
    )  # fmt: skip
    found = values(answer)
    assert {cell["metrics"][f"kd_{LABEL}"]["protocol"]["n_generated"] for cell in found.values()} == {12}
    assert f"{finished / 'beta'}: the first 12 of 40 images enter (as many as few has)" in answer.err
    assert "few: " in answer.err  # noise of 256 grey values among 17 levels
    assert "were rounded to the nearest" in answer.err


def test_classes_that_are_not_the_datas(call: Call, finished: Path) -> None:
    answer = call(
        "evaluate", "--images", finished / "beta", "--dataset", "digits", "--metrics",
        "class_histogram,classifier_score", "--extractor", EXTRACTOR, "--runs", finished / "runs", "--jobs", "1",
        "--format", "json",
    )  # fmt: skip
    (cell,) = values(answer).values()
    assert cell["metrics"][f"ch_{LABEL}"]["value"] is None
    assert "are not those of the data (digits)" in cell["metrics"][f"ch_{LABEL}"]["reason"]
    assert cell["metrics"][f"cs_{LABEL}"]["protocol"]["classes_of_data"] is False


def test_missing_weights_can_be_skipped(call: Call, finished: Path) -> None:
    answer = call(
        "evaluate", "--images", finished / "beta", "--dataset", "digits", "--metrics", f"fid,kd_{LABEL}",
        "--extractor", EXTRACTOR, "--runs", finished / "runs", "--jobs", "1", "--skip-missing", "--format", "json",
    )  # fmt: skip
    (cell,) = values(answer).values()
    assert cell["metrics"]["fid"]["value"] is None
    assert "its weights are missing" in cell["metrics"]["fid"]["reason"]
    assert cell["metrics"][f"kd_{LABEL}"]["value"] is not None


def test_evaluations_without_any_value_have_a_folder_each(call: Call, finished: Path) -> None:
    for name in ("beta", "beta_tilde"):
        for metrics in ("fid", "fid,kid"):
            answer = call(
                "evaluate", "--images", finished / name, "--dataset", "digits", "--metrics", metrics, "--runs", "runs",
                "--skip-missing", "--format", "json",
            )  # fmt: skip
            assert list(values(answer)) == [str(finished / name)]
    assert len(list(Path("runs/evaluations").glob("*/results.json"))) == 4


def test_a_failure_is_told(call: Call, finished: Path, tmp_path: Path) -> None:
    """A damaged file of the store: the values are missing, and why is said."""
    runs = tmp_path / "copy"
    shutil.copytree(finished / "runs", runs)
    for manifest in (runs / "store" / "features").glob("*/manifest.json"):
        if json.loads(manifest.read_text())["spec"].get("split") == "train":
            file = manifest.parent / "features.npy"
            file.write_bytes(file.read_bytes()[:-1] + b"?")
    shutil.rmtree(runs / "store" / "quality")
    answer = call(
        "evaluate", "--images", finished / "beta", "--dataset", "digits", "--metrics", f"kd_{LABEL}", "--extractor",
        EXTRACTOR, "--set", "evaluation.reference_split=train", "--runs", runs, "--jobs", "1", "--format", "csv",
    )  # fmt: skip
    assert answer.code == 1
    failed = [line for line in answer.errors if line.startswith("failed: ")]
    assert failed
    assert "features.npy is not what its manifest says" in failed[0]
    assert "is not what its manifest says" in answer.out  # the note of the row


def mistake(call: Call, *more: str | Path, dataset: str = "digits", metrics: str = "kernel_distance") -> list[str]:
    answer = call("evaluate", "--dataset", dataset, "--metrics", metrics, *more)
    assert (answer.code, answer.out) == (2, ""), answer
    assert not Path("runs").exists()
    return answer.errors


def test_mistakes_in_the_images(call: Call) -> None:
    write_images(Path("A"), noise(3, side=16))
    Path("empty").mkdir()
    write_images(Path("broken"), noise(2))
    (Path("broken") / "0001.png").write_bytes(b"no image")
    assert mistake(call, "--images", "A") == [
        "--images A: 0000.png is 1×16×16 (channels × height × width), the images of digits are 1×8×8; convert them "
        "first, or choose the data set's parameters (size)"
    ]
    assert mistake(call, "--images", "none") == ["--images none: no such directory or file"]
    (empty, broken) = mistake(call, "--images", "empty", "--images", "broken")  # every set has its message
    assert empty.startswith("--images empty: no images (.bmp")
    assert broken.startswith("--images broken: cannot read 0001.png: ")
    write_images(Path("B"), noise(3))
    assert mistake(call, "--images", "B", "--images", "B") == ["--images B: named twice"]
    assert mistake(call, "--images", "B", "--samples", "4") == ["--samples 4: B has 3 images"]
    assert mistake(call, "--images", "B", "--set", "evaluation.generations=4") == [
        "--samples 1 · 4 generations: B has 3 images"
    ]
    write_images(Path("C"), noise(1))
    assert mistake(call, "--images", "C", "--set", "evaluation.generations=2") == [
        "--samples 1 · 2 generations: C has 1 image"
    ]
    np.save("x.npy", noise(1))
    assert mistake(call, "--images", "x.npy") == [
        "--images x.npy: a .npy cannot be read here; save the array as an .npz (numpy.savez)"
    ]


def test_mistakes_of_a_caller_in_python(call: Call) -> None:
    """What the command line rules out itself."""
    with pytest.raises(UserError, match=r"^--images names nothing; "):
        db.evaluate([], "digits", ["kernel_distance"])
    images = [write_images(Path("A"), noise(3))]
    for samples in (0, -1):
        with pytest.raises(UserError, match=f"^--samples {samples}: must be at least 1$"):
            db.evaluate(images, "digits", ["kernel_distance"], samples=samples)
    assert not Path("runs").exists()


def test_mistakes_in_the_protocol(call: Call, tmp_path: Path) -> None:
    write_images(Path("A"), noise(3))
    images = ["--images", "A"]
    assert mistake(call, *images, metrics="kernel_distanc") == [
        '--metrics: unknown metric "kernel_distanc"; did you mean "kernel_distance"?'
    ]
    assert mistake(call, *images, metrics="bits_per_dim") == [
        "--metrics: bits_per_dim: needs the network that made the images, not images alone"
    ]
    assert mistake(call, *images, dataset="digit") == ['--dataset: unknown dataset "digit"; did you mean "digits"?']
    assert mistake(call, *images, "--extractor", "inceptoin")[0].startswith(
        '--extractor: unknown extractor "inceptoin"; did you mean "inception"?'
    )
    assert mistake(call, *images, "--extractor", "vgg16", "--extractor", '{name = "clip", modle = "rn50"}') == [
        '--extractor: modle: unknown key; did you mean "model"?'
    ]
    assert mistake(call, *images, dataset='{name = "digits", size = "a"}') == [
        '--dataset: size: expected an integer, got the string "a"'
    ]
    assert mistake(call, *images, "--set", "training.steps=3") == [
        "--set training.steps=3: an evaluation has dataset.… and evaluation.… only, and --samples"
    ]
    assert mistake(call, *images, "--set", "dataset.sise=16") == [
        '--set dataset.sise=16: dataset.sise: unknown key; did you mean "size"?'
    ]
    assert mistake(call, *images, dataset='{name = "digits"')[0].startswith("--dataset: ")
    assert mistake(call, *images, "--format", "pdf") == ["--format pdf: unknown; known: csv, json, latex, markdown"]
    for dataset in ("gaussian", '{name = "gaussian", mean = 0.0, standard_deviation = 1.0}'):
        for more in ([], ["--skip-missing"]):
            assert mistake(call, *images, *more, dataset=dataset) == [
                "--dataset: gaussian has real values, no images to compare with; choose one of images"
            ]
    for dataset in ("mnist", '{name = "celeba", size = 31}'):  # of any size, also one that the U-Net cannot halve
        assert mistake(call, *images, dataset=dataset)[0].startswith("--dataset: ")
    (missing,) = mistake(call, *images, metrics="fid")
    assert missing.startswith("fid: extractor inception: its weights are missing (looked for ")
    assert missing.endswith("(or go on without: --skip-missing)")


@pytest.mark.parametrize(
    "more", [["--set", "dataset.size=16"], []], ids=["--set", "a table"]
)  # fmt: skip
def test_parameters_of_the_data(call: Call, more: list[str]) -> None:
    """Images of 16 × 16 fit the data resized to that; the mistake after it shows that their shape was accepted."""
    write_images(Path("A"), noise(3, side=16))
    dataset = "digits" if more else '{name = "digits", size = 16}'
    assert mistake(call, "--images", "A", "--samples", "9", *more, dataset=dataset) == ["--samples 9: A has 3 images"]


def test_an_empty_option_is_said(call: Call, tmp_path: Path) -> None:
    answer = call("evaluate", "--images", tmp_path, "--dataset", "", "--metrics", "frechet_distance")
    assert (answer.code, answer.errors) == (2, ["--dataset: the value is empty"])
