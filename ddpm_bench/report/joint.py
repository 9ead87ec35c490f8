"""Several suites in one table: a column `suite` beside the axes that vary in or between them.

Values share a column only under one protocol, and the data belong to it: results on other images never stand in one
column, and nothing is averaged across suites.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddpm_bench.report.protocol import configuration_rows
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import varied_axes


class JointView(ResultsView):
    """The cells, baselines and references of several suites as those of one whose first axis is `suite`."""

    def __init__(self, views: Sequence[ResultsView]):
        self.views, self.runs = list(views), views[0].runs
        self.suite = "+".join(view.suite for view in views)
        axes = dict.fromkeys(["suite", *(axis for view in views for axis in varied_axes(view))])
        axes |= dict.fromkeys(axis for view in views for cell in view.cells for axis in cell["axes"])
        symbols: dict[str, dict[str, str]] = {}
        for view in views:
            for axis, names in view.data["symbols"].items():
                symbols.setdefault(axis, {}).update(names)
        several = len({_data(view) for view in views}) > 1
        self.data: dict[str, Any] = {
            "axes": list(axes),
            "symbols": symbols,
            "cells": [_cell(view, cell, list(axes), several) for view in views for cell in view.cells],
            "baselines": _baselines(self.views),
            "references": [
                {**item, "cells": [f"{view.suite}/{cell}" for cell in item["cells"]]}
                for view in views
                for item in view.data["references"]
            ],
        }


def _data(view: ResultsView) -> str:
    """The data set with the beginning of its digest."""
    data = view.data["data"]
    name = str(view.data["configuration"]["dataset"]["name"])
    return f"{name} ({data['digest'][:8]})" if data else name


def _cell(view: ResultsView, cell: dict[str, Any], axes: list[str], several: bool) -> dict[str, Any]:
    labels = {axis: cell["axes"].get(axis) or _configured(view, axis) for axis in axes[1:]}
    metrics = cell["metrics"]
    if several:
        data = {"data": _data(view)}
        metrics = {name: {**found, "protocol": {**found["protocol"], **data}} for name, found in metrics.items()}
    own = {"id": f"{view.suite}/{cell['id']}", "axes": {"suite": view.suite, **labels}, "metrics": metrics}
    return {**cell, **own}


def _configured(view: ResultsView, axis: str) -> str:
    """The value of an axis that a suite does not vary: a dotted key of its configuration, in the table that has it."""
    rows = dict(configuration_rows(view))
    places = [f"{table}{axis}{end}" for table in ("", "diffusion.", "reverse.") for end in ("", ".name")]
    return next((rows[place] for place in places if place in rows), "—")


def _baselines(views: Sequence[ResultsView]) -> list[dict[str, Any]]:
    """Each baseline with the suites that it is of; equal values of equal data are one, others bear the suite's name."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for view in views:
        for item in view.data["baselines"]:
            key = (item["name"], item["metric"], _data(view), item["value"])
            found.setdefault(key, {**item, "suites": []})["suites"].append(view.suite)
    for item in found.values():
        if len(item["suites"]) < len(views):
            item["label"] = f"{item['name']}, {' and '.join(item['suites'])}"
    return list(found.values())


def settings_that_differ(views: Sequence[ResultsView]) -> list[tuple[str, list[str]]]:
    """(dotted key, its value in each suite) of everything in the configurations that is not the same."""
    tables = [dict(configuration_rows(view)) for view in views]
    keys = [key for key in dict.fromkeys(key for table in tables for key in table) if key not in ("name", "title")]
    rows = [(key, [table.get(key, "—") for table in tables]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]
