"""The results table as files: CSV with every digit, Markdown, and LaTeX for a paper."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from ddpm_bench.report import words
from ddpm_bench.report.table import Entry, Row, Table
from ddpm_bench.report.variants import Column, Summary

UNCHECKED = "not checked against the source"
T_INTERVAL = "95 % t interval over seeds"


def to_csv(table: Table) -> str:
    """One row per variant or baseline; for each column value, error, what the error is, the number of seeds, a mark,
    and what was published († not checked against the source)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f"{column.metric}{f'_{column.number}' if column.number else ''}" for column in table.columns]
    parts = []
    for name, published in zip(names, table.with_published, strict=True):
        endings = ["", "_error", "_error_kind", "_seeds", "_mark", *(["_published"] if published else [])]
        parts += [f"{name}{ending}" for ending in endings]
    writer.writerow(["row", *table.axes, "seeds", *parts, "note"])
    for row in [*table.rows, *table.baselines]:
        axes = [row.variant.axes[name] for name in table.axes] if row.variant else [""] * len(table.axes)
        cells: list[Any] = []
        for entry, published in zip(row.entries, table.with_published, strict=True):
            summary = entry.summary if entry else Summary()
            error = "" if summary.error is None else json.dumps(summary.error)
            seeds = len(summary.cells) if row.variant else ""
            cells += [entry.exact if entry else "", error, _kind(summary), seeds, entry.mark if entry else ""]
            cells += [_published(entry)] if published else []
        writer.writerow([row.label, *axes, row.seeds, *cells, note(row)])
    return out.getvalue()


def _kind(summary: Summary) -> str:
    """What the error of an entry is."""
    if summary.kind is None:
        return ""
    return T_INTERVAL if summary.kind == "t" else f"standard error {summary.over}"


def _shows_unchecked(table: Table) -> bool:
    """Whether some published value that stands in the table bears a dagger."""
    entries = (entry for row in table.rows for entry in row.entries if entry)
    return any(not item.checked for entry in entries for item in entry.published)


def _published(entry: Entry | None) -> str:
    """The published values that stand beside an entry."""
    return ", ".join(item.text for item in entry.published) if entry else ""


def note(row: Row) -> str:
    """Why cells of a row are not done, on one line."""
    return "; ".join(f"{status}: {reason}" if reason else status for status, reason in row.troubles)


def _lines(table: Table) -> tuple[list[str], list[tuple[list[str], list[bool]]]]:
    """Headings, and rows of text with the entries that are bold."""
    head = [words.axis(name) for name in table.axes] or ["variant"]
    head.append("seeds")
    for column, published in zip(table.columns, table.with_published, strict=True):
        head += [_heading(column), *(["published"] if published else [])]
    head.append("note")
    lines = []
    for row in [*table.rows, *table.baselines]:
        if row.variant and table.axes:
            cells = [words.value(name, row.variant.axes[name]) for name in table.axes]
        else:
            cells = [row.label, *[""] * (len(table.axes) - 1)]
        cells.append(row.seeds)
        bold = [False] * len(cells)
        for entry, published in zip(row.entries, table.with_published, strict=True):
            text = "" if entry is None else entry.text + (f" ± {entry.error_text}" if entry.error_text else "")
            if entry and entry.summary.kind == "stderr":
                text += " (se)"
            cells.append(text + (f" ({entry.mark})" if entry and entry.mark else ""))
            bold.append(bool(entry and entry.bold))
            if published:
                cells.append(_published(entry))
                bold.append(False)
        lines.append(([*cells, note(row)], [*bold, False]))
    return head, lines


def _remarks(table: Table) -> list[str]:
    """What ± and bold mean."""
    found = []
    if "t" in table.kinds:
        found.append(f"± {T_INTERVAL}")
    if "stderr" in table.kinds:
        found.append(f"(se): ± standard error {table.over}, of one training or of a baseline")
    if table.any_bold:
        found.append("bold: no variant is significantly better (95 % t interval of the differences at equal seed)")
    return [*found, f"† {UNCHECKED}"] if _shows_unchecked(table) else found


def _heading(column: Column) -> str:
    return f"{column.title} {column.arrow}" + (" (rank-deficient)" if column.rank_deficient else "")


def _numeric(table: Table) -> int:
    """Columns of numbers: the seeds, the metrics, and what was published."""
    return 1 + len(table.columns) + sum(table.with_published)


def to_markdown(table: Table) -> str:
    """A pipe table."""
    head, lines = _lines(table)

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    numeric = _numeric(table)
    rule = ["---"] * (len(head) - numeric - 1) + ["---:"] * numeric + ["---"]
    body = [line([f"**{cell}**" if bold else cell for cell, bold in zip(*row, strict=True)]) for row in lines]
    remarks = _remarks(table)
    return "\n".join([line(head), line(rule), *body, *(["", "; ".join(remarks)] if remarks else [])]) + "\n"


def to_latex(table: Table) -> str:
    r"""A booktabs tabular: needs \usepackage{booktabs}. Baselines stand below a rule; notes become comments."""
    head, lines = _lines(table)
    head = head[:-1]
    numeric = _numeric(table)
    out = [rf"\begin{{tabular}}{{{'l' * (len(head) - numeric)}{'r' * numeric}}}", r"\toprule"]
    out += [" & ".join(map(words.latex, head)) + r" \\", r"\midrule"]
    for index, (cells, bold) in enumerate(lines):
        if index == len(table.rows):
            out.append(r"\midrule")
        texts = [words.latex(cell) for cell in cells[:-1]]
        texts = [rf"\textbf{{\boldmath {text}}}" if mark else text for text, mark in zip(texts, bold[:-1], strict=True)]
        remark = f"  % {' '.join(cells[-1].split())}" if cells[-1] else ""
        out.append(" & ".join(texts) + r" \\" + remark)
    return (
        "\n".join([*out, r"\bottomrule", r"\end{tabular}", *(f"% {words.latex(it)}" for it in _remarks(table))]) + "\n"
    )
