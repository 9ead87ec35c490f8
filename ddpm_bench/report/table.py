"""The results table: rows are variants, then baselines and floors; columns are metrics under one protocol each.

The same entries become the page's table and, in `export`, table.csv, table.md and table.tex.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ddpm_bench.report import words
from ddpm_bench.report.illegal import is_illegal
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import (
    Column,
    Summary,
    Variant,
    best,
    columns,
    headline_names,
    standard_error,
    variants,
    varied_axes,
)

UNIFORM = "uniform code"
VACUOUS = "vacuous bound"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A value that the literature gives, with its source; checked: whether somebody has compared it with the source."""

    value: float
    source: str
    checked: bool

    @property
    def text(self) -> str:
        """The value; † where nobody has checked it."""
        return f"{self.value}{'' if self.checked else '†'}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One number of the table. mark: "vacuous bound" or nothing; published: what stands beside it; text and error_text:
    as printed with the column's decimals."""

    column: Column
    summary: Summary
    text: str = "—"
    error_text: str = ""
    bold: bool = False
    mark: str = ""
    published: tuple[Published, ...] = ()

    @property
    def exact(self) -> str:
        """The value with all its digits, as results.json writes it; empty where there is none."""
        return "" if self.summary.mean is None else json.dumps(self.summary.mean)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A variant (baseline None) or a baseline (variant None) with its entries by column."""

    label: str
    entries: tuple[Entry | None, ...]
    variant: Variant | None = None

    @property
    def seeds(self) -> str:
        """Finished seeds of all: 2 of 2."""
        return f"{len(self.variant.done)}/{len(self.variant.cells)}" if self.variant else ""

    @property
    def troubles(self) -> list[tuple[str, str]]:
        """(status with its seeds, reason) of the cells that are not done."""
        found: dict[tuple[str, str], list[int]] = {}
        for cell in self.variant.cells if self.variant else ():
            if cell["status"] != "done":
                found.setdefault((cell["status"], trouble(cell)), []).append(cell["seed"])
        everyone = len(self.variant.cells) if self.variant else 0
        result = []
        for (status, reason), seeds in found.items():
            listed = "seed " if len(seeds) == 1 else "seeds "
            where = "" if len(seeds) == everyone else f"{listed}{', '.join(map(str, seeds))} "
            result.append((where + status, reason))
        return result


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table. axes: the varied axes, its first columns; with_published: columns that references stand beside."""

    axes: list[str]
    columns: list[Column]
    rows: list[Row]
    baselines: list[Row]
    references: list[dict[str, Any]]

    @cached_property
    def legal_rows(self) -> list[Row]:
        """The rows of variants that could be run: the page lists the others apart."""
        return [row for row in self.rows if not row.variant or not is_illegal(row.variant)]

    @cached_property
    def kinds(self) -> set[str]:
        """Which errors the table shows: "t", "stderr"."""
        rows = [*self.rows, *self.baselines]
        return {entry.summary.kind for row in rows for entry in row.entries if entry and entry.summary.kind}

    @property
    def any_single(self) -> bool:
        """Whether some variant has the value of one seed alone."""
        return any(entry.summary.kind == "stderr" for row in self.rows for entry in row.entries if entry)

    @cached_property
    def over(self) -> str:
        """What its standard errors are taken over, in words."""
        entries = (entry for row in [*self.rows, *self.baselines] for entry in row.entries if entry)
        return " or ".join(sorted({entry.summary.over for entry in entries if entry.summary.kind == "stderr"}))

    @cached_property
    def footnotes(self) -> dict[str, str]:
        """Reason → letter, for missing values of variants that finished all the same."""
        reasons = [
            entry.summary.reason or ""
            for row in self.rows
            for entry in row.entries
            if row.variant and row.variant.done and entry and entry.summary.mean is None
        ]
        return {reason: chr(ord("a") + index) for index, reason in enumerate(dict.fromkeys(reasons))}

    @cached_property
    def vacuous(self) -> bool:
        """Whether some bound is above the uniform code."""
        return any(entry.mark == VACUOUS for row in self.rows for entry in row.entries if entry)

    @cached_property
    def error_widths(self) -> list[int]:
        """For each column the characters of its longest error: numbers then stand under each other."""
        widths = []
        for index in range(len(self.columns)):
            longest = 0
            for row in [*self.rows, *self.baselines]:
                entry = row.entries[index]
                if entry and entry.error_text:
                    se = 3 if entry.summary.kind == "stderr" and "t" in self.kinds else 0
                    longest = max(longest, len(entry.error_text) + 3 + se)
            widths.append(longest)
        return widths

    @cached_property
    def any_bold(self) -> bool:
        """Whether some column has a significant difference."""
        return any(entry.bold for row in self.rows for entry in row.entries if entry)

    @property
    def any_unchecked(self) -> bool:
        """Whether nobody has compared some published value with its source."""
        return any(not item["checked"] for item in self.references)

    @cached_property
    def with_published(self) -> list[bool]:
        """For each column, whether a reference stands beside a value of it."""
        return [
            any((entry := row.entries[index]) and entry.published for row in self.rows)
            for index in range(len(self.columns))
        ]


