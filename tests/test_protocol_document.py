"""docs/protocol.md: its defaults are those of the code, its numbers are computed, what it names exists."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

import ddpm_bench as db
from ddpm_bench import protocols
from ddpm_bench.diffusion.gaussians import log_prob_discretised
from ddpm_bench.diffusion.schedules.linear import Linear
from ddpm_bench.labels import value_label
from ddpm_bench.metrics import kernel_distance
from ddpm_bench.metrics._resolve import DEFAULT_EXTRACTOR
from ddpm_bench.metrics.precision_recall import NEIGHBOURS
from ddpm_bench.spec import Evaluation, ReverseOptions, TrainingOptions
from ddpm_bench.stages.data import VALIDATION_FRACTION
from tests.support import REPOSITORY, TINY, write_suite

TEXT = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")
WORDS = " ".join(TEXT.split())
ROWS = re.findall(r"^\| ((?:`(?:reverse|evaluation)\.\w+`(?:, )?)+) \| (.*?) \| .* \|$", TEXT, re.MULTILINE)
TABLES = {"reverse": ReverseOptions, "evaluation": Evaluation}


def in_words(key: str) -> str:
    """The default of a key as the page has it."""
    table, _, field = key.partition(".")
    if key == "evaluation.extractor":
        return f"`{DEFAULT_EXTRACTOR}`"
    value = getattr(TABLES[table](), field)
    if key == "reverse.thresholding":
        assert value is None
        return "`clip`, of data without levels `none`"
    if key == "reverse.precision":
        assert value is None
        return "that of the training"
    return ", ".join(f"`{value_label(item)}`" for item in (value if isinstance(value, tuple) else [value]))


def test_its_defaults_are_those_of_the_code() -> None:
    found = {}
    for keys, default in ROWS:
        names = re.findall(r"`([\w.]+)`", keys)
        assert default == ", ".join(in_words(name) for name in names), keys
        found.update(dict.fromkeys(names))
    every = {f"{table}.{field}" for table, cls in TABLES.items() for field in cls.__dataclass_fields__}
    # what is measured is no convention, pictures and landscapes are no values
    assert found.keys() == (every - {"evaluation.metrics", "evaluation.extractors", "evaluation.gallery",
                                     "evaluation.landscape"}) | {"evaluation.extractor"}  # fmt: skip
    assert TrainingOptions().gradient_clip is None


def test_the_default_thresholding_is_that_of_the_data(tmp_path: Any) -> None:
    suite = write_suite(tmp_path)
    assert db.load_suite(suite).cells[0].cell.thresholding == "clip"
    real = write_suite(tmp_path, TINY.replace('name = "digits"', 'name = "gaussian"'), "real.toml")
    assert db.load_suite(real).cells[0].cell.thresholding == "none"


@pytest.mark.parametrize(("rule", "index"), [("β̃_2", 1), ("β_1", 0)])
def test_l_0_of_a_perfect_network(rule: str, index: int) -> None:
    """An inner pixel: x̂_0 = x_0, so that the bin is centred on the mean."""
    process = Linear().process(1000)
    sigma2 = process.beta_tilde[1] if index else process.beta[0]
    level = torch.tensor([128.0], dtype=torch.float64)
    mean = 2 * level / 255 - 1
    bits = -float(log_prob_discretised(level, mean, torch.log(sigma2), 256)) / math.log(2)
    assert f"{bits:.2f} {'bits/dim ' if index else ''}with {rule}" in WORDS


def test_its_other_numbers() -> None:
    assert f"keeps {round(100 * 0.999**1000)} % of the initial weights after 1000 steps" in WORDS
    assert f"Validation is {round(100 * VALIDATION_FRACTION)} % of" in WORDS
    subsets = f"{kernel_distance.SUBSETS} subsets of min({kernel_distance.MAX_SUBSET_SIZE}, n) images"
    assert f"{subsets}, seed {kernel_distance.SEED}" in WORDS
    assert f"Precision and recall: k = {NEIGHBOURS}" in WORDS


def test_the_split_of_digits_is_printed_like_that(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from ddpm_bench.cli._plan_table import _print_data
    from ddpm_bench.planning import make_plan
    from ddpm_bench.stages import Verified
    from ddpm_bench.stages.runner import run_task
    from ddpm_bench.store import Store

    suite, runs = db.load_suite(write_suite(tmp_path)), tmp_path / "runs"
    run_task(runs, Store(runs / "store"), make_plan(suite, runs).data, "cpu", Verified())
    _print_data(make_plan(suite, runs))
    printed = capsys.readouterr().out.strip().removeprefix("data: ")
    assert f"`{printed}`" in TEXT


def test_what_may_differ_is_what_the_code_ignores() -> None:
    (line,) = re.findall(r"^- what belongs to the cell: (.*);$", TEXT, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", line)) == protocols.CELL


@pytest.mark.parametrize("entry", ["rank_deficient = true", "classes_of_data = false"])
def test_what_supports_no_claim(entry: str) -> None:
    name, _, value = entry.partition(" = ")
    assert f"`{entry}`" in TEXT
    assert protocols.no_claim({name: value == "true"})
    assert not protocols.no_claim({name: value != "true"})


def test_the_report_has_the_section_it_names() -> None:
    template = (REPOSITORY / "ddpm_bench" / "report" / "template.html").read_text(encoding="utf-8")
    assert "<summary>Protocol of each metric</summary>" in template
    assert '"Protocol of each metric"' in TEXT
