"""The effects that claims are judged by: a forest plot with a panel for each metric."""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ddpm_bench.report import words
from ddpm_bench.report.figures import FAINT, INK, Drawing, export, legend, new_figure, style
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.verdicts import ORDER, Claim, advantage, counts, found, interval, quantity

MARKS: dict[str, dict[str, Any]] = {
    "supported": {"color": "#0173b2", "marker": "o"},
    "contradicted": {"color": "#c04a00", "marker": "D"},
    "inconclusive": {"color": "#55585f", "marker": "o", "markerfacecolor": "white"},
    "untestable": {"color": "#55585f", "marker": "s", "markerfacecolor": "white"},
}
"""Verdict → look: colour and form, so that either is enough."""
WRAP = 46
"""Characters in a line of a claim's statement."""
LINE, ROW, PANEL = 0.145, 0.17, 0.62
"""Inches: a line of a statement, what a row needs beside its lines, what a panel needs beside its rows."""


def draw(view: ResultsView) -> Drawing | None:
    """Mean difference with its 95 % interval and a dot for each seed; None when no claim has a difference."""
    numbered = [(index + 1, claim) for index, claim in enumerate(view.data["claims"]) if claim["effect"] is not None]
    if not numbered:
        return None
    svg, pdf = _draw(numbered)
    given = [claim for _, claim in numbered]
    seeds = any(len(claim["differences"]) > 1 for claim in given)
    caption = (
        "Effects that the claims are judged by. Positive: the side that the claim names first is better, whichever way "
        "the metric points. "
    )
    caption += "Large marks: mean over seeds" + (" with its 95 % t interval; small dots: the seeds." if seeds else ".")
    if any(claim["margin"] for claim in given):
        caption += " Shaded: the margin within which equivalence is claimed."
    if any(claim["interval"] is None for claim in given):
        caption += " A mark without an interval is of one seed."
    listed = ", ".join(f"{number} {verdict}" for verdict, number in counts(given))
    return Drawing(
        name="effects_of_claims",
        title="Effects that the claims are judged by",
        caption=caption,
        alternative=f"Forest plot of {words.count(len(given), 'claim')}: {listed}. "
        + " ".join(f"Claim {number}: {' '.join(found(claim) or ()).strip()}." for number, claim in numbered),
        data=_data(numbered),
        svg=svg,
        pdf=pdf,
    )


def _data(numbered: list[tuple[int, Claim]]) -> pd.DataFrame:
    rows = []
    for number, claim in numbered:
        low, high = interval(claim) or (None, None)
        head = {"claim": number, "statement": claim["statement"], "metric": claim["metric"]}
        rows.append(
            {**head, "verdict": claim["verdict"], "seed": "mean", "advantage": advantage(claim, claim["effect"]),
             "low": low, "high": high}
        )  # fmt: skip
        for item in claim["differences"]:
            rows.append(
                {**head, "verdict": "", "seed": str(item["seed"]), "advantage": advantage(claim, item["value"])}
            )
    return pd.DataFrame(rows)


def _draw(numbered: list[tuple[int, Claim]]) -> tuple[str, bytes]:
    panels: dict[str, list[tuple[int, Claim, str]]] = {}
    for number, claim in numbered:
        lines = textwrap.wrap(f"{number}. {claim['statement']}", WRAP)
        lines = [*lines[:2], lines[2][: WRAP - 2] + " …"] if len(lines) > 3 else lines
        panels.setdefault(claim["metric"], []).append((number, claim, "\n".join(map(words.mathtext, lines))))
    heights = [PANEL + sum(LINE * (1 + label.count("\n")) + ROW for _, _, label in rows) for rows in panels.values()]
    with style():
        figure = new_figure(8.6, 0.35 + sum(heights))
        grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
        for index, rows in enumerate(panels.values()):
            _panel(figure.add_subplot(grid[index, 0]), rows)
        given = [claim["verdict"] for _, claim in numbered]
        handles: list[Any] = [
            Line2D([], [], ls="none", ms=6, label=verdict, **MARKS[verdict]) for verdict in ORDER if verdict in given
        ]
        extra: list[Any] = []
        if any(len(claim["differences"]) > 1 for _, claim in numbered):
            extra.append(Line2D([], [], ls="none", marker="o", ms=2.6, color=FAINT, label="a seed"))
        if any(claim["margin"] for _, claim in numbered):
            extra.append(Patch(facecolor="#e3ebf2", label="margin of equivalence"))
        legend(figure, handles, extra)
        return export(figure)


def _panel(axes: Any, rows: list[tuple[int, Claim, str]]) -> None:
    """One row for each claim, from the top; their heights follow the lines of their labels."""
    heights = [LINE * (1 + label.count("\n")) + ROW for _, _, label in rows]
    places = [sum(heights[:index]) + height / 2 for index, height in enumerate(heights)]
    axes.axvline(0, color=INK, lw=0.8, zorder=1)
    for (_, claim, _), place, height in zip(rows, places, heights, strict=True):
        if claim["margin"]:
            axes.barh(place, 2 * claim["margin"], height * 0.86, left=-claim["margin"], color="#e3ebf2", zorder=0.5)
        look = MARKS[claim["verdict"]]
        ends = interval(claim)
        if ends:
            axes.plot(ends, [place, place], color=look["color"], lw=1.6, zorder=3, solid_capstyle="butt")
        seeds = [advantage(claim, item["value"]) for item in claim["differences"]]
        if len(seeds) > 1:
            axes.plot(seeds, [place + 0.085] * len(seeds), ls="none", marker="o", ms=2.6, color=FAINT, mew=0, zorder=2)
        axes.plot([advantage(claim, claim["effect"])], [place], ls="none", ms=6, zorder=4, **look)
    axes.set_yticks(places, [label for _, _, label in rows])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.use_sticky_edges = False  # a margin's band ends inside of the panel
    axes.margins(x=0.06)
    axes.set_ylim(sum(heights), 0)
    axes.set_xlabel(f"← worse     {words.mathtext(quantity(rows[0][1]))}: advantage of the first side     better →")
