"""The page: what it shows is what results.json holds, and it needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddpm_bench.errors import UserError
from ddpm_bench.report import build
from tests.make_results import Writer
from tests.pages import Page
from tests.report.conftest import Example

FIGURES = (
    "effects", "decomposition", "timestep_kl", "log_snr_kl", "share", "rate_distortion", "curves", "forward", "noised",
)  # fmt: skip
"""Of the example: no σ² is learned or fitted, and the number of reverse steps does not vary."""


def test_every_value_of_every_cell_is_on_the_page(example: Example):
    shown = set(Page(example.html).values_of_cells())
    held = {
        (cell["id"], name, "null" if record["value"] is None else repr(record["value"]))
        for cell in example.data["cells"]
        for name, record in cell["metrics"].items()
    }
    assert len(held) > 100
    assert shown == held


def test_the_table_shows_means_of_the_cells_it_names(example: Example):
    cells = {cell["id"]: cell for cell in example.data["cells"]}
    entries = Page(example.html).having("data-cells", "data-value")
    assert len(entries) > 40
    for found, text in entries:
        values = [cells[name]["metrics"][found["data-metric"]]["value"] for name in found["data-cells"].split()]
        assert float(found["data-value"]) == math.fsum(values) / len(values)
        printed = re.match(r"[\d.]+", text)[0]
        decimals = len(printed.partition(".")[2])
        # half a unit of the last decimal, and the rounding of binary fractions to decimals
        assert abs(float(printed) - float(found["data-value"])) <= 0.5 * 10**-decimals * (1 + 1e-9)


def test_baselines_failures_and_marks_are_shown(example: Example):
    page = Page(example.html)
    baselines = {found["data-baseline"]: text for found, text in page.having("data-baseline")}
    for item in example.data["baselines"]:
        assert item["name"] in baselines
    values = {found["data-value"] for found, _ in page.having("data-value")}
    assert {repr(item["value"]) for item in example.data["baselines"]} <= values
    troubles = " ".join("".join(text) for tag, found, text in page.elements if "trouble" in found.get("class", ""))
    assert "seed 1 failed: RuntimeError: the worker was killed twice" in troubles
    assert "seed 1 diverged: the loss is not finite (step 320, t = 87, loss 4.1e+04)" in troubles
    assert "illegal:" in troubles
    uniform = next(item["value"] for item in example.data["baselines"] if item["name"] == "uniform code")
    for found, text in page.having("data-cells", "data-value"):
        if found["data-metric"] in ("bits_per_dim", "bits_per_dim_train"):
            assert ("vacuous bound" in text) == (float(found["data-value"]) > uniform)
    heads = ["".join(text) for tag, _, text in page.elements if tag == "th"]
    frechet = [head for head in heads if "Fréchet" in head and "↓" in head]
    assert frechet
    assert all("rank-deficient" in head for head in frechet)
    assert not any("rank-deficient" in head for head in heads if "kernel" in head)


def test_nothing_outside_the_file_is_referred_to(example: Example):
    text = example.html
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    references = re.findall(r"""\b(?:src|href|action|poster|srcset|data)\s*=\s*["']?([^"'\s>]+)""", text)
    assert len(references) > 100
    assert all(re.match(r"#|data:(image/png;base64|text/csv)", reference) for reference in references)
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]*)", text))
    for figure in (example.page.parent / "figures").glob("*.svg"):
        bare = re.sub(r'xmlns(:xlink)?="[^"]*"', "", figure.read_text(encoding="utf-8"))
        assert "http" not in bare
        assert "<!DOCTYPE" not in bare
        assert "<metadata" not in bare


def test_internal_references_have_targets_and_ids_are_unique(example: Example):
    page = Page(example.html)
    ids = [found["id"] for found, _ in page.having("id")]
    assert len(ids) == len(set(ids))
    targets = {found["href"][1:] for found, _ in page.having("href") if found["href"].startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]*)\)", example.html))
    assert targets <= set(ids)


def test_the_policy_allows_the_one_script_and_nothing_from_outside(example: Example):
    page = Page(example.html)
    policy = next(found["content"] for found, _ in page.having("http-equiv"))
    scripts = ["".join(text) for tag, _, text in page.elements if tag == "script"]
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert not [found for _, found, _ in page.elements if any(name.startswith("on") for name in found)]


def test_figures_have_alternative_text_captions_and_data(example: Example):
    page = Page(example.html)
    images = [found for tag, found, _ in page.elements if tag == "svg" and "role" in found]
    assert len(images) == len(FIGURES)
    assert all(found["role"] == "img" and len(found["aria-label"]) > 30 for found in images)
    assert all(found["alt"] for tag, found, _ in page.elements if tag == "img")
    tags = [tag for tag, _, _ in page.elements]
    assert tags.count("figcaption") == tags.count("figure") == len(FIGURES) + 1 + 3  # samples and the gallery
    assert sum("download" in found for _, found, _ in page.elements) == len(FIGURES)
    files = [path for path in (example.page.parent / "figures").rglob("*") if path.is_file()]
    assert {path.name for path in files if path.suffix != ".png"} == {
        f"{name}.{kind}" for name in FIGURES for kind in ("svg", "pdf")
    }


