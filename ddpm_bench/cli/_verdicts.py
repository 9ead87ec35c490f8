"""The verdicts of the claims in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ddpm_bench.report import words
from ddpm_bench.report.verdicts import counts, verdicts

if TYPE_CHECKING:
    from rich.console import Console

    from ddpm_bench.report.source import ResultsView


def print_verdicts(view: ResultsView, console: Console) -> None:
    """A line or two for each claim: its verdict, what it says, what was found or why it is untestable."""
    claims = view.data["claims"]
    if not claims:
        return
    tally = ", ".join(f"{number} {verdict}" for verdict, number in counts(claims))
    console.print(f"claims: {tally}", style="bold", markup=False)
    grid = Table.grid(padding=(0, 2))
    with words.symbols(view.data["symbols"]):
        for item in verdicts(claims):
            why = " ".join(part for part in item.found if part) if item.found else item.remarks[0]
            untestable = [item.remarks[-1]] if item.found and item.verdict == "untestable" else []
            # not as strings: those would be read as markup
            grid.add_row(Text(item.verdict), Text("\n".join([item.statement, why, *untestable])))
    console.print(grid)
