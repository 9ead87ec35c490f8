"""Figures of the report. Each module draws one; this one holds what they share: type, colours, and clean SVG.

A figure is drawn by a function `draw(view, groups) -> Drawing | None`; None when there is nothing to show.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ddpm_bench.report import words
from ddpm_bench.report.variants import Variant

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


@dataclass(frozen=True)
class Encoding:
    """How variants are told apart: one panel per value of the panel axes, colour and dashes inside.

    panels: title → variants; colour, dashes: by Variant.key; keys: legend entries (label, colour, dashes).
    """

    panels: dict[str, list[Variant]]
    colour: dict[str, str]
    dashes: dict[str, Any]
    keys: list[tuple[str, str, Any]] = field(default_factory=list)

    def handles(self) -> list[Line2D]:
        """The legend: a line for each entry."""
        return [
            Line2D([], [], color=colour, linestyle=dash, label=words.mathtext(label))
            for label, colour, dash in self.keys
        ]


def encode(groups: Sequence[Variant], panel_axes: Sequence[str] = ("schedule", "timesteps")) -> Encoding:
    """Panels by the panel axes, dashes by the reverse variance, colours by the rest; when ten colours do not suffice,
    further axes become panels, and after the last axis dashes tell the second ten from the first."""
    axes = list(groups[0].axes) if groups else []
    panels_by = [name for name in axes if name in panel_axes]
    dash_by = ["variance"] if "variance" in axes else []
    rest = [name for name in axes if name not in panels_by + dash_by]

    def label(variant: Variant, names: Sequence[str]) -> str:
        return ", ".join(words.value(name, variant.axes[name]) for name in names)

    while len({label(variant, rest) for variant in groups}) > len(PALETTE) and len(rest) > 1:
        panels_by.append(rest.pop())
    colours = list(dict.fromkeys(label(variant, rest) for variant in groups))
    dashes = list(dict.fromkeys(label(variant, dash_by) for variant in groups))
    panels: dict[str, list[Variant]] = {}
    for variant in groups:
        panels.setdefault(label(variant, panels_by), []).append(variant)
    colour_of = {text: PALETTE[index % len(PALETTE)] for index, text in enumerate(colours)}
    turn = {text: index // len(PALETTE) for index, text in enumerate(colours)}
    keys: list[tuple[str, str, Any]] = []
    if rest or not dash_by:
        keys += [(text or "this variant", colour_of[text], DASHES[turn[text] % len(DASHES)]) for text in colours]
    if dash_by:
        keys += [(text, INK if rest else PALETTE[0], DASHES[index % len(DASHES)]) for index, text in enumerate(dashes)]
    style = {}
    for variant in groups:
        index = dashes.index(label(variant, dash_by)) + len(dashes) * turn[label(variant, rest)]
        style[variant.key] = DASHES[index % len(DASHES)]
    return Encoding(
        panels=panels,
        colour={variant.key: colour_of[label(variant, rest)] for variant in groups},
        dashes=style,
        keys=keys,
    )


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
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE})