def test_every_picture_of_the_page_is_a_file(example: Example):
    shown = [
        base64.b64decode(found["src"].partition(",")[2])
        for tag, found, _ in Page(example.html).elements
        if tag == "img"
    ]
    folder = example.page.parent / "figures"
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
    assert len(files) == len(shown) > 20
    assert set(files.values()) == set(shown)
    done = next(cell["id"] for cell in example.data["cells"] if cell["artifacts"].get("samples"))
    assert f"samples/{done}.png" in files
    kinds = {"samples", "progressive", "interpolation", "nearest", "noised"}
    assert {name.partition("/")[0] for name in files} == kinds
    assert all(re.fullmatch(r"\w+/[\w.=+-]+\.png", name) for name in files)


def test_every_variant_with_samples_has_its_row_of_images(example: Example):
    images = [found for tag, found, _ in Page(example.html).elements if tag == "img"]
    shown = [found["data-cell"] for found in images if "data-cell" in found]
    assert shown == [
        cell["id"] for cell in example.data["cells"] if cell["artifacts"].get("samples") and not cell["seed"]
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_equal_results_give_equal_bytes_and_no_heavy_import(example: Example, tmp_path: Path):
    """A second process with another hash seed and another clock; torch and mlflow stay outside."""
    code = (
        "import sys, pathlib; from ddpm_bench.report import build; "
        "build(*map(lambda f, a: f(a), (pathlib.Path, str, pathlib.Path), sys.argv[1:])); "
        "print([name for name in ('torch', 'mlflow', 'torch_fidelity', 'sklearn') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(example.runs), example.suite, str(tmp_path / "again")]
    environment = os.environ | {"PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1", "MPLBACKEND": "svg"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    first, second = contents(example.page.parent), contents(tmp_path / "again" / example.suite)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_text_of_the_suite_is_escaped(tmp_path: Path):
    evil = "<script>alert(1)</script>"
    folder = Writer(tmp_path, 4, 2).write()
    data = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    claims = [claim | dict.fromkeys(("statement", "source", "reason"), evil) for claim in data["claims"]]
    assert claims
    reference = {"metric": "bits_per_dim", "value": 3.75, "source": f'"{evil}', "protocol": evil, "where": None}
    references = [reference | {"dataset": "digits", "checked": None, "cells": [cell["id"] for cell in data["cells"]]}]
    Writer(tmp_path, 4, 2).write(title=evil, claims=claims, references=references, overrides=[evil])
    data = Example(tmp_path, build(tmp_path, "digits_ablation", tmp_path / "out"))
    page = Page(data.html)
    assert evil not in data.html
    assert "".join(next(text for tag, _, text in page.elements if tag == "title")) == evil
    assert sum(tag == "script" for tag, _, _ in page.elements) == 1
    assert "3.75" in "".join(text for found, text in page.having("class") if "published" in found["class"])


def test_a_suite_that_has_not_begun_renders(tmp_path: Path):
    Writer(tmp_path, 16, 2).write(waiting=True, data=None, baselines=[], notes=["A note."])
    page = build(tmp_path, "digits_ablation", tmp_path / "out").read_text(encoding="utf-8")
    assert "16 are waiting and 2 are illegal. There are no values yet." in page
    assert "not decoded yet" in page
    assert "A note." in page
    assert not [tag for tag, _, _ in Page(page).elements if tag == "figure"]


def test_one_cell_alone_renders(tmp_path: Path):
    """No axis varies: the cell's own label names it."""
    writer = Writer(tmp_path, 1, 1)
    cell = writer.cell(writer.variants[0], 0)
    writer.write(cells=[cell], axes=[], claims=[])
    page = build(tmp_path, "digits_ablation", tmp_path / "out").read_text(encoding="utf-8")
    assert len([tag for tag, _, _ in Page(page).elements if tag == "svg"]) == len(FIGURES) - 1  # no axis, no effect
    assert "1 variant × 1 seed on digits: 1 cell, 1 training. All cells are done." in page


def test_a_pruned_store_is_said_and_not_an_error(tmp_path: Path):
    folder = Writer(tmp_path, 4, 2).write()
    shutil.rmtree(tmp_path / "store")
    (folder / "timestep_kl.csv").unlink()
    page = build(tmp_path, "digits_ablation", tmp_path / "out").read_text(encoding="utf-8")
    assert [
        found["id"] for found, _ in Page(page).having("id") if found["id"] in ("decomposition", "curves", "samples")
    ] == ["decomposition"]


def test_a_suite_without_results_is_a_users_error(tmp_path: Path):
    with pytest.raises(UserError, match="has no results"):
        build(tmp_path, "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sixteen_variants_render_in_time(tmp_path: Path):
    """Processor time, so that a busy machine does not fail it; 5 s on a slow core."""
    Writer(tmp_path, 16, 1).write()
    start = time.process_time()
    build(tmp_path, "digits_ablation", tmp_path / "out")
    assert time.process_time() - start < 20


@pytest.mark.slow
def test_ninety_six_cells_render_in_time_and_size(tmp_path: Path):
    """56 variants in all figures and 40 illegal ones: 14 s of processor time on a slow core, 2.3 MB."""
    Writer(tmp_path, 96, 1, matrix="variants").write()
    start = time.process_time()
    page = build(tmp_path, "digits_variants", tmp_path / "out")
    assert time.process_time() - start < 40
    assert page.stat().st_size < 10e6


def test_a_browser_renders_it_without_complaint(example: Example, tmp_path: Path):
    """The policy refuses nothing, and the script runs: it uncovers the filter."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on this machine")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", example.page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    filters = [found for found, _ in Page(done.stdout).having("data-table")]
    assert filters
    assert all("hidden" not in found for found in filters)
