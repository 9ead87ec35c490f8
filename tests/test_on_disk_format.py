"""docs/on_disk_format.md against the files of real runs: nothing undocumented, nothing documented that is not there."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ddpm_bench as db
from ddpm_bench.errors import UserError
from ddpm_bench.stages.train import Diverged
from tests.conftest import FinishedRun
from tests.support import REPOSITORY, write_suite

TEXT = (REPOSITORY / "docs" / "on_disk_format.md").read_text(encoding="utf-8")
FLAT = ("training", "network_calls", "fit", "gallery", "landscape", "timings")
"""Records in a cell whose fields are documented as `record.field`."""
INSIDE = ("artifacts", "metrics", "tables")
"""Records in a cell that are described elsewhere, or by words."""
WHOLE = """
schema = 1
name = "whole"
title = "Everything that a run can leave"
on_illegal = "skip"

[dataset]
name = "digits"

[network]
name = "unet"
channels = 8
channel_multipliers = [1, 2]
residual_blocks = 1
attention_resolutions = []

[diffusion]
timesteps = 6
schedule = "cosine"
loss = { name = "hybrid", variance = "learned_range", time_sampling = "loss_second_moment" }

[training]
steps = 20
batch_size = 8

[evaluation]
metrics = ["bits_per_dim", "timestep_kl", "frechet_distance", "class_histogram"]
extractor = "digits_cnn"
samples = 40
images = 8
fit_images = 8
splits = ["test", "train", "validation"]
estimator = { name = "importance", calls_per_image = 6 }
landscape = { checkpoints = 3, points = 3, images = 2 }

[matrix]
variance = ["learned_range", "optimal"]

[[claim]]
statement = "The optimal variance gives fewer bits/dim than the learned one"
metric = "bits_per_dim"
better = { variance = "optimal" }
than = { variance = "learned_range" }

[[reference]]
dataset = "digits"
metric = "bits_per_dim"
value = 2.0
source = "invented"
"""


def documented(heading: str, table: int = 0) -> set[str]:
    """The names in the first column of a table (of those below a heading, up to the next heading)."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, heading
    tables = re.findall(r"^\| \w+ \| .*?\n\|---\|---\|\n((?:\|.*\n)+)", found.group(1), re.MULTILINE)
    return {name for row in tables[table].splitlines() for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


def payloads() -> dict[str, set[str]]:
    """Stage → the files that it may leave."""
    section = TEXT.partition("The payload, stage by stage")[2].partition("## results.json")[0]
    rows = re.findall(r"^\| (\w+) \| (.*) \|$", section, re.MULTILINE)
    return {stage: set(re.findall(r"`(\w+\.\w+|lock)`", files)) for stage, files in rows if stage != "stage"}


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def manifests(runs: Path) -> Iterator[dict[str, Any]]:
    for file in sorted((runs / "store").rglob("manifest.json")):
        manifest = read(file)
        if "checkpoints" in file.relative_to(runs / "store").parts:
            assert set(manifest) == {"step", "files"}
        else:
            yield manifest


def files_of(runs: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in (runs / "store").rglob("*"):
        if file.is_file() and file.name != "manifest.json":
            found.setdefault(file.relative_to(runs / "store").parts[0], set()).add(file.name)
    return found


def fields_of_cell(cell: dict[str, Any]) -> set[str]:
    names = set()
    for name, value in cell.items():
        names |= {f"{name}.{inner}" for inner in value} if name in FLAT and value else {name}
    return names


def columns(file: Path) -> list[str]:
    with file.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream))


