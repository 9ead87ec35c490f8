"""The opening paragraph. Every sentence with a number is produced from results.json."""

from __future__ import annotations

from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.table import Entry, Row, Table
from ddpm_bench.report.variants import Column

STATUSES = ("done", "running", "waiting", "diverged", "failed", "illegal")


def paragraphs(view: ResultsView, table: Table) -> list[str]:
    """What was compared and how far it got; then for each headline metric who leads and by what right."""
    cells = view.cells
    seeds = len({cell["seed"] for cell in cells})
    trained = len({cell["train_key"] for cell in cells if cell["train_key"]})
    compared = ", ".join(words.axis(name) for name in table.axes)
    opening = words.count(len(table.rows), "variant") + (f" ({compared})" if compared else "")
    dataset = view.data["configuration"]["dataset"]["name"]
    opening += f" × {words.count(seeds, 'seed')} on {dataset}: {words.count(len(cells), 'cell')}, "
    opening += words.count(trained, "training") + ". "
    counts = {status: sum(cell["status"] == status for cell in cells) for status in STATUSES}
    verbs = {status: "" if status.endswith("ed") else "are " for status in STATUSES}  # 14 are done, 1 failed
    found = [f"{count} {verbs[status]}{status}" for status, count in counts.items() if count]
    found = [text.replace("1 are", "1 is") if text.startswith("1 ") else text for text in found]
    opening += "All cells are done." if counts["done"] == len(cells) else f"Of the cells, {words.listed(found)}."
    if not any(entry and entry.summary.mean is not None for row in table.rows for entry in row.entries):
        return [opening + " There are no values yet."]
    verdicts = [_leader(table, column, index) for index, column in enumerate(table.columns)]
    if seeds == 1 and len(table.rows) > 1:
        verdicts.append("One training each does not tell variants apart.")
    verdicts.append(_against_baselines(table))
    return [opening, " ".join(text for text in verdicts if text)]


def _leader(table: Table, column: Column, index: int) -> str:
    rows = [(row, row.entries[index]) for row in table.rows]
    valued = [(row, entry) for row, entry in rows if entry and entry.summary.mean is not None]
    if not valued:
        return ""
    if column.no_claim:
        return f"The {column.title} is {column.no_claim} and supports no ranking."
    sign = -1 if column.higher_is_better else 1
    row, entry = min(valued, key=lambda item: sign * (item[1].summary.mean or 0.0))
    if len(valued) == 1:
        return f"The {column.title} of {row.label} is {_number(entry)}."
    text = f"{'Highest' if column.higher_is_better else 'Lowest'} {column.title}: {row.label} with {_number(entry)}"
    return text + _standing(table, index, row) + "."


def _number(entry: Entry) -> str:
    kind = f" (standard error {entry.summary.over})" if entry.summary.kind == "stderr" else ""
    return entry.text + (f" ± {entry.error_text}{kind}" if entry.error_text else "")


def _standing(table: Table, index: int, leader: Row) -> str:
    tested = [row for row in table.rows if (entry := row.entries[index]) and len(entry.summary.cells) >= 2]
    if len(tested) < 2 or leader not in tested:
        return ""
    bold = [row for row in tested if (entry := row.entries[index]) and entry.bold]
    if not bold:
        return "; over the seeds no difference between variants is significant"
    others = len([row for row in bold if row is not leader])
    if others == 0:
        return "; all others with two seeds or more are significantly beaten"
    return f"; {words.count(others, 'other')} {'is' if others == 1 else 'are'} not significantly beaten either"


def _against_baselines(table: Table) -> str:
    """How many variants lie below each likelihood baseline; by the value, whatever its error."""
    index = next((i for i, column in enumerate(table.columns) if column.metric == "bits_per_dim"), None)
    if index is None:
        return ""
    entries = [row.entries[index] for row in table.rows]
    values = [entry.summary.mean for entry in entries if entry and entry.summary.mean is not None]
    found: list[str] = []
    for row in table.baselines:
        entry = row.entries[index]
        if values and entry and entry.summary.mean is not None:
            won = sum(value < entry.summary.mean for value in values)
            share = str(won or "none") if found else f"{won or 'None'} of {words.count(len(values), 'variant')}"
            found.append(f"{share} {'lie' if won > 1 else 'lies'} below the {row.label} ({entry.text} bits/dim)")
    return f"{words.listed(found)}." if found else ""