def trouble(cell: dict[str, Any]) -> str:
    """Why a cell is not done: its reason, for a diverged one with step, t and loss."""
    reason = cell["reason"] or ""
    divergence = (cell.get("training") or {}).get("divergence")
    if divergence:
        loss = divergence["loss"]
        shown = loss if isinstance(loss, str) or loss is None else f"{loss:.3g}"
        reason += f" (step {divergence['step']}, t = {divergence['t']}, loss {shown})"
    return reason.strip()


def make_table(view: ResultsView, names: Sequence[str]) -> Table:
    """The table of the named metrics."""
    varied, groups, shown = varied_axes(view), variants(view), columns(view, names)
    # what supports no claim (a rank-deficient Fréchet distance) has nothing in its column set in bold
    winners = [set() if column.no_claim else {group.key for group in best(groups, column, varied)} for column in shown]
    references = view.data["references"]
    rows = []
    for group in groups:
        entries, ids = [], {cell["id"] for cell in group.cells}
        ceiling = _ceiling(view, group)
        for column, bold in zip(shown, winners, strict=True):
            summary = group.summary(column, varied)
            published = tuple(
                Published(value=item["value"], source=item["source"], checked=bool(item["checked"]))
                for item in references
                if item["metric"] == column.metric and not ids.isdisjoint(item["cells"])
            )
            mark = _mark(column, summary, ceiling)
            entries.append(_entry(column, summary, bold=group.key in bold, mark=mark, published=published))
        rows.append(Row(label=group.label, entries=tuple(entries), variant=group))
    return Table(axes=varied, columns=shown, rows=rows, baselines=_baselines(view, shown, rows), references=references)


def headline_table(view: ResultsView) -> Table:
    """The table of the metrics that stand for themselves."""
    return make_table(view, headline_names(view))


def _mark(column: Column, summary: Summary, ceiling: float | None) -> str:
    if summary.mean is None:
        return ""
    bits = words.base_metric(column.metric) == "bits_per_dim" and column.metric not in words.PARTS
    if bits and ceiling is not None and summary.mean > ceiling:
        return VACUOUS
    return ""


def _entry(column: Column, summary: Summary, **rest: Any) -> Entry:
    if summary.mean is None:
        return Entry(column=column, summary=summary, **rest)
    # two digits of the entry's own error, near the column's decimals: 3.305 ± 0.012 above 109.7 ± 1.6
    decimals = words.digits([] if summary.error is None else [summary.error], [summary.mean])
    if summary.error is not None:
        decimals = max(0, min(column.decimals + 2, max(column.decimals - 2, decimals)))
    error = "" if summary.error is None else words.number(summary.error, decimals)
    text = words.number(summary.mean, decimals)
    return Entry(column=column, summary=summary, text=text, error_text=error, **rest)


def _ceiling(view: ResultsView, group: Variant) -> float | None:
    """Bits/dim of the uniform code for the data of the variant."""
    for item in view.data["baselines"]:
        if item["name"] == UNIFORM and ("suites" not in item or group.axes.get("suite") in item["suites"]):
            return float(item["value"])
    return None


def _baselines(view: ResultsView, shown: list[Column], rows: list[Row]) -> list[Row]:
    """One row for each name. A baseline stands in the first column of its metric; one of several suites (`suites`) in
    those columns of it that hold values of these."""
    found = []
    items = [item for item in view.data["baselines"] if item["metric"] in {column.metric for column in shown}]
    for name in dict.fromkeys(item.get("label", item["name"]) for item in items):
        entries: list[Entry | None] = [None] * len(shown)
        for item in (item for item in items if item.get("label", item["name"]) == name):
            summary = Summary(
                mean=item["value"],
                error=item["stderr"],
                kind=None if item["stderr"] is None else "stderr",
                over=standard_error(item),
                reason=item["reason"],
            )
            for index in _columns_of(item, shown, rows):
                entries[index] = _entry(shown[index], summary)
        if any(entries):
            found.append(Row(label=name, entries=tuple(entries)))
    return found


def _columns_of(item: dict[str, Any], shown: list[Column], rows: list[Row]) -> list[int]:
    """The columns in which a baseline stands."""
    places = [index for index, column in enumerate(shown) if column.metric == item["metric"]]
    if "suites" not in item:
        return places[:1]
    own = [row for row in rows if row.variant and row.variant.axes.get("suite") in item["suites"]]
    return [index for index in places if any((entry := row.entries[index]) and entry.exact for row in own)]
