"""Figures of the report. Each module draws one; this one holds what they share: type, legends and files.

A figure is drawn by a function `draw(view, groups) -> Drawing | None`; None when there is nothing to show.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ddpm_bench.report.figures.svg import compact

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
    standalone file; pdf: the same. A figure whose table is worth reading has it under a title of its own (`table`):
    the columns of `headings` (name → heading) after the first, with a note below. strips: rows of pictures under the
    figure, each with a label.
    """

    name: str
    title: str
    caption: str
    alternative: str
    data: pd.DataFrame
    svg: str
    pdf: bytes
    table: str = ""
    headings: dict[str, str] = field(default_factory=dict)
    note: str = ""
    strips: Sequence[Any] = ()


def legend(figure: Figure, *parts: Sequence[Any], per_row: int = 6) -> None:
    """A legend above the figure, read row by row; each part begins a row unless all fit on one. Nothing for a single
    entry."""
    handles = [handle for part in parts for handle in part]
    if len(handles) < 2:
        return
    widths = {id(handle): len(re.sub(r"\\\w+|[${}_^]", "", str(handle.get_label()))) + 8 for handle in handles}

    def rows(columns: int) -> list[Sequence[Any]]:
        if len(handles) <= columns:
            return [handles]
        return [part[start : start + columns] for part in parts for start in range(0, len(part), columns)]

    def width(columns: int) -> int:
        columns = min(columns, len(handles))
        return sum(
            max([widths[id(row[c])] for row in rows(columns) if c < len(row)], default=0) for c in range(columns)
        )

    possible = [number for number in range(min(per_row, len(handles)), 1, -1) if width(number) <= 125] or [1]
    columns = min(possible, key=lambda number: len(rows(number)))
    blank = Line2D([], [], ls="none", label=" ")
    ordered = [row[c] if c < len(row) else blank for c in range(columns) for row in rows(columns)]
    figure.legend(
        handles=ordered, loc="outside upper left", ncols=columns, columnspacing=1.6, borderpad=0.1, handlelength=2.4
    )


def log_axis(axis: Axis, low: float, high: float) -> None:
    """Ticks in plain numbers on a logarithmic axis: finer the shorter the range from low to high."""
    decades = math.log10(high / low) if high > low > 0 else 0.0
    fine = {0.7: "1 1.5 2 3 4 5 6 8", 1.2: "1 1.5 2 3 5 7", 2.0: "1 2 5", math.inf: "1"}
    steps = [float(step) for step in next(text for bound, text in fine.items() if decades < bound).split()]
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_minor_locator(NullLocator())
    plain = math.log10(low) > -4 and math.log10(high) < 4
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if plain else power(value)))


def power(value: float) -> str:
    """A power of ten, or a multiple of one, as text (mathematics takes far longer to set): 10⁻³, 2·10⁻³."""
    exponent = math.floor(math.log10(value) + 1e-9)
    factor = f"{value / 10.0**exponent:.2g}"
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}" if factor == "1" else f"{factor}·10{digits}"


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches with constrained layout; call it inside `matplotlib.rc_context(STYLE)`."""
    return Figure(figsize=(width, height), layout="constrained")


def export(figure: Figure) -> tuple[str, bytes]:
    """The figure as (clean SVG, PDF), equal bytes for equal input."""
    svg, pdf = io.StringIO(), io.BytesIO()
    # Each file is drawn once, and the layout made for the first one; savefig would draw every figure four times.
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
    figure.set_layout_engine("none")
    FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return compact(svg.getvalue()), pdf.getvalue()


def style() -> Any:
    """The context in which figures are drawn."""
    defaults: dict[Any, Any] = dict(matplotlib.rcParamsDefault)
    return matplotlib.rc_context(defaults | STYLE)
