"""What is computed for the table: intervals, who is best, columns by protocol, words and files."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ddpm_bench.report import words
from ddpm_bench.report.export import to_csv, to_latex, to_markdown
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.table import headline_table, make_table
from ddpm_bench.report.variants import best, columns, significantly_better, variants, varied_axes
from ddpm_bench.statistics import t_half_width
from tests.make_results import Writer
from tests.report.conftest import Example


def suite_of(tmp_path: Path, values: dict[str, list[float | None]], **changes: object) -> ResultsView:
    """A suite whose variants (values of the axis prediction) have these kernel distances, one for each seed."""
    cells = [
        {
            "id": f"{name}-s{seed}", "label": name, "axes": {"prediction": name}, "seed": seed, "status": "done",
            "reason": None, "train_key": f"{name}{seed}", "artifacts": {}, "training": None, "timings": {},
            "log": None, "metrics": {"kd_x": {"value": value, "stderr": 0.5, "num_samples": 10, "unit": "",
                                 "higher_is_better": False, "protocol": {"n": 10},
                                 "reason": None if value is not None else "no weights"}},
        }
        for name, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]  # fmt: skip
    Writer(tmp_path, 4, 2).write(cells=cells, axes=["prediction"], baselines=[], **changes)
    return ResultsView(tmp_path, "digits_ablation")


def test_seeds_are_summarised_and_one_seed_keeps_its_standard_error(tmp_path: Path):
    view = suite_of(tmp_path, {"epsilon": [1.0, 2.0, 3.0], "x0": [4.0, None, None], "v": [None, None, None]})
    column = columns(view, ["kd_x"])[0]
    three, one, none = (group.summary(column, varied_axes(view)) for group in variants(view))
    assert (three.mean, three.kind, three.cells) == (2.0, "t", ("epsilon-s0", "epsilon-s1", "epsilon-s2"))
    assert three.error == t_half_width([1.0, 2.0, 3.0])
    assert (one.mean, one.error, one.kind) == (4.0, 0.5, "stderr")
    assert (none.mean, none.reason) == (None, "no weights")


def test_better_is_decided_by_differences_at_equal_seed():
    # differences −1.0, −1.1, −0.9: mean −1, half width 0.25, although the seeds themselves scatter by 10
    first, second = {0: 0.0, 1: 10.0, 2: -10.0}, {0: 1.0, 1: 11.1, 2: -9.1}
    assert significantly_better(first, second, higher_is_better=False)
    assert significantly_better(second, first, higher_is_better=True)
    assert not significantly_better(second, first, higher_is_better=False)
    assert not significantly_better({0: 0.0}, {0: 100.0}, higher_is_better=False)
    assert not significantly_better({0: 0.0, 1: 0.0}, {2: 9.0, 3: 9.1}, higher_is_better=False)


@pytest.mark.parametrize(
    ("values", "winners"),
    [
        ({"epsilon": [1.0, 1.1, 0.9], "x0": [2.0, 2.1, 1.9], "v": [1.0, 1.2, 0.8]}, ["epsilon", "v"]),
        ({"epsilon": [1.0, 3.0, 2.0], "x0": [2.0, 1.0, 3.0]}, []),  # no difference: bold would say nothing
        ({"epsilon": [1.0], "x0": [2.0]}, []),  # one training each
        ({"epsilon": [1.0, 1.1], "x0": [2.0, 2.1], "v": [0.0]}, ["epsilon"]),  # the best number has one seed
    ],
)
def test_bold_is_who_nobody_significantly_beats(tmp_path: Path, values: dict, winners: list[str]):
    view = suite_of(tmp_path, values)
    column = columns(view, ["kd_x"])[0]
    assert [group.key for group in best(variants(view), column, varied_axes(view))] == winners
    bold = [row.variant.key for row in make_table(view, ["kd_x"]).rows if row.entries[0].bold]
    assert bold == winners


def test_values_measured_differently_never_share_a_column(tmp_path: Path):
    view = suite_of(tmp_path, {"epsilon": [1.0, 1.1], "x0": [2.0, 2.1]})
    assert len(columns(view, ["kd_x"])) == 1
    view.cells[2]["metrics"]["kd_x"]["protocol"] = {"n": 20}
    table = make_table(view, ["kd_x"])
    assert [column.title for column in table.columns] == ["kernel distance (x) [1]", "kernel distance (x) [2]"]
    means = [[entry.summary.mean for entry in row.entries] for row in table.rows]
    assert means == [[1.05, None], [2.1, 2.0]]
    assert table.rows[0].entries[1].summary.reason == "measured under another protocol, see the other column"
    # a protocol that differs in a varied axis or the seed is what is compared, not how it is measured
    view.cells[2]["metrics"]["kd_x"]["protocol"] = {"n": 10, "prediction": "x0", "seed": 3}
    assert len(columns(view, ["kd_x"])) == 1


def test_a_rank_deficient_distance_is_never_bold(tmp_path: Path):
    view = suite_of(tmp_path, {"epsilon": [1.0, 1.1, 0.9], "x0": [2.0, 2.1, 1.9]})
    assert make_table(view, ["kd_x"]).any_bold
    for cell in view.cells:
        cell["metrics"]["kd_x"]["protocol"]["rank_deficient"] = True
    assert not make_table(view, ["kd_x"]).any_bold


def test_references_stand_beside_the_cells_they_name(tmp_path: Path):
    rest = {"metric": "kd_x", "protocol": None, "where": None, "dataset": "digits"}
    references = [
        rest | {"value": 0.5, "source": "a book", "checked": "2026-01-01", "cells": ["epsilon-s0", "epsilon-s1"]},
        rest | {"value": 0.7, "source": "a preprint", "checked": None, "cells": ["epsilon-s0"]},
    ]
    table = make_table(suite_of(tmp_path, {"epsilon": [1.0, 1.1], "x0": [2.0, 2.1]}, references=references), ["kd_x"])
    first, second = (row.entries[0] for row in table.rows)
    assert [item.text for item in first.published] == ["0.5", "0.7†"]
    assert second.published == ()
    assert table.any_unchecked
    markdown = to_markdown(table)
    assert "| ε | 2/2 | **1.05 ± 0.64** | 0.5, 0.7† |" in markdown
    assert markdown.endswith("† not checked against the source\n")
    assert next(csv.DictReader(io.StringIO(to_csv(table))))["kd_x_published"] == "0.5, 0.7†"
    latex = to_latex(table)
    assert r"0.5, 0.7$^\dagger$ \\" in latex
    assert latex.startswith(r"\begin{tabular}{lrrr}")


def test_the_files_hold_the_table(example: Example):
    view = ResultsView(example.runs, example.suite)
    table = make_table(view, ["bits_per_dim", "kd_efficientnet_lite0"])
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == 9 + 4
    for row, shown in zip(rows, table.rows, strict=False):
        assert row["bits_per_dim"] == shown.entries[0].exact
        assert row["prediction"] == shown.variant.axes["prediction"]
    assert (rows[0]["seeds"], rows[0]["bits_per_dim_error_kind"]) == ("2/2", "95 % t interval over seeds")
    assert (rows[6]["bits_per_dim_seeds"], rows[6]["bits_per_dim_error_kind"]) == ("1", "standard error over images")
    assert rows[9]["row"] == "uniform code"
    assert float(rows[9]["bits_per_dim"]) == math.log2(17)

    *lines, blank, remarks = to_markdown(table).splitlines()
    said = "± 95 % t interval over seeds; (se): ± standard error over images, of one training or of a "
    assert (blank, remarks.startswith(said)) == ("", True)
    assert len(lines) == 2 + 13
    (histogram,) = [line for line in lines if "per-pixel histogram" in line]
    assert "(se)" in histogram  # over images, under seeds' intervals
    assert {line.count("|") for line in lines} == {8}
    assert "**2.896 ± 0.076**" in lines[3]

    latex = to_latex(table)
    assert latex.count(r"\\") == 1 + 13
    assert latex.startswith("\\begin{tabular}{lllrrr}\n\\toprule")
    assert r"\textbf{\boldmath 2.896 $\pm$ 0.076}" in latex
    assert r"efficientnet\_lite0" in latex
    body = "\n".join(line.partition("  %")[0] for line in latex.splitlines())
    assert body.isascii()
    assert body.count("$") % 2 == 0
    assert "% $\\pm$ 95 \\% t interval over seeds" in latex


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(2.5512, 2, "2.55"), (-0.5, 1, "−0.5"), (0.0, 2, "0.00"), (0.0001, 2, "1.0e−4"), (123456.0, 2, "1.2e5")],
)
def test_numbers_are_printed_with_their_decimals(value: float, decimals: int, text: str):
    assert words.number(value, decimals) == text


def test_decimals_follow_the_error():
    assert words.digits([0.012], [2.5]) == 3
    assert words.digits([1.6, 0.012, 2.3], [2.5]) == 1
    assert words.digits([0.0, math.inf], [2.5]) == 3
    assert words.digits([], [109.7]) == 1
    assert words.digits([], []) == 3


def test_symbols_reach_each_medium():
    known = {"variance": {"beta_tilde": "σ²=β̃"}, "loss": {"simple": "L_simple"}, "prediction": {"x0": "x₀"}}
    with words.symbols(known):
        text = ", ".join(
            [words.value("variance", "beta_tilde"), words.value("loss", "simple"), words.value("prediction", "x0")]
        )
    assert text == "σ²=β̃, L_simple, x₀"
    assert words.html("L_simple <b>, x_{t−1}") == "<i>L</i><sub>simple</sub> &lt;b&gt;, <i>x</i><sub><i>t</i>−1</sub>"
    assert words.html("kd_efficientnet_lite0") == "kd_efficientnet_lite0"
    assert words.mathtext(text) == r"$\sigma^2$=$\tilde{\beta}$, $L_{\mathrm{simple}}$, $x_0$"
    assert words.mathtext("5 $") == r"5 \$"
    assert words.latex(text + " 50 % a_b") == r"$\sigma^2=\tilde{\beta}$, $L_{\mathrm{simple}}$, $x_0$ 50 \% a\_b"
    assert words.latex("5 $β=2") == r"5 \$$\beta$=2"
    assert words.value("schedule", "cosine(s=0.01)") == "cosine (s=0.01)"
    assert words.value("prediction", "their/own") == "their/own"


@pytest.mark.parametrize(
    ("name", "title", "companion"),
    [
        ("bits_per_dim", "bits/dim", False),
        ("bits_per_dim_train", "bits/dim, train", True),
        ("bits_per_dim_l_0", "bits/dim: L_0", True),
        ("bits_per_dim_l_0_train", "bits/dim: L_0, train", True),
        ("bits_per_dim_network", "bits/dim: network part", True),
        ("kd_efficientnet_lite0", "kernel distance (efficientnet_lite0)", False),
        ("kd_efficientnet_lite0_test_n360", "kernel distance (efficientnet_lite0), test, n = 360", True),
        ("fid", "FID", False),
    ],
)
def test_metrics_have_titles_and_companions_are_known(name: str, title: str, companion: bool):
    assert words.metric(name) == title
    others = ["bits_per_dim", "kd_efficientnet_lite0", name]
    assert words.is_companion(name, others) == companion


@pytest.mark.parametrize(
    ("axis", "label", "text"),
    [
        ("sampling_steps", "50", "50 steps"), ("sampling_steps", "all", "all steps"), ("timesteps", "1000", "T=1000"),
        ("training.learning_rate", "0.001", "learning rate 0.001"), ("network.attention", "true", "attention true"),
        ("variance", "beta", "σ²=β"), ("schedule", "cosine(s=0.01)", "cosine (s=0.01)"), ("prediction", "v", "v"),
    ],
)  # fmt: skip
def test_values_say_what_they_are_of(axis: str, label: str, text: str):
    assert words.phrase(axis, label) == text


def test_what_follows_from_a_varied_axis_makes_no_other_column(tmp_path: Path):
    Writer(tmp_path, 30, 2, matrix="steps").write()
    view = ResultsView(tmp_path, "digits_steps")
    for cell in view.cells:
        learned = cell["axes"]["variance"] == "optimal"
        cell["metrics"]["bits_per_dim"]["protocol"]["first_step"] = "beta_tilde_2" if learned else "beta_1"
    assert [column.number for column in columns(view, ["bits_per_dim"])] == [0]
    for cell in view.cells:
        cell["metrics"]["bits_per_dim"]["protocol"]["images"] = 100 + cell["seed"]
    assert [column.number for column in columns(view, ["bits_per_dim"])] == [1, 2]


def test_samples_are_joined_over_chunks(tmp_path: Path):
    view = suite_of(tmp_path, {"epsilon": [1.0, 2.0]})
    for index, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "samples.npy", np.full((3, 1, 2, 2), index, np.uint8))
    cell = view.cells[0] | {"artifacts": {"samples": ["a", "b", "missing"]}}
    found = view.samples(cell, 5)
    assert found is not None
    assert found[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1]
    assert view.samples(cell | {"artifacts": {"samples": ["missing"]}}, 5) is None


def test_the_example_is_the_same_each_time(tmp_path: Path):
    written = []
    for name in ("first", "second"):
        Writer(tmp_path / name, 4, 2).write()
        paths = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        written.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in paths})
    assert written[0] == written[1]
    cells = json.loads(written[0]["suites/digits_ablation/results.json"])["cells"]
    parts = [f"bits_per_dim_{part}" for part in ("l_0", "mean_cost", "variance_cost", "l_T")]
    total = math.fsum(cells[0]["metrics"][name]["value"] for name in parts)
    assert total == pytest.approx(cells[0]["metrics"]["bits_per_dim"]["value"], rel=1e-12)


def test_the_latex_table_is_well_formed(claimed: Example):
    """Booktabs rules in their places, as many columns in each row as declared, nothing that LaTeX would choke on."""
    lines = to_latex(headline_table(ResultsView(claimed.runs, claimed.suite))).splitlines()
    columns = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines[0])
    assert columns
    end = lines.index(r"\end{tabular}")
    rules = [line for line in lines[:end] if line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"]
    rows = [line for line in lines[1:end] if not line.endswith("rule")]
    for row in rows:
        body, end_of_row, _ = row.partition(r" \\")
        assert end_of_row
        assert len(re.split(r"(?<!\\)&", body)) == len(columns[1])
        assert body.count("{") == body.count("}")
        assert len(re.findall(r"(?<!\\)\$", body)) % 2 == 0
        bare = re.sub(r"(?<!\\)\$.*?(?<!\\)\$", "", body)
        assert not re.search(r"(?<!\\)[_^#%~]", bare)
        assert bare.isascii(), bare
    assert all(line.startswith("%") for line in lines[end + 1 :])


@pytest.mark.slow
def test_the_latex_table_compiles(claimed: Example, example: Example, tmp_path: Path):
    """With nothing but booktabs, as its docstring says."""
    if (
        shutil.which("pdflatex") is None
        or subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode
    ):
        pytest.skip("needs pdflatex and booktabs (Debian: texlive-latex-base, texlive-latex-recommended)")
    tables = [(given.page.parent / "table.tex").read_text(encoding="utf-8") for given in (claimed, example)]
    body = "\n\\newpage\n".join(tables)
    text = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "paper.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-1500:]
    assert "Missing character" not in done.stdout
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
