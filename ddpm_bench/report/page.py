"""The report of one suite: one HTML file that needs nothing else, the tables beside it, and the figures as files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ddpm_bench.report import grid, html, illegal, omitted, orderings, verdicts, words
from ddpm_bench.report.export import to_csv, to_latex, to_markdown
from ddpm_bench.report.figures import (
    Drawing,
    claims,
    class_histogram,
    curves,
    decomposition,
    effects,
    forward,
    frechet_over_n,
    gallery,
    landscape,
    log_snr_kl,
    noised,
    rate_distortion,
    samples,
    sampling_steps,
    share,
    timestep_kl,
    training_steps,
    variance_range,
)
from ddpm_bench.report.protocol import axes_of_cells, card, configuration_rows, protocols
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.summary import paragraphs
from ddpm_bench.report.table import Table, headline_table, make_table
from ddpm_bench.report.variants import Variant, metric_names, variants

FIGURES: tuple[ModuleType, ...] = (
    effects, decomposition, timestep_kl, log_snr_kl, share, variance_range, rate_distortion, sampling_steps,
    frechet_over_n, class_histogram, training_steps, curves,
)  # fmt: skip
"""In the order of the page, those between the results table and the cells."""
LAST: tuple[ModuleType, ...] = (forward, noised, landscape)
"""Those after the samples."""
UNSAFE = r"[^\w.=+-]+"
"""What the name of a file is without."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Everything that is drawn. verdicts: the figure of the claims; middle, last: as FIGURES and LAST."""

    verdicts: Drawing | None
    middle: list[Drawing]
    samples: samples.Grid | None
    gallery: gallery.Gallery | None
    last: list[Drawing]

    @property
    def drawings(self) -> list[Drawing]:
        """Those that are files too."""
        return [*([self.verdicts] if self.verdicts else []), *self.middle, *self.last]

    @property
    def pictures(self) -> dict[str, bytes]:
        """Rows of images, as PNG by the names of their files: samples/CELL.png."""
        found: list[tuple[str, str, bytes | None]] = []
        if self.samples:
            found += [("samples", strip.cell, strip.png) for strip in self.samples.strips]
        for figure in self.gallery.figures if self.gallery else []:
            for row in figure.rows:
                several = len(row.pictures) > 1
                for index, picture in enumerate(row.pictures):
                    end = f"-{picture.heading or index + 1}" if several else ""
                    found.append((figure.name, row.cell + end, picture.png))
        found += [(drawing.name, strip.label, strip.png) for drawing in self.drawings for strip in drawing.strips]
        return {f"{kind}/{re.sub(UNSAFE, '_', name)}.png": png for kind, name, png in found if png}

    @property
    def numbers(self) -> dict[str, int]:
        """Name → number, counted down the page."""
        names = [drawing.name for drawing in ([self.verdicts] if self.verdicts else []) + self.middle]
        names += ["samples"] if self.samples else []
        names += [figure.name for figure in self.gallery.figures] if self.gallery else []
        names += [drawing.name for drawing in self.last]
        return {name: index + 1 for index, name in enumerate(names)}


def build(runs: Path, suite: str, out: Path, folder: Path | None = None, *, keep_page: bool = False) -> Path:
    """Writes out/<suite>/index.html, table.csv, .md, .tex and figures/; the path of the page.

    folder: where results.json lies if not at the suite's place below `runs`. keep_page: index.html is not written. A
    function of the results and the store alone: equal results give equal bytes. Raises UserError when the suite has no
    results.
    """
    view = ResultsView(runs, suite, folder)
    with words.symbols(view.data["symbols"]):
        table = headline_table(view)
        write_tables(Path(out) / suite, table)
        figures = draw(view)
        page = "" if keep_page else html.render("template.html", **content(view, table, figures))
    write_figures(Path(out) / suite, figures.drawings, figures.pictures)
    if page:
        html.write(Path(out) / suite / "index.html", page)
    return Path(out) / suite / "index.html"


def write_tables(folder: Path, table: Table) -> None:
    """table.csv, table.md and table.tex."""
    html.write(folder / "table.csv", to_csv(table))
    html.write(folder / "table.md", to_markdown(table))
    html.write(folder / "table.tex", to_latex(table))


def write_figures(folder: Path, drawings: list[Drawing], pictures: Mapping[str, bytes]) -> None:
    """figures/ with each as SVG and PDF, and pictures as PNG."""
    for name, png in pictures.items():
        place = folder / "figures" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png)
    for drawing in drawings:
        html.write(folder / "figures" / f"{drawing.name}.svg", drawing.svg)
        (folder / "figures" / f"{drawing.name}.pdf").write_bytes(drawing.pdf)


def draw(view: ResultsView) -> Figures:
    """Every figure that the results have the data for."""
    groups: list[Variant] = [group for group in variants(view) if not illegal.is_illegal(group)]
    return Figures(
        verdicts=claims.draw(view),
        middle=[found for module in FIGURES if (found := module.draw(view, groups))],
        samples=samples.draw(view, groups),
        gallery=gallery.draw(view, groups),
        last=[found for module in LAST if (found := module.draw(view, groups))],
    )


def content(view: ResultsView, table: Table, figures: Figures) -> dict[str, object]:
    """What the template shows."""
    names = metric_names(view)
    companions = [name for name in names if words.is_companion(name, names) and not words.is_part(name)]
    return {
        "title": view.data["title"] or view.suite,
        "data": view.data,
        "verdicts": verdicts.verdicts(view.data["claims"]),
        "verdict_counts": verdicts.counts(view.data["claims"]),
        "paragraphs": paragraphs(view, table),
        "card": card(view),
        "table": table,
        "objectives": grid.objectives(table),
        "companions": make_table(view, companions) if companions else None,
        "protocols": protocols(table),
        "illegal": illegal.by_reason(view, variants(view)),
        "orderings": orderings.sentences(view),
        "figures": figures,
        "omitted": omitted.sentences(view),
        "cells": view.cells,
        "metrics": names,
        "configuration": configuration_rows(view),
        "cell_axes": axes_of_cells(view),
        "optional": {
            "clipped": any((cell["training"] or {}).get("clipped_share") is not None for cell in view.cells),
            "sampling": any(cell["timings"].get("sample_seconds") for cell in view.cells),
            "calls": any(cell["network_calls"] for cell in view.cells),
        },
    }
