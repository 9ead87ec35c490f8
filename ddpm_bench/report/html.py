"""What every page is made with: templates that escape, one style, one script that the page's policy names, numbers."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.svg import inline
from ddpm_bench.report.table import trouble

FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """A page: the template with its values, the style, and a policy that allows the script and nothing from outside."""
    script = (FOLDER / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    return environment().get_template(template).render(
        policy=policy, style=Markup(style), script=Markup(script), **values
    )  # fmt: skip


def write(path: Path, text: str) -> None:
    """Text with the same bytes on every system; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def environment() -> jinja2.Environment:
    """The templates of this folder with their filters, for one page: its figures define each character once."""
    defined: set[str] = set()
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {
        "html": words.html,
        "axis": words.axis,
        "metric": words.metric,
        "plain": words.plain,
        "exact": json.dumps,
        "trouble": trouble,
        "figure": lambda drawing: figure(drawing, defined),
        "csv_link": csv_link,
        "png_link": lambda png: "data:image/png;base64," + base64.b64encode(png).decode(),
        "seconds": seconds,
        "short": short,
        "moment": lambda stamp: f"{stamp[:10]} {stamp[11:16]} UTC",
        "fixed": lambda value: "" if math.isnan(value) else words.number(round(value, 9), 4),
    }
    found.globals.update(value_of=words.value, count=words.count)
    return found


def short(value: Any) -> str:
    """A value of a figure's data: numbers with four significant digits, nothing for a missing one."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}".replace("-", "−")
    return words.plain(value)


def figure(drawing: Drawing, defined: set[str]) -> Markup:
    """The figure for the page; its alternative text is escaped here. defined: the characters drawn before."""
    return Markup(inline(drawing.svg, drawing.name, str(escape(drawing.alternative)), defined))


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
