"""Verdicts on the page: what was found in the direction of better, with its evidence, told without colour."""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from ddpm_bench.report.figures import claims as figure
from ddpm_bench.report.figures import effects as effects_figure
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import variants
from ddpm_bench.report.verdicts import counts, found, p_value, verdicts
from tests.make_results import Writer
from tests.pages import Page
from tests.report.conftest import Example

T_5 = 2.570582
"""t_{0.975, 5}, from any table."""
MADE: dict[str, Any] = {
    "statement": "A beats B", "source": None, "metric": "bits_per_dim", "kind": "better", "margin": None,
    "verdict": "supported", "reason": None, "family": "across trainings", "family_size": 3, "effect": -0.5,
    "interval": [-0.7, -0.3], "p": 0.004, "p_holm": 0.012, "p_sign_flip": 0.03125, "num_seeds": 6, "contexts": 2,
    "unmatched": 0, "seeds_needed": None, "unit": "bits/dim", "higher_is_better": False, "differences": [],
    "context_effects": [],
}  # fmt: skip
"""A claim as results.json holds it: six seeds, fewer bits/dim."""


def by_seed(example: Example, metric: str, first: dict[str, str], second: dict[str, str]) -> list[float]:
    """Mean over contexts of first − second, for each seed."""

    def mean(side: dict[str, str], seed: int) -> float:
        return statistics.fmean(
            cell["metrics"][metric]["value"]
            for cell in example.data["cells"]
            if cell["seed"] == seed and all(cell["axes"][axis] == name for axis, name in side.items())
        )

    return [mean(first, seed) - mean(second, seed) for seed in range(6)]


def listed(example: Example) -> list[tuple[dict[str, str], str]]:
    return Page(example.html).having("data-claim", "data-verdict")


def test_the_example_has_every_verdict(claimed: Example):
    assert {verdict for verdict, _ in counts(claimed.data["claims"])} == set(figure.MARKS)


def test_every_claim_stands_on_the_page_before_anything_else(claimed: Example):
    items = listed(claimed)
    held = claimed.data["claims"]
    assert [found["data-verdict"] for found, _ in items] == [claim["verdict"] for claim in held]
    for (attributes, text), claim in zip(items, held, strict=True):
        assert attributes["data-verdict"] in text  # in words, not by colour alone
        assert (claim["source"] or "") in text
    assert claimed.html.index('id="claims"') < claimed.html.index('id="protocol"') < claimed.html.index('id="results"')
    assert "6 claims: 3 supported, 1 contradicted, 1 inconclusive, 1 untestable" in claimed.html


def test_the_numbers_of_a_claim_are_those_of_its_cells(claimed: Example):
    shared = {"loss": "simple"}
    gaps = by_seed(claimed, "bits_per_dim", shared | {"prediction": "epsilon"}, shared | {"prediction": "x0"})
    half = T_5 * statistics.stdev(gaps) / math.sqrt(6)
    mean = -statistics.fmean(gaps)  # fewer bits are better
    text = listed(claimed)[0][1]
    assert f"bits/dim better by {mean:.3f} (95 % interval {mean - half:.3f} to {mean + half:.3f})" in text
    assert "6\xa0seeds · 2\xa0contexts" in text


def test_chips_differ_in_form_not_only_in_colour(claimed: Example):
    icons = dict(re.findall(r'<span class="chip (\w+)">(<svg.*?</svg>)', claimed.html, re.DOTALL))
    assert set(icons) == set(figure.MARKS)
    assert len(set(icons.values())) == len(icons)
    forms = {(mark["marker"], mark.get("markerfacecolor")) for mark in figure.MARKS.values()}
    assert len(forms) == len(figure.MARKS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("bits/dim", "better by 0.50", "(95 % interval 0.30 to 0.70)")),
        ({"effect": 0.5, "interval": [0.3, 0.7]}, ("bits/dim", "worse by 0.50", "(95 % interval 0.30 to 0.70)")),
        ({"higher_is_better": True}, ("bits/dim", "worse by 0.50", "(95 % interval 0.30 to 0.70)")),
        ({"effect": 0.1, "interval": [-0.1, 0.3]}, ("bits/dim", "worse by 0.10", "(95 % interval −0.10 to 0.30)")),
        ({"effect": -0.1, "interval": [-0.3, 0.1]}, ("bits/dim", "better by 0.10", "(95 % interval −0.10 to 0.30)")),
        ({"metric": "fid", "unit": ""}, ("FID", "better by 0.50", "(95 % interval 0.30 to 0.70)")),
        ({"metric": "kid", "unit": "MMD²"}, ("KID [MMD²]", "better by 0.50", "(95 % interval 0.30 to 0.70)")),
        ({"interval": None}, ("bits/dim", "better by 0.5000", "")),
        ({"kind": "equivalent", "margin": 0.05, "effect": 0.0002, "interval": [-0.02, 0.0204],
          "equivalent": [{"selector": {"variance": "beta"}}, {"selector": {"variance": "beta_tilde"}}]},
         ("bits/dim", "worse by 0.0002 for σ²=β", "(95 % interval −0.0200 to 0.0204; margin ±0.05)")),
        ({"kind": "equivalent", "margin": 0.05, "interval": None,
          "equivalent": [{"selector": {"loss": {"name": "vlb"}}}]},
         ("bits/dim", "better by 0.5000 for the first side", "(margin ±0.05)")),
        ({"effect": None, "interval": None}, None),
    ],
)  # fmt: skip
def test_an_effect_is_told_in_the_direction_of_better(changes: dict[str, Any], expected: tuple[str, str, str] | None):
    assert found(MADE | changes) == expected


