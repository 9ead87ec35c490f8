"""Figures of the report. Each module draws one; this one holds what they share: type, colours, and clean SVG.

A figure is drawn by a function `draw(view, groups) -> Drawing | None`; None when there is nothing to show.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ddpm_bench.report import words

PALETTE = (
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
)  # fmt: skip
"""Ten colours that colour-blind readers tell apart: seaborn's "colorblind", written out because importing seaborn
loads scipy's statistics."""

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.3)), (0, (5, 1.3, 1, 1.3)), (0, (8, 2)))

INK, FAINT = "#222222", "#8a8a8a"

STYLE: dict[str, Any] = {
    "svg.hashsalt": "ddpm-bench",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.6,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "figure.dpi": 72,
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished figure.

    title, caption, alternative: text (the last says in words what is seen); data: what is drawn, as a table; svg: the
    standalone file; pdf: the same.
    """

    name: str
    title: str
    caption: str
    alternative: str
    data: pd.DataFrame
    svg: str
    pdf: bytes


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How lines are told apart: one panel per value of the panel axes, colour and dashes inside.

    panels: title → indices of the lines; colours, dashes: by index; keys: legend entries (label, colour, dashes).
    """

    panels: dict[str, list[int]]
    colours: list[str]
    dashes: list[Any]
    keys: list[tuple[str, str, Any]]

    def handles(self) -> list[Line2D]:
        """The legend: a line for each entry."""
        return [Line2D([], [], color=colour, ls=dash, label=words.mathtext(label)) for label, colour, dash in self.keys]


def encode(lines: Sequence[dict[str, str]], panel_axes: Sequence[str] = (), more_panels: bool = True) -> Encoding:
    """Panels by the panel axes, dashes by the reverse variance, colours by the rest.

    lines: the varied axes of each line with its labels, the same axes in each; an empty label says that the line does
    not depend on the axis. When ten colours do not suffice, further axes become panels (unless more_panels is false);
    what is then left over is told apart by dashes too.
    """
    axes = list(lines[0])
    panels_by = [name for name in axes if name in panel_axes]
    dash_by = [name for name in axes if name == "variance"]
    rest = [name for name in axes if name not in panels_by + dash_by]

    def label(line: dict[str, str], names: Sequence[str]) -> str:
        return ", ".join(words.value(name, line[name]) for name in names if line[name])

    while more_panels and len({label(line, rest) for line in lines}) > len(PALETTE) and len(rest) > 1:
        panels_by.append(rest.pop())
    colours = list(dict.fromkeys(label(line, rest) for line in lines))
    dashes = list(dict.fromkeys(text for line in lines if (text := label(line, dash_by)))) or [""]
    panels: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        panels.setdefault(label(line, panels_by), []).append(index)

    def look(colour: str, dash: str) -> tuple[str, Any]:
        turn, index = divmod(colours.index(colour), len(PALETTE))
        place = dashes.index(dash) if dash in dashes else 0
        return PALETTE[index], DASHES[(turn * len(dashes) + place) % len(DASHES)]

    looks = [look(label(line, rest), label(line, dash_by)) for line in lines]
    keys = [(text or "all", *look(text, dashes[0])) for text in colours] if len(colours) > 1 else []
    if len(dashes) > 1:
        keys += [(text, INK if keys else PALETTE[0], DASHES[index % len(DASHES)]) for index, text in enumerate(dashes)]
    return Encoding(
        panels=panels, colours=[colour for colour, _ in looks], dashes=[dash for _, dash in looks], keys=keys
    )


def legend(figure: Figure, handles: Sequence[Any], per_row: int = 6) -> None:
    """A legend above the figure, read row by row; nothing for a single entry."""
    if len(handles) < 2:
        return
    widths = [len(re.sub(r"\\\w+|[${}_^]", "", str(handle.get_label()))) + 8 for handle in handles]

    def fits(columns: int) -> bool:
        return sum(max(widths[column::columns]) for column in range(columns)) <= 125  # characters across the figure

    columns = next((number for number in range(min(per_row, len(handles)), 1, -1) if fits(number)), 1)
    rows = range(-(-len(handles) // columns))
    order = [
        row * columns + column for column in range(columns) for row in rows if row * columns + column < len(handles)
    ]
    figure.legend(
        handles=[handles[index] for index in order], loc="outside upper left", ncols=columns, columnspacing=1.6,
        borderpad=0.1, handlelength=2.4,
    )  # fmt: skip


def log_axis(axis: Axis, low: float, high: float) -> None:
    """Ticks in plain numbers on a logarithmic axis: finer the shorter the range from low to high."""
    decades = math.log10(high / low) if high > low > 0 else 0.0
    steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0) if decades < 0.7 else (1.0, 2.0, 5.0) if decades < 2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_minor_locator(NullLocator())
    if math.log10(low) > -4 and math.log10(high) < 4:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches with constrained layout; call it inside `matplotlib.rc_context(STYLE)`."""
    return Figure(figsize=(width, height), layout="constrained")


def export(figure: Figure) -> tuple[str, bytes]:
    """The figure as (clean SVG, PDF), equal bytes for equal input."""
    svg, pdf = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return clean_svg(svg.getvalue()), pdf.getvalue()


def clean_svg(text: str) -> str:
    """SVG without prologue, metadata and comments, coordinates to a hundredth of a point, and no rule for `*`, which
    would reach the page that the figure is placed in."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    text = text.replace("<svg ", '<svg stroke-linejoin="round" stroke-linecap="butt" ', 1)

    def shorten(found: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), found[0])

    text = re.sub(r'\b(?:d|x|y|width|height)="[^"]*"', shorten, text)
    return re.sub(r"[ \t]+\n", "\n", text)


def inline_svg(text: str, name: str, label: str) -> str:
    """The SVG for a page: ids prefixed with the figure's name, no namespace declarations, labelled as an image.

    label: escaped alternative text.
    """
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def style() -> Any:
    """The context in which figures are drawn."""
    defaults: dict[Any, Any] = dict(matplotlib.rcParamsDefault)
    return matplotlib.rc_context(defaults | STYLE)
