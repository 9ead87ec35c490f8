"""What the parent run says of itself: verdicts, and links to the comparisons that the list of runs does not show.

MLflow's list begins with the parent alone, its children folded away, and its charts are empty until they are unfolded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run, Markdown."""
MOST_COMPARED = 24
"""Runs of one comparison: more lines cannot be told apart."""


def body(results: Mapping[str, Any]) -> str:
    """The title, and a line for each claim."""
    lines = [f"### {results['title']}", ""]
    lines += [f"- **{claim['verdict']}**: {claim['statement']}" for claim in results["claims"]]
    return "\n".join(lines).rstrip()


def compared(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The cells of a comparison: those of the first seed that have a training, as many as can be told apart."""
    trained = [cell for cell in cells if cell["artifacts"].get("train")]
    first = min((cell["seed"] for cell in trained), default=0)
    return [cell["id"] for cell in trained if cell["seed"] == first][:MOST_COMPARED]


def links(experiment: str, runs: Sequence[str], curve: str | None) -> str:
    """Links within MLflow to everything of these runs side by side and, where they have it, to a curve over its steps;
    nothing for fewer than two runs."""
    if len(runs) < 2:
        return ""
    both = f"runs={_json(list(runs))}&experiments={_json([experiment])}"
    found = [f"[parameters and results side by side](#/compare-runs?{both})"]
    if curve:
        layout = _json({"autosize": True, "xaxis": {}, "yaxis": {"type": "log"}})
        shown = f"metric={_json(curve)}&plot_metric_keys={_json([curve])}&plot_layout={layout}"
        axes = "x_axis=step&y_axis_scale=log&line_smoothness=1&show_point=false"
        found.insert(0, f"[{curve}](#/metric?{both}&{shown}&{axes})")
    return f"\n\nOf {len(runs)} cells of one seed: {', '.join(found)}.\n"


def _json(value: Any) -> str:
    return quote(json.dumps(value, separators=(",", ":")), safe="")
