"""The parts of a report: their order, and what a report made from results.json alone says it lacks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ddpm_bench.report import build
from tests.make_results import Writer
from tests.report.conftest import Example

ORDER = (
    'id="claims"', 'id="effects_of_claims"', 'id="protocol"', 'id="results"', "tbody class=\"baselines\"",
    'id="effects"', 'id="decomposition"', 'id="timestep_kl"', 'id="log_snr_kl"', 'id="rate_distortion"',
    'id="curves"', 'id="cells"', 'id="samples"', 'id="gallery"', 'id="reproduce"',
)  # fmt: skip
"""What a reader meets, from the verdicts down to the environment."""


def test_parts_come_in_their_order_and_figures_are_numbered_down_the_page(claimed: Example):
    text = claimed.html.replace('id="effects_of_claims-', 'id="')
    marks = [mark for mark in ORDER if mark != 'id="effects_of_claims"']
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    numbers = [int(number) for number in re.findall(r"<figcaption><b>Figure (\d+)\.", text)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 8


def test_every_section_is_named_in_the_list_of_sections(claimed: Example):
    nav = re.search(r'<nav aria-label="Sections">(.*?)</nav>', claimed.html, re.DOTALL)
    assert nav
    named = re.findall(r'href="#([\w-]+)"', nav[1])
    headed = re.findall(r'<h2 id="([\w-]+)"', claimed.html)
    assert named == headed


def test_results_alone_make_a_report_that_says_what_it_lacks(claimed: Example, tmp_path: Path):
    shipped = tmp_path / "reports" / "evidence"
    shipped.mkdir(parents=True)
    shutil.copy(claimed.runs / "suites" / claimed.suite / "results.json", shipped)
    page = build(tmp_path / "nowhere", "evidence", tmp_path / "reports", shipped).read_text(encoding="utf-8")
    assert page.count('data-claim="') == 6
    assert 'id="decomposition"' in page
    assert 'id="timestep_kl"' not in page
    said = re.search(r'id="omitted">(.*?)</p>', page)
    assert said
    assert said[1] == (
        "The figures over timesteps are left out: timestep_kl.csv is not beside results.json. No training curves, "
        "samples, gallery and forward process: they were not in the store when this report was made."
    )
    assert 'id="omitted"' not in claimed.html


def test_a_suite_without_claims_begins_with_its_summary(tmp_path: Path):
    Writer(tmp_path, 4, 2).write(claims=[])
    page = build(tmp_path, "digits_ablation", tmp_path / "out").read_text(encoding="utf-8")
    assert 'id="claims"' not in page
    assert page.index("Lowest bits/dim") < page.index('id="protocol"')
