"""What `report --fail-on` looks for: claims of a verdict, cells that failed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.verdicts import ORDER

KINDS = (*ORDER[1:], "failed")
"""What may be asked for: every verdict but "supported", and cells that failed."""


def offending(views: Sequence[ResultsView], kinds: Collection[str]) -> list[str]:
    """One line for each claim with such a verdict and, where asked for, each cell that failed."""
    lines = []
    for view in views:
        for claim in view.data["claims"]:
            if claim["verdict"] in kinds:
                why = f" ({claim['reason']})" if claim["reason"] else ""
                lines.append(f"{view.suite}: {claim['verdict']}: {claim['statement']}{why}")
        for cell in view.cells:
            if cell["status"] == "failed" and "failed" in kinds:
                lines.append(f"{view.suite}: failed: cell {cell['id']}: {cell['reason']}")
    return lines
