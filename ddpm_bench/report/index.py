"""The index of all reports: every suite with its verdicts, from what was run here and what was shipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddpm_bench.report import html, verdicts, words
from ddpm_bench.report.source import ResultsView


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One suite. link: to its report, None where there is none yet; cells: how many are done, of how many."""

    suite: str
    title: str
    created: str
    dataset: str
    cells: str
    verdicts: list[verdicts.Verdict]
    counts: list[tuple[str, int]]
    link: str | None


def views(runs: Path, reports: Path) -> list[ResultsView]:
    """The results of every suite, by name: those below runs/suites, and of suites that were not run here those that
    came with a report."""
    own = {path.parent.name: path.parent for path in (Path(runs) / "suites").glob("*/results.json")}
    shipped = {path.parent.name: path.parent for path in Path(reports).glob("*/results.json")}
    return [ResultsView(runs, name, folder) for name, folder in sorted({**shipped, **own}.items())]


def build_index(found: list[ResultsView], reports: Path) -> Path:
    """Writes reports/index.html; the path of the page."""
    reports = Path(reports)
    suites = {view.suite for view in found}
    joint = sorted(
        path.parent.name for path in reports.glob("*+*/index.html") if suites.issuperset(path.parent.name.split("+"))
    )
    page = html.render(
        "index.html",
        title="Reports",
        entries=[_entry(view, reports) for view in found],
        joint=[(name.split("+"), f"{name}/index.html") for name in joint],
    )
    html.write(reports / "index.html", page)
    return reports / "index.html"


def _entry(view: ResultsView, reports: Path) -> Entry:
    done = sum(cell["status"] == "done" for cell in view.cells)
    legal = sum(cell["status"] != "illegal" for cell in view.cells)
    with words.symbols(view.data["symbols"]):
        return Entry(
            suite=view.suite,
            title=view.data["title"] or view.suite,
            created=view.data["created"],
            dataset=view.data["configuration"]["dataset"]["name"],
            cells=words.count(legal, "cell") if done == legal else f"{done} of {words.count(legal, 'cell')} done",
            verdicts=verdicts.verdicts(view.data["claims"]),
            counts=verdicts.counts(view.data["claims"]),
            link=f"{view.suite}/index.html" if (reports / view.suite / "index.html").is_file() else None,
        )
