"""The report of one suite: one HTML file that needs nothing else, the tables beside it, and the figures as files."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from ddpm_bench.report import illegal, orderings, words
from ddpm_bench.report.export import to_csv, to_latex, to_markdown
from ddpm_bench.report.figures import (
    Drawing,
    class_histogram,
    curves,
    decomposition,
    frechet_over_n,
    gallery,
    inline_svg,
    log_snr_kl,
    rate_distortion,
    samples,
    sampling_steps,
    share,
    timestep_kl,
    training_steps,
    variance_range,
)
from ddpm_bench.report.protocol import card, configuration_rows, protocols
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.summary import paragraphs
from ddpm_bench.report.table import Table, make_table, trouble
from ddpm_bench.report.variants import metric_names, variants

FOLDER = Path(__file__).parent

FIGURES = (
    decomposition, timestep_kl, log_snr_kl, share, rate_distortion, variance_range, sampling_steps, training_steps,
    frechet_over_n, class_histogram, curves,
)  # fmt: skip
"""In the order of the page."""


def build(runs: Path, suite: str, out: Path) -> Path:
    """Writes out/<suite>/index.html, table.csv, .md, .tex and figures/; the path of the page.

    A function of the store alone: equal results give equal bytes. Raises UserError when the suite has no results.
    """
    view = ResultsView(runs, suite)
    with words.symbols(view.data["symbols"]):
        return _write_all(view, Path(out) / suite)


def _write_all(view: ResultsView, folder: Path) -> Path:
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    names = metric_names(view)
    table = make_table(view, [name for name in names if not words.is_companion(name, names)])
    _write(folder / "table.csv", to_csv(table))
    _write(folder / "table.md", to_markdown(table))
    _write(folder / "table.tex", to_latex(table))

    groups = [group for group in variants(view) if not illegal.is_illegal(group)]
    drawings = [found for module in FIGURES if (found := module.draw(view, groups))]
    for drawing in drawings:
        _write(folder / "figures" / f"{drawing.name}.svg", drawing.svg)
        (folder / "figures" / f"{drawing.name}.pdf").write_bytes(drawing.pdf)
    page = render(view, table, drawings, samples.draw(view, groups), gallery.draw(view, groups))
    _write(folder / "index.html", page)
    return folder / "index.html"


def render(view: ResultsView, table: Table, drawings: list[Drawing], grid: samples.Grid | None,
           pictures: gallery.Gallery | None) -> str:  # fmt: skip
    """The page as text."""
    script = (FOLDER / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    names = metric_names(view)
    companions = [name for name in names if words.is_companion(name, names) and not words.is_part(name)]
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template("template.html").render(
        policy=policy,
        style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        data=view.data,
        paragraphs=paragraphs(view, table),
        card=card(view),
        table=table,
        companions=make_table(view, companions) if companions else None,
        protocols=protocols(table),
        illegal=illegal.by_reason(view, variants(view)),
        orderings=orderings.sentences(view),
        drawings=drawings,
        grid=grid,
        gallery=pictures,
        cells=view.cells,
        metrics=metric_names(view),
        configuration=configuration_rows(view),
optional={
            "clipped": any((cell["training"] or {}).get("clipped_share") is not None for cell in view.cells),
            "sampling": any(cell["timings"].get("sample_seconds") for cell in view.cells),
            "calls": any(cell["network_calls"] for cell in view.cells),
        },
    )  # fmt: skip


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "html": words.html,
        "axis": words.axis,
        "metric": words.metric,
        "plain": words.plain,
        "exact": json.dumps,
        "trouble": trouble,
        "figure": figure,
        "csv_link": csv_link,
        "png_link": lambda png: "data:image/png;base64," + base64.b64encode(png).decode(),
        "seconds": seconds,
        "short": lambda value: f"{value:.4g}" if isinstance(value, float) else words.plain(value),
        "fixed": lambda value: "" if math.isnan(value) else words.number(round(value, 9), 4),
    }
    environment.globals.update(value_of=words.value, count=words.count)
    return environment


def figure(drawing: Drawing) -> Markup:
    """The figure for the page; its alternative text is escaped here."""
    return Markup(inline_svg(drawing.svg, drawing.name, str(escape(drawing.alternative))))


def csv_link(drawing: Drawing) -> str:
    """The figure's data as a link that holds them, to six significant digits."""
    text = drawing.data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return "data:text/csv;charset=utf-8," + quote(text, safe=",.:=()-+ ").replace(" ", "%20")


def seconds(value: float | None) -> str:
    """A duration for people: 0.42 s, 71 s, 20 min 34 s, 3 h 05 min."""
    if value is None or not math.isfinite(value):
        return "—"
    if value < 100:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
