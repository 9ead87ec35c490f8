"""The results table: rows are variants, then baselines and floors; columns are metrics under one protocol each.

The same entries become the page's table, table.csv, table.md and table.tex.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Column, Summary, Variant, best, columns, varied_axes, variants

UNIFORM = "uniform code"
VACUOUS = "vacuous bound"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One number of the table. mark: "vacuous bound" or nothing; published: (value, source) beside
    it; text and error_text: as printed with the column's decimals."""

    column: Column
    summary: Summary
    text: str = "—"
    error_text: str = ""
    bold: bool = False
    mark: str = ""
    published: tuple[tuple[float, str], ...] = ()

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

    @property
    def kinds(self) -> set[str]:
        """Which errors the table shows: "t", "stderr"."""
        return {entry.summary.kind for row in self.rows for entry in row.entries if entry and entry.summary.kind}

    @property
    def footnotes(self) -> dict[str, str]:
        """Reason → letter, for missing values of variants that finished all the same."""
        reasons = [
            entry.summary.reason or ""
            for row in self.rows
            for entry in row.entries
            if row.variant and row.variant.done and entry and entry.summary.mean is None
        ]
        return {reason: chr(ord("a") + index) for index, reason in enumerate(dict.fromkeys(reasons))}

    @property
    def vacuous(self) -> bool:
        """Whether some bound is above the uniform code."""
        return any(entry.mark == VACUOUS for row in self.rows for entry in row.entries if entry)

    @property
    def error_widths(self) -> list[int]:
        """For each column the characters of its longest error: numbers then stand under each other."""
        widths = []
        for index in range(len(self.columns)):
            longest = 0
            for row in [*self.rows, *self.baselines]:
                entry = row.entries[index]
                if entry and entry.error_text:
                    se = 3 if row.variant and entry.summary.kind == "stderr" and "t" in self.kinds else 0
                    longest = max(longest, len(entry.error_text) + 3 + se)
            widths.append(longest)
        return widths

    @property
    def any_bold(self) -> bool:
        """Whether some column has a significant difference."""
        return any(entry.bold for row in self.rows for entry in row.entries if entry)

    @property
    def with_published(self) -> list[bool]:
        """For each column, whether a reference stands beside a value of it."""
        return [any(row.entries[i] and row.entries[i].published for row in self.rows) for i in range(len(self.columns))]


def trouble(cell: dict[str, Any]) -> str:
    """Why a cell is not done: its reason, for a diverged one with step, t and loss."""
    reason = cell["reason"] or ""
    divergence = (cell.get("training") or {}).get("divergence")
    if divergence:
        loss = divergence["loss"]
        shown = loss if isinstance(loss, str) or loss is None else f"{loss:.3g}"
        reason += f" (step {divergence['step']}, t = {divergence['t']}, loss {shown})"
    return reason.strip()


def matches(selector: dict[str, Any], cell: dict[str, Any]) -> bool:
    """Whether a cell's labels agree with a selector: a name whatever its parameters, a table with those it gives."""
    for name, wanted in selector.items():
        label = str(cell["axes"].get(name, ""))
        if isinstance(wanted, dict):
            parameters = [f"{key}={words.plain(item)}" for key, item in wanted.items() if key != "name"]
            if not all(text in label for text in parameters):
                return False
            wanted = wanted["name"]
        if label != str(wanted) and label.partition("(")[0] != str(wanted):
            return False
    return True


def make_table(view: ResultsView, names: Sequence[str]) -> Table:
    """The table of the named metrics."""
    varied, groups, shown = varied_axes(view), variants(view), columns(view, names)
    # a rank-deficient Fréchet distance supports no claim, so nothing in its column is set in bold
    winners = [
        set() if column.rank_deficient else {group.key for group in best(groups, column, varied)}
        for column in shown
    ]
    ceiling = next((item["value"] for item in view.data["baselines"] if item["name"] == UNIFORM), None)
    references = view.data["references"]
    rows = []
    for group in groups:
        entries = []
        for column, bold in zip(shown, winners, strict=True):
            summary = group.summary(column, varied)
            published = tuple(
                (item["value"], item["source"])
                for item in references
                if item["metric"] == column.metric and matches(item.get("where") or {}, group.cells[0])
            )
            mark = _mark(column, summary, ceiling)
            entries.append(_entry(column, summary, bold=group.key in bold, mark=mark, published=published))
        rows.append(Row(label=group.label, entries=tuple(entries), variant=group))
    return Table(axes=varied, columns=shown, rows=rows, baselines=_baselines(view, shown), references=references)


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
    error = "" if summary.error is None else words.number(summary.error, column.decimals)
    text = words.number(summary.mean, column.decimals)
    return Entry(column=column, summary=summary, text=text, error_text=error, **rest)