def test_evidence_and_remarks():
    (item,) = verdicts([MADE])
    assert item.evidence == (
        ("", "6 seeds"), ("", "2 contexts"), ("Holm p", "0.012 (3 claims across trainings)"), ("sign-flip p", "0.031"),
    )  # fmt: skip
    assert item.remarks == ()
    contexts = [
        {"context": {"loss": "simple"}, "effect": -1.1, "sign_differs": False},
        {"context": {"loss": "vlb"}, "effect": 0.1, "sign_differs": True},
    ]
    inconclusive = MADE | {"verdict": "inconclusive", "seeds_needed": 14, "context_effects": contexts, "unmatched": 1}
    assert verdicts([inconclusive])[0].remarks == (
        "The sign differs in 1 of 2 contexts: L_vlb (worse by 0.10).",
        "1 context that one side or a seed lacks is left out.",
        "With this effect and this spread, 14 seeds would settle it with 80 % probability.",
    )
    assert "not even 1,000 seeds" in verdicts([inconclusive | {"seeds_needed": None}])[0].remarks[-1]
    untestable = MADE | {"verdict": "untestable", "reason": "bits_per_dim is missing in 1 of 8 cells"}
    assert verdicts([untestable])[0].remarks == ("Bits/dim is missing in 1 of 8 cells.",)


def test_one_training_shows_the_interval_over_its_images():
    one = {"seed": 0, "value": -0.5, "image_interval": [-0.6, -0.4]}
    changes = {"interval": None, "p": None, "p_holm": None, "p_sign_flip": None, "num_seeds": 1, "contexts": 1}
    evidence = verdicts([MADE | changes | {"differences": [one], "verdict": "untestable"}])[0].evidence
    assert evidence == (("", "1 seed"), ("advantage over other images of this one training", "0.4000 to 0.6000"))


def test_small_p_values_are_bounds():
    assert [p_value(p) for p in (0.0, 9.9e-5, 1e-4, 0.0312, 1.0)] == ["< 0.0001", "< 0.0001", "0.0001", "0.031", "1"]


def test_levels_that_are_not_compared_are_named(tmp_path: Path):
    """A variance beside the matrix, of one loss: in no combination with all values."""
    folder = Writer(tmp_path, 16, 2).write()
    data = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    done = [cell for cell in data["cells"] if cell["status"] == "done"]
    extra = [cell | {"id": cell["id"] + "-x", "axes": cell["axes"] | {"variance": "optimal"}} for cell in done[:1]]
    Writer(tmp_path, 16, 2).write(cells=[*data["cells"], *extra], claims=[])
    view = ResultsView(tmp_path, "digits_ablation")
    drawing = effects_figure.draw(view, variants(view))
    assert "in which all compared values exist" in drawing.caption
    assert "Not compared, for want of such combinations: σ²=optimal." in drawing.caption


def test_the_forest_plot_holds_the_seeds_and_points_to_better(claimed: Example):
    drawing = figure.draw(ResultsView(claimed.runs, claimed.suite))
    assert drawing is not None
    means = drawing.data[drawing.data["seed"] == "mean"].set_index("claim")["advantage"]
    tested = {index + 1: claim for index, claim in enumerate(claimed.data["claims"]) if claim["effect"] is not None}
    assert means.to_dict() == {number: -claim["effect"] for number, claim in tested.items()}  # lower is better in all
    seeds = drawing.data[drawing.data["seed"] != "mean"]
    assert len(seeds) == 6 * len(tested)
    assert seeds.groupby("claim")["advantage"].mean().to_dict() == pytest.approx(means.to_dict())
    for number, claim in tested.items():
        assert f"Claim {number}: {' '.join(found(claim) or ()).strip()}." in drawing.alternative


def test_the_effect_of_an_axis_is_the_mean_difference_of_its_cells(claimed: Example):
    view = ResultsView(claimed.runs, claimed.suite)
    drawing = effects_figure.draw(view, variants(view))
    assert drawing is not None
    row = drawing.data[(drawing.data["axis"] == "prediction") & (drawing.data["metric"] == "bits/dim")].iloc[0]
    gaps = by_seed(claimed, "bits_per_dim", {"prediction": "x0"}, {"prediction": "epsilon"})
    half = T_5 * statistics.stdev(gaps) / math.sqrt(6)
    assert row["difference"] == pytest.approx(statistics.fmean(gaps), rel=1e-12)
    assert (row["low"], row["high"]) == pytest.approx(  # T_5 has seven digits
        (statistics.fmean(gaps) - half, statistics.fmean(gaps) + half), rel=1e-5
    )
    assert (row["seeds"], row["contexts"]) == (6, 4)
    assert "Exploratory" in drawing.caption
    assert "Fréchet distance" in drawing.caption  # rank-deficient: it supports no effect either
