"""docs/findings.md and the shipped reports: every number comes from results.json, and verdicts from its values."""

from __future__ import annotations

import json
import re

import pytest

from ddpm_bench.claims import judge
from ddpm_bench.protocols import varied_axes
from tests.support import REPOSITORY
from tools import findings

SHIPPED = sorted((REPOSITORY / "reports").glob("*/results.json"))


def test_the_page_is_what_the_results_say() -> None:
    assert findings.PAGE.read_text(encoding="utf-8") == findings.render()


def test_the_template_types_in_no_measured_number() -> None:
    """Decimals, integers of two digits or more; not expressions, code, T of a paper and the level of intervals."""
    text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|`[^`]*`", "", findings.TEMPLATE.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"95 %|\[95|T = 1000|CIFAR-10|8×8|σ²|x₀", "", text)
    assert re.findall(r"\d+\.\d+|\d{2,}", text) == []


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.parent.name)
def test_shipped_verdicts_follow_from_the_shipped_values(file) -> None:  # type: ignore[no-untyped-def]
    results = json.loads(file.read_text(encoding="utf-8"))
    again = json.loads(json.dumps(judge(results["claims"], results["cells"],
                                        varied_axes(results["axes"], results["cells"]))))  # fmt: skip
    assert again
    for held, found in zip(results["claims"], again, strict=True):
        # the bootstrap over images needs the store
        for item in held["differences"]:
            item["image_interval"] = None
        assert held == found
    assert (file.parent / "index.html").is_file()
