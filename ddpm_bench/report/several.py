"""The report of several suites: their verdicts, one joint table, and what each suite says by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_bench.report import html, illegal, verdicts, words
from ddpm_bench.report.figures import Drawing, claims, effects
from ddpm_bench.report.joint import JointView, settings_that_differ
from ddpm_bench.report.page import write_figures, write_tables
from ddpm_bench.report.protocol import card, numbered_columns
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.summary import paragraphs
from ddpm_bench.report.table import headline_table
from ddpm_bench.report.variants import variants


@dataclass(frozen=True, kw_only=True)
class Part:
    """One suite of the page. link: to its own report, from the folder of this one; drawings: of this suite alone."""

    view: ResultsView
    title: str
    link: str
    verdicts: list[verdicts.Verdict]
    counts: list[tuple[str, int]]
    paragraphs: list[str]
    card: list[tuple[str, str]]
    drawings: list[Drawing]


def joint_name(suites: Sequence[str]) -> str:
    """The folder of a joint report: the names of its suites, in the order given, joined by "+"."""
    return "+".join(dict.fromkeys(suites))


def build_joint(views: Sequence[ResultsView], out: Path) -> Path:
    """Writes out/A+B/ with index.html, the joint table as files and figures/; the path of the page.

    Links to the suites' own reports are relative: they stand beside it.
    """
    folder = Path(out) / joint_name([view.suite for view in views])
    joint = JointView(views)
    parts = [_part(view, index + 1) for index, view in enumerate(views)]
    drawings = [drawing for part in parts for drawing in part.drawings]
    with words.symbols(joint.data["symbols"]):
        table = headline_table(joint)
        write_tables(folder, table)
        content: dict[str, Any] = {
            "title": words.listed([view.suite for view in views]),
            "parts": parts,
            "table": table,
            "numbered": numbered_columns(table),
            "numbers": {drawing.name: index + 1 for index, drawing in enumerate(drawings)},
            "differing": settings_that_differ(views),
        }
        page = html.render("several.html", **content)
    write_figures(folder, drawings, {})
    html.write(folder / "index.html", page)
    return folder / "index.html"


def _part(view: ResultsView, number: int) -> Part:
    with words.symbols(view.data["symbols"]):
        groups = [group for group in variants(view) if not illegal.is_illegal(group)]
        drawn = [claims.draw(view), effects.draw(view, groups)]
        return Part(
            view=view,
            title=view.data["title"] or view.suite,
            link=f"../{view.suite}/index.html",
            verdicts=verdicts.verdicts(view.data["claims"]),
            counts=verdicts.counts(view.data["claims"]),
            paragraphs=paragraphs(view, headline_table(view)),
            card=card(view),
            drawings=[dataclasses.replace(found, name=f"{found.name}_{number}") for found in drawn if found],
        )
