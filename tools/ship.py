"""Shipped evidence: the report of a finished suite with its results.json, as reports/ keeps it.

    python -m tools.ship digits_ablation digits_learning_rate …

Renders each report, puts results.json beside it, and makes reports/index.html. Raises SystemExit where a cell is not
done or a file is too large. reports/.gitignore names what is kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ddpm_bench.records import Results, update
from ddpm_bench.report import build
from ddpm_bench.report.index import build_index, views

ROOT = Path(__file__).resolve().parent.parent
RUNS, REPORTS = ROOT / "runs", ROOT / "reports"
MAX_BYTES = {"index.html": 1_500_000, "results.json": 1_500_000}
"""What is kept. A page of 208 cells with the data of its figures is the largest."""


def ship(suite: str) -> None:
    """One suite."""
    update(RUNS, suite)
    results = Results(RUNS, suite)
    unfinished = [cell.id for cell in results.cells if cell.status not in ("done", "illegal", "diverged")]
    if unfinished:
        raise SystemExit(f"{suite}: {len(unfinished)} cells are not done ({unfinished[0]}, …): run it first")
    page = build(RUNS, suite, REPORTS)
    # the same content without the indentation, a quarter of the bytes
    text = json.dumps(results.data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    (page.parent / "results.json").write_text(text + "\n", encoding="utf-8")
    for name, most in MAX_BYTES.items():
        size = (page.parent / name).stat().st_size
        if size > most:
            raise SystemExit(f"{page.parent / name}: {size:,} bytes; shipped ones have at most {most:,}")
        print(f"{(page.parent / name).relative_to(ROOT)}: {size:,} bytes")


def main() -> None:
    """Every suite named; the index lists what is shipped, whatever else was run here."""
    for suite in sys.argv[1:]:
        ship(suite)
    print(build_index(views(ROOT / "no runs", REPORTS), REPORTS))


if __name__ == "__main__":
    main()