def events(runs: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in (runs / "logs").glob("*/*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            found.setdefault(event["event"], set()).update(event)
    return found


def check_no_field_is_undocumented(runs: Path, suite: str) -> None:
    """What files hold is on the page; fields that every file has are there, too."""
    folder = runs / "suites" / suite
    results, plan = read(folder / "results.json"), read(folder / "plan.json")
    assert set(results) == documented("results.json")
    assert set(plan) == documented("plan.json")
    values = documented("A value")
    for cell in results["cells"]:
        known = documented("A cell")
        assert {name.partition(".")[0] for name in known} == set(cell)
        assert fields_of_cell(cell) <= known | {name for name in FLAT if not cell[name]} | set(INSIDE)
        assert set(cell["artifacts"]) <= set(
            re.findall(r"`(\w+)`", TEXT.partition("| `artifacts` |")[2].split("\n")[0])
        )
        for record in cell["metrics"].values():
            assert set(record) == values
            assert set(record["protocol"]) <= documented("A value", 1)
    for baseline in results["baselines"]:
        assert set(baseline) == values | {"name", "metric"}
        assert set(baseline["protocol"]) <= documented("A value", 1)
    for claim in results["claims"]:
        assert set(claim) == documented("A claim")
    for reference in results["references"]:
        assert set(reference) == documented("A reference")
    always = documented("Artifacts") - {"info", "outcome"}
    for manifest in manifests(runs):
        assert always <= set(manifest) <= documented("Artifacts")
    for stage, names in files_of(runs).items():
        assert names <= payloads()[stage], stage
    varied = results["axes"]
    assert [name for name in columns(folder / "results.csv") if name not in varied] == in_order("Tables", 0)
    for file in folder.glob("timestep_kl*.csv"):
        assert columns(file) == in_order("Tables", 1)
        assert f"`{file.name}`" in TEXT
    assert columns(folder / "log_snr_kl.csv") == in_order("Tables", 2)
    for event, found in events(runs).items():
        also = re.search(rf"^\| `{event}` \| (.*) \|$", TEXT, re.MULTILINE)
        assert also, event
        assert found - {"time", "pid", "event"} <= set(re.findall(r"\w+", also.group(1))), event


def in_order(heading: str, table: int) -> list[str]:
    """The names of a table of columns in their order."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert section
    found = re.findall(r"^\| column \| .*?\n\|---\|---\|\n((?:\|.*\n)+)", section.group(1), re.MULTILINE)[table]
    return [name for row in found.splitlines() for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def test_no_field_of_a_small_run_is_undocumented(finished_tiny: FinishedRun) -> None:
    check_no_field_is_undocumented(finished_tiny.runs, "tiny")


def test_a_claim_is_documented_as_its_classes_have_it() -> None:
    from ddpm_bench.claims import Evidence
    from ddpm_bench.statements import Claim, Reference

    fields = {field.name for cls in (Claim, Evidence) for field in dataclasses.fields(cls)}
    assert documented("A claim") == fields
    assert documented("A reference") == {field.name for field in dataclasses.fields(Reference)}


def test_an_outcome_is_documented_as_it_is_recorded() -> None:
    outcome = Diverged(step=3, t=7, loss=float("inf")).outcome
    assert f"`{{{', '.join(outcome)}}}`" in TEXT
    assert re.search(r"^\| `diverged` \| " + ", ".join(outcome), TEXT, re.MULTILINE)


def test_another_schema_is_refused_as_the_page_says(tiny: FinishedRun) -> None:
    file = tiny.runs / "suites" / "tiny" / "results.json"
    file.write_text(json.dumps({**read(file), "schema": 2}), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        db.results("tiny", runs=tiny.runs)
    message = re.search(r"`…/results\.json(: [^`]*)`", TEXT)
    assert message
    assert str(caught.value) == f"{file}{message.group(1)}"


def test_what_may_differ_between_two_runs_is_named() -> None:
    from ddpm_bench.records import VOLATILE

    (sentence,) = re.findall(r"^`created`, .* are all that may differ", TEXT, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", sentence)) == set(VOLATILE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run lies that leaves everything; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    suite = db.load_suite(write_suite(folder, WHOLE))
    db.run(suite, runs=folder / "runs", reports=folder / "reports", jobs=1)
    levels = np.random.default_rng(0).integers(0, 17, (40, 8, 8))
    np.savez(folder / "images.npz", images=np.round(levels * 255 / 16).astype(np.uint8))
    db.evaluate(
        [folder / "images.npz"], "digits", ["frechet_distance"], extractors=["digits_cnn"], runs=folder / "runs"
    )
    return folder / "runs"


@pytest.mark.slow
class TestWhole:
    """A run that leaves everything: a head, a fit, sampled t, tables, a landscape, a claim, images of somebody else."""

    def test_no_field_is_undocumented(self, whole: Path) -> None:
        check_no_field_is_undocumented(whole, "whole")

    def test_every_documented_field_exists(self, whole: Path) -> None:
        results = read(whole / "suites" / "whole" / "results.json")
        cells = {name for cell in results["cells"] for name in fields_of_cell(cell)}
        assert documented("A cell") <= cells
        assert results["claims"]
        assert results["references"]
        assert {name for manifest in manifests(whole) for name in manifest} == documented("Artifacts") - {"outcome"}

    def test_every_documented_file_exists(self, whole: Path) -> None:
        found = files_of(whole)
        for stage, names in payloads().items():
            assert names == found[stage], stage

    def test_every_entry_of_a_protocol_exists(self, whole: Path) -> None:
        """Those of metrics and chains that this run does not have stand in the code that writes protocols."""
        results = read(whole / "suites" / "whole" / "results.json")
        records = [*results["baselines"], *(value for cell in results["cells"] for value in cell["metrics"].values())]
        found = {name for record in records for name in record["protocol"]}
        package = REPOSITORY / "ddpm_bench"
        writers = [
            *package.glob("metrics/*.py"),
            package / "planning" / "quality.py",
            package / "stages" / "likelihood.py",
        ]
        code = "".join(path.read_text(encoding="utf-8") for path in writers)
        for name in documented("A value", 1) - found:
            assert f'"{name}":' in code, name

    def test_what_lies_beside_is_named(self, whole: Path) -> None:
        for file in (whole / "suites" / "whole").iterdir():
            assert f"`{file.name}`" in TEXT or f"{file.name}," in TEXT, file.name
        (evaluation,) = (whole / "evaluations").iterdir()
        assert {file.name for file in evaluation.iterdir()} == {"plan.json", "results.json"}
        assert set(read(evaluation / "results.json")) <= documented("results.json")
