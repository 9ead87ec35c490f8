"""What a report lacks because it was made without the store, or without the tables beside results.json."""

from __future__ import annotations

from pathlib import Path

from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView

MARK = "omitted"
"""The id of these sentences on a page."""


def sentences(view: ResultsView) -> list[str]:
    """One sentence for each kind of thing that results.json names and that is not here."""
    found = []
    asked = "timestep_kl" in view.data["configuration"]["evaluation"]["metrics"]
    if asked and not len(view.timestep_kl) and any(cell["status"] == "done" for cell in view.cells):
        found.append("The figures over timesteps are left out: timestep_kl.csv is not beside results.json.")
    kinds = {
        "training curves": [cell["artifacts"].get("train") for cell in view.cells],
        "samples": [place for cell in view.cells for place in cell["artifacts"].get("samples") or []],
        "gallery": [cell["artifacts"].get("gallery") for cell in view.cells],
        "forward process": [cell["artifacts"].get("forward") for cell in view.cells],
        "loss landscape": [cell["artifacts"].get("landscape") for cell in view.cells],
    }
    gone: list[str] = []
    for name, places in kinds.items():
        named = [place for place in dict.fromkeys(places) if place]
        missing = [place for place in named if not (view.runs / place).is_dir()]
        if missing and len(missing) == len(named):
            gone.append(name)
        elif missing and name != "training curves":  # their figure counts them itself
            found.append(f"{words.count(len(missing), 'artifact')} of the {name} are no longer in the store.")
    if gone:
        found.append(f"No {words.listed(gone)}: they were not in the store when this report was made.")
    return found


def has_more(page: Path, view: ResultsView) -> bool:
    """Whether a page that is there lacks nothing, and one made now would."""
    return page.is_file() and f'id="{MARK}"' not in page.read_text(encoding="utf-8") and bool(sentences(view))
