"""The terminal form of a results table: the report's own table, as wide as the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table as Grid

from ddpm_bench.report import words
from ddpm_bench.report.export import T_INTERVAL
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.table import Entry, Row, Table, headline_table

if TYPE_CHECKING:
    from rich.console import Console

MAX_LABEL = 36
"""Columns of the terminal that the names of variants may take before they are wrapped."""
MAX_NAMES = 4
"""Variants that are named with the reason why they are not done."""
BORDERS = 3
"""Columns of the terminal that a column's padding and line take."""


def print_results(view: ResultsView, console: Console, table: Table | None = None) -> None:
    """A row a variant, then the baselines; below it why cells are not done or values are missing.

    table: with other columns than those of `headline_table`.
    """
    with words.symbols(view.data["symbols"]):
        _print(view, table or headline_table(view), console)


def _print(view: ResultsView, table: Table, console: Console) -> None:
    console.print(view.data["title"], style="bold", markup=False)
    for some in _groups(table, console.width):
        console.print(_grid(table, some))
    several = "t" in table.kinds
    if several:
        console.print(f"± {T_INTERVAL}", style="dim")
    if "stderr" in table.kinds:
        mark, of = ("se", "of one seed, or of a baseline") if several else ("±", "one seed")
        console.print(f"{mark} standard error {table.over} ({of})", style="dim")
    if table.vacuous:
        console.print("* a vacuous bound: longer than the uniform code", style="dim")
    for (status, reason), names in _troubles(table).items():
        who = "; ".join(names[:MAX_NAMES]) + (f"; and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
        print(f"{who}: {status}" + (f": {reason}" if reason else ""))
    for reason, names in _missing(table).items():
        print(f"{', '.join(names)}: {reason}")


def _headings(table: Table) -> list[str]:
    return [f"{column.title} {column.arrow}" for column in table.columns]


def _shown(entry: Entry | None, table: Table) -> str:
    if entry is None:
        return ""
    text = f"{entry.text} ± {entry.error_text}" if entry.error_text else entry.text
    text += " se" if entry.summary.kind == "stderr" and "t" in table.kinds else ""
    return text + ("*" if entry.mark else "")


def _groups(table: Table, width: int) -> list[list[int]]:
    """The columns in groups that fit on the terminal, each group a grid of its own."""
    rows, headings = [*table.rows, *table.baselines], _headings(table)
    taken = min(MAX_LABEL, max((cell_len(row.label) for row in rows), default=0)) + BORDERS + 1
    taken += 5 + BORDERS if _show_seeds(table) else 0
    groups: list[list[int]] = [[]]
    left = width - taken
    for index, heading in enumerate(headings):
        texts = [*heading.split(), *(_shown(row.entries[index], table) for row in rows)]
        needed = max(map(cell_len, texts)) + BORDERS
        if needed > left and groups[-1]:
            groups.append([])
            left = width - taken
        groups[-1].append(index)
        left -= needed
    return groups


def _show_seeds(table: Table) -> bool:
    return any(row.variant and len(row.variant.cells) > 1 for row in table.rows)


def _grid(table: Table, indices: list[int]) -> Grid:
    grid, headings, seeds = Grid(), _headings(table), _show_seeds(table)
    grid.add_column("variant", max_width=MAX_LABEL)
    if seeds:
        grid.add_column("seeds", justify="right", no_wrap=True)
    for index in indices:
        grid.add_column(headings[index], justify="right")

    def add(row: Row, style: str | None) -> None:
        values = [_shown(row.entries[index], table) for index in indices]
        grid.add_row(row.label, *([row.seeds] if seeds else []), *values, style=style)

    for row in table.rows:
        if not _illegal(row):
            add(row, None)
    grid.add_section()
    for row in table.baselines:
        if any(row.entries[index] for index in indices):
            add(row, "dim")
    return grid


def _troubles(table: Table) -> dict[tuple[str, str], list[str]]:
    """(status, reason) → the variants that are not done because of it."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        for trouble in row.troubles:
            found.setdefault(trouble, []).append(row.label)
    return found


def _illegal(row: Row) -> bool:
    """Whether the row is of a combination that has no meaning: it is named below the table alone."""
    return row.variant is not None and all(cell["status"] == "illegal" for cell in row.variant.cells)


def _missing(table: Table) -> dict[str, list[str]]:
    """Reason → titles of the columns, for values that finished variants lack."""
    found: dict[str, list[str]] = {}
    for index, column in enumerate(table.columns):
        for row in table.rows:
            entry = row.entries[index]
            if row.variant and row.variant.done and entry and entry.summary.mean is None:
                names = found.setdefault(entry.summary.reason or "not measured", [])
                if column.title not in names:
                    names.append(column.title)
    return found
