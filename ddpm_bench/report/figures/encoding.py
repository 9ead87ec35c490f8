"""How lines are told apart: a panel per value of some axes; inside colour, dashes and, beyond ten colours, markers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.lines import Line2D

from ddpm_bench.report import words
from ddpm_bench.report.figures import INK

PALETTE = (
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
)  # fmt: skip
"""Ten colours that colour-blind readers tell apart: seaborn's "colorblind", written out because importing seaborn
loads scipy's statistics."""

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.3)), (0, (5, 1.3, 1, 1.3)), (0, (8, 2)))
MARKERS = ("", "o", "s", "^", "D", "v")

MOST_LINES = 12
"""Lines of a panel that can still be followed; where there are more, another axis becomes panels."""
MOST_LINES_WITH_DASHES = 16
"""The same for lines of few colours, before the dashes become panels."""
MOST_COLOURS = 6
"""Colours from which on a second way to tell lines apart is easier to read."""
MOST_COLUMNS = 4
"""Panels beside each other."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colour, dashes and marker of a line."""

    colour: str
    dash: Any
    marker: str = ""

    def style(self) -> dict[str, Any]:
        """For matplotlib's plot."""
        found: dict[str, Any] = {"color": self.colour, "ls": self.dash}
        return found | ({"marker": self.marker, "markersize": 3.2, "markevery": 0.1} if self.marker else {})


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Panels and looks. panel_axes: what the panels stand for; panels: title → indices of the lines; rows: the titles
    as they are laid out, None where a combination does not exist; looks: by index; keys: legend entries (label, look),
    those of colours and those of dashes."""

    panel_axes: list[str]
    panels: dict[str, list[int]]
    rows: list[list[str | None]]
    looks: list[Look]
    keys: list[list[tuple[str, Look]]]

    @property
    def num_columns(self) -> int:
        """Panels in the longest row."""
        return max(map(len, self.rows))

    def handles(self) -> list[list[Line2D]]:
        """The legend: a line for each entry, colours and dashes apart."""
        return [
            [Line2D([], [], label=words.mathtext(label), **look.style()) for label, look in part] for part in self.keys
        ]


def label_of(line: dict[str, str], names: Sequence[str]) -> str:
    """The values of these axes in words; empty where the line depends on none of them."""
    return ", ".join(words.phrase(name, line[name]) for name in line if name in names and line[name])


def encode(
    lines: Sequence[dict[str, str]],
    panel_axes: Sequence[str] = (),
    inside: Sequence[str] = (),
    every: Sequence[dict[str, str]] = (),
) -> Encoding:
    """Panels by the panel axes, dashes by the reverse variance (or, where it does not vary and the colours are many, by
    the last axis of few values), colours by the rest.

    lines: the varied axes of each line with its labels, the same axes in each; an empty label says that the line does
    not depend on the axis. every: all lines of the report, of which a figure may show some: they fix the order of
    values, and which dashes stand for what. While a panel has more lines than can be followed, or there are more looks
    than colours, the last of the axes that are left becomes panels too, those `inside` at the very last, then the
    variance. What is then left over is told apart by markers.
    """
    every = every or lines
    levels = {name: list(dict.fromkeys(line[name] for line in every)) for name in lines[0]}
    axes = list(lines[0])
    panels_by = [name for name in axes if name in panel_axes]
    dash_by = [name for name in axes if name == "variance" and name not in panels_by]
    rest = [name for name in axes if name in inside and name not in panels_by + dash_by]
    rest += [name for name in axes if name not in panels_by + dash_by + rest]

    def largest() -> int:
        sizes = [label_of(line, panels_by) for line in lines]
        return max(map(sizes.count, sizes))

    while len(rest) > 1 and (largest() > MOST_LINES or len({label_of(line, rest) for line in lines}) > len(PALETTE)):
        panels_by.append(rest.pop())
    if dash_by and rest and largest() > MOST_LINES_WITH_DASHES:
        panels_by.append(dash_by.pop())
    if not dash_by and len({label_of(line, rest) for line in lines}) > MOST_COLOURS:
        few = [name for name in rest[1:] if 1 < len(levels[name]) <= len(DASHES)]
        dash_by = few[-1:]
        rest = [name for name in rest if name not in dash_by]
    panels: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        panels.setdefault(label_of(line, panels_by), []).append(index)
    known = dict.fromkeys(label_of(line, rest) for line in every)
    dashed = list(dict.fromkeys(filter(None, (label_of(line, dash_by) for line in every)))) or [""]
    looks, keys = _looks(
        [label_of(line, rest) for line in lines], [label_of(line, dash_by) for line in lines], list(known), dashed
    )
    rows = _layout(lines, panels_by, levels)
    return Encoding(panel_axes=panels_by, panels=panels, rows=rows, looks=looks, keys=keys)


def _looks(
    colours: list[str], dashes: list[str], known: list[str], dashed: list[str]
) -> tuple[list[Look], list[list[tuple[str, Look]]]]:
    """Looks of the lines and the legend, from the labels that colour and dashes stand for. known, dashed: those of
    every line, in order."""
    distinct = sorted(set(colours), key=lambda text: (text not in known, text in known and known.index(text), text))

    def look(colour: str, dash: str) -> Look:
        turn, index = divmod(distinct.index(colour), len(PALETTE))
        turns = -(-len(distinct) // len(PALETTE))
        again, place = divmod(dashed.index(dash) if dash in dashed else 0, len(DASHES))
        return Look(colour=PALETTE[index], dash=DASHES[place], marker=MARKERS[(turn + again * turns) % len(MARKERS)])

    keys = [[(text or "all", look(text, dashed[0])) for text in distinct] if len(distinct) > 1 else []]
    used = [text for text in dashed if text in dashes]
    if len(used) > 1:
        plain = [look(distinct[0], text) for text in used]
        colour = INK if keys[0] else PALETTE[0]
        keys.append(
            [(text, Look(colour=colour, dash=it.dash, marker=it.marker)) for text, it in zip(used, plain, strict=True)]
        )
    return [look(colour, dash) for colour, dash in zip(colours, dashes, strict=True)], [part for part in keys if part]


def _layout(
    lines: Sequence[dict[str, str]], panels_by: Sequence[str], levels: dict[str, list[str]]
) -> list[list[str | None]]:
    """Rows of panel titles: with two axes or more a table whose columns are the axis of most values that fit."""
    places = {label_of(line, panels_by): line for line in lines}
    order = sorted(places, key=lambda title: [levels[name].index(places[title][name]) for name in panels_by])
    used = {name: [item for item in levels[name] if any(line[name] == item for line in lines)] for name in panels_by}
    across = [name for name in panels_by if 1 < len(used[name]) <= MOST_COLUMNS]
    if len([name for name in panels_by if len(used[name]) > 1]) < 2 or not across:
        wide = math.ceil(len(order) / math.ceil(len(order) / MOST_COLUMNS))
        return [list(order[start : start + wide]) for start in range(0, len(order), wide)]
    column_axis = max(across, key=lambda name: len(used[name]))
    down = [name for name in panels_by if name != column_axis]
    found: dict[tuple[int, ...], dict[str, str]] = {}
    for title, line in places.items():
        place = tuple(levels[name].index(line[name]) for name in down)
        found.setdefault(place, {})[line[column_axis]] = title
    return [[found[place].get(level) for level in used[column_axis]] for place in sorted(found)]