def _baselines(view: ResultsView, shown: list[Column]) -> list[Row]:
    """One row for each name; a baseline stands in the first column of its metric."""
    rows = []
    metrics = [column.metric for column in shown]
    items = [item for item in view.data["baselines"] if item["metric"] in metrics]
    for name in dict.fromkeys(item["name"] for item in items):
        entries: list[Entry | None] = [None] * len(shown)
        for item in items:
            if item["name"] != name:
                continue
            kind = None if item["stderr"] is None else "stderr"
            summary = Summary(mean=item["value"], error=item["stderr"], kind=kind, reason=item["reason"])
            index = metrics.index(item["metric"])
            entries[index] = _entry(shown[index], summary)
        rows.append(Row(label=name, entries=tuple(entries)))
    return rows


ERRORS = {"t": "95 % t interval over seeds", "stderr": "standard error over images", None: ""}


def to_csv(table: Table) -> str:
    """One row per variant or baseline; for each column value, error, what the error is and the number of seeds."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f"{column.metric}{f'_{column.number}' if column.number else ''}" for column in table.columns]
    parts = [f"{name}{suffix}" for name in names for suffix in ("", "_error", "_error_kind", "_seeds", "_mark")]
    writer.writerow(["row", *table.axes, "seeds", *parts, "note"])
    for row in [*table.rows, *table.baselines]:
        axes = [row.variant.axes[name] for name in table.axes] if row.variant else [""] * len(table.axes)
        cells: list[Any] = []
        for entry in row.entries:
            summary = entry.summary if entry else Summary()
            error = "" if summary.error is None else json.dumps(summary.error)
            seeds = len(summary.cells) if row.variant else ""
            cells += [entry.exact if entry else "", error, ERRORS[summary.kind], seeds, entry.mark if entry else ""]
        writer.writerow([row.label, *axes, row.seeds, *cells, _note(row)])
    return out.getvalue()


def _note(row: Row) -> str:
    return "; ".join(f"{status}: {reason}" if reason else status for status, reason in row.troubles)


def _lines(table: Table) -> tuple[list[str], list[tuple[list[str], list[bool]]]]:
    """Headings, and rows of text with the entries that are bold."""
    head = [words.axis(name) for name in table.axes] or ["variant"]
    head += ["seeds", *(_heading(column) for column in table.columns), "note"]
    lines = []
    for row in [*table.rows, *table.baselines]:
        if row.variant and table.axes:
            cells = [words.value(name, row.variant.axes[name]) for name in table.axes]
        else:
            cells = [row.label, *[""] * (len(table.axes) - 1)]
        cells.append(row.seeds)
        bold = [False] * len(cells)
        for entry in row.entries:
            text = "" if entry is None else entry.text + (f" ± {entry.error_text}" if entry.error_text else "")
            if entry and entry.summary.kind == "stderr" and row.variant:
                text += " (se)"
            cells.append(text + (f" ({entry.mark})" if entry and entry.mark else ""))
            bold.append(bool(entry and entry.bold))
        lines.append(([*cells, _note(row)], [*bold, False]))
    return head, lines


def _heading(column: Column) -> str:
    return f"{column.title} {column.arrow}" + (" (rank-deficient)" if column.rank_deficient else "")


def to_markdown(table: Table) -> str:
    """A pipe table."""
    head, lines = _lines(table)

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    numeric = len(table.columns) + 1
    rule = ["---"] * (len(head) - numeric - 1) + ["---:"] * numeric + ["---"]
    body = [line([f"**{cell}**" if bold else cell for cell, bold in zip(*row, strict=True)]) for row in lines]
    return "\n".join([line(head), line(rule), *body]) + "\n"


def to_latex(table: Table) -> str:
    r"""A booktabs tabular: needs \usepackage{booktabs}. Baselines stand below a rule; notes become comments."""
    head, lines = _lines(table)
    head = head[:-1]
    numeric = len(table.columns) + 1
    out = [rf"\begin{{tabular}}{{{'l' * (len(head) - numeric)}{'r' * numeric}}}", r"\toprule"]
    out += [" & ".join(map(words.latex, head)) + r" \\", r"\midrule"]
    for index, (cells, bold) in enumerate(lines):
        if index == len(table.rows):
            out.append(r"\midrule")
        texts = [words.latex(cell) for cell in cells[:-1]]
        texts = [rf"\textbf{{\boldmath {text}}}" if mark else text for text, mark in zip(texts, bold[:-1], strict=True)]
        note = f"  % {' '.join(cells[-1].split())}" if cells[-1] else ""
        out.append(" & ".join(texts) + r" \\" + note)
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"]) + "\n"
