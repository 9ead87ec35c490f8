"""How the numbers were measured: the protocol card, the protocol of each column, and the resolved configuration."""

from __future__ import annotations

from typing import Any

from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.table import Table
from ddpm_bench.report.variants import varied_axes

SECTIONS = {
    "network": "Network",
    "diffusion": "Diffusion",
    "training": "Training",
    "reverse": "Reverse process",
    "evaluation": "Evaluation",
}


def card(view: ResultsView) -> list[tuple[str, str]]:
    """(heading, one line) of the protocol card; what varies is said once, in its own line."""
    data, configuration = view.data["data"], view.data["configuration"]
    varied = varied_axes(view)
    dataset = {name: item for name, item in configuration["dataset"].items() if item is not None}
    line = words.plain(dataset)
    if data is None:
        line += ": not decoded yet"
    else:
        channels, height, width = data["shape"]
        kind = f"{data['levels']} levels" if data["levels"] is not None else "real values"
        line += f": {channels}×{height}×{width}, {kind}; {data['num_train']} training, "
        line += f"{data['num_validation']} validation, {data['num_test']} test images"
    rows = [("Data", line)]
    for section, title in SECTIONS.items():
        table = configuration.get(section)
        if table:
            rows.append((title, _line(table, section, varied)))
    compared = []
    for name in varied:
        labels = list(dict.fromkeys(str(cell["axes"].get(name, "—")) for cell in view.cells))
        compared.append(f"{words.axis(name)}: {' | '.join(words.value(name, label) for label in labels)}")
    seeds = sorted({cell["seed"] for cell in view.cells})
    compared.append(f"{'seed' if len(seeds) == 1 else 'seeds'}: {', '.join(map(str, seeds))}")
    rows.append(("Varied", "; ".join(compared)))
    return rows


def _line(table: dict[str, Any], section: str, varied: list[str]) -> str:
    parts = [str(table["name"])] if "name" in table else []
    for name, item in table.items():
        # what is off or zero is left to the resolved configuration
        off = item is None or item is False or (isinstance(item, float) and item == 0)
        if name == "name" or off or name in varied or f"{section}.{name}" in varied:
            continue
        parts.append(f"{name.replace('_', ' ')} {words.plain(item)}")
    return ", ".join(parts)


def protocols(table: Table) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each column its title with (key, value) of the protocol."""
    return [
        (column.title, [(name.replace("_", " "), words.plain(item)) for name, item in column.protocol.items()])
        for column in table.columns
        if column.protocol
    ]


def numbered_columns(table: Table) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each column of a metric that has several, its title with the entries of the protocol that tell them apart."""
    found = []
    for column in table.columns:
        if column.number:
            rivals = [other.protocol for other in table.columns if other.metric == column.metric]
            names = sorted({name for protocol in rivals for name in protocol})
            apart = [name for name in names if any(other.get(name) != rivals[0].get(name) for other in rivals)]
            items = [(name.replace("_", " "), words.plain(column.protocol.get(name, "not said"))) for name in apart]
            found.append((column.title, items))
    return found


def configuration_rows(view: ResultsView) -> list[tuple[str, str]]:
    """The resolved configuration as dotted keys."""
    rows: list[tuple[str, str]] = []

    def walk(prefix: str, table: dict[str, Any]) -> None:
        for name, item in table.items():
            if isinstance(item, dict) and item:
                walk(f"{prefix}{name}.", item)
            else:
                rows.append((prefix + name, words.plain(item)))

    walk("", view.data["configuration"])
    return rows


def axes_of_cells(view: ResultsView) -> list[tuple[str, str]]:
    """(axis, its values with the number of cells of each), those that differ between cells first."""
    varied = varied_axes(view)
    names = [*varied, *(name for name in dict.fromkeys(n for cell in view.cells for n in cell["axes"]))]
    rows = []
    for name in dict.fromkeys(names):
        labels = [words.value(name, cell["axes"].get(name, "—")) for cell in view.cells]
        counts = {label: labels.count(label) for label in dict.fromkeys(labels)}
        text = "; ".join(f"{label} in {words.count(number, 'cell')}" for label, number in counts.items())
        rows.append((words.axis(name), text if name in varied else f"{labels[0]} in all"))
    return rows
