"""docs/statistics.md: its numbers are computed, its rules are those of the code."""

from __future__ import annotations

import ast
import math
import re
import tomllib

import pytest

from ddpm_bench import claims, statistics
from ddpm_bench.report.offending import KINDS
from tests.support import REPOSITORY

TEXT = (REPOSITORY / "docs" / "statistics.md").read_text(encoding="utf-8")
WORDS = " ".join(TEXT.split())
NUMBERS = {2: "two", 5: "five", 6: "six"}


def test_its_example_has_the_values_it_says() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    shown = 0
    for line in code.splitlines():
        text, _, comment = line.partition("  # ")
        if not text.startswith("statistics."):
            exec(text, names)
            continue
        expected = ast.literal_eval(comment)
        # three significant digits, rounded: half a unit of the last is at most 0.5 % of the value
        assert eval(text, names) == pytest.approx(expected, rel=5e-3), line
        shown += 1
    assert shown == 5


def test_the_table_of_seeds() -> None:
    rows = re.findall(r"^\| ([\d.]+) \| (\d+) \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 5
    deviation = math.sqrt(9 / 10)  # ten values of mean ± this have a standard deviation of 1
    for size, *expected in rows:
        values = [float(size) + (deviation if i % 2 else -deviation) for i in range(10)]
        found = [statistics.seeds_to_decide(values, statistics.ALPHA / family) for family in (1, 4, 10)]
        assert found == list(map(int, expected)), size


def test_its_verdicts_are_those_of_the_code() -> None:
    table = TEXT.partition("| verdict | when |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| (\w+) \|", table, re.MULTILINE)) == claims.VERDICTS
    (kinds,) = re.findall(r"--fail-on (\S+)", TEXT)
    assert set(kinds.split(",")) == set(KINDS)
    for family in (claims.ACROSS, claims.WITHIN):
        assert f"*{family}*" in TEXT


def test_its_levels_are_those_of_the_code() -> None:
    percent = round(100 * statistics.ALPHA)
    assert f"below {percent} %" in WORDS
    assert f"{100 - percent} % t interval" in WORDS
    assert f"fewer than {NUMBERS[statistics.MIN_SEEDS]} seeds" in WORDS
    assert 2 ** (1 - (statistics.MIN_SEEDS - 1)) > statistics.ALPHA >= 2 ** (1 - statistics.MIN_SEEDS)
    assert f"with {NUMBERS[statistics.MIN_SEEDS - 1]}, no two-sided sign-flip test reaches {percent} %" in WORDS
    assert f"({round(100 * statistics.POWER)} % chance" in WORDS


def test_its_claim_is_toml() -> None:
    (claim,) = tomllib.loads(re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[0])["claim"]
    assert claim.keys() == {"statement", "metric", "better", "than"}
