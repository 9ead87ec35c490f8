"""docs/performance.md: each benchmark writes a section of its own."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def write_section(name: str, text: str) -> None:
    """Replace what stands between the markers of the section; the page has them, the benchmarks only fill them."""
    start, end = f"<!-- {name}: python -m benchmarks.{name} -->", f"<!-- end of {name} -->"
    page = PAGE.read_text(encoding="utf-8")
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{PAGE} has no section {name}: put {start} and {end} where it belongs")
    PAGE.write_text(f"{before}{start}\n{text.strip()}\n{end}{after}", encoding="utf-8")
