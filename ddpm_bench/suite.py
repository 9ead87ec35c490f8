"""From a suite file to resolved cells, or to every problem that it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_bench import _suite_parts as parts
from ddpm_bench import cells, labels, toml
from ddpm_bench.fields import Report
from ddpm_bench.identity import canonical
from ddpm_bench.keys import SECTIONS, SHORT
from ddpm_bench.matrix import Axis, Point, include_points, leaves, matrix_points, read_axes, read_base
from ddpm_bench.metrics._resolve import Resolved, resolve
from ddpm_bench.selectors import parse_only, select
from ddpm_bench.spec import Cell, Evaluation, plain
from ddpm_bench.statements import Claim, Context, Reference, read_all, read_claim, read_reference


@dataclass(frozen=True, kw_only=True)
class SuiteCell:
    """A cell with its names.

    axes: short names and varied keys → label; reason: why it is illegal, or None; variant: the name that an
    [[include]] called it by.
    """

    cell: Cell
    id: str
    label: str
    axes: dict[str, str]
    reason: str | None = None
    variant: str | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite without a mistake.

    path: as the user typed it; axes: what varies, in the order of the matrix, seed apart; configuration: all of it
    with defaults, as JSON; overrides: every --set and --only; skipped_notes: what was left out because --set
    replaced the data set; selected: the ids that --only chose, None for all.
    """

    name: str
    title: str
    path: Path
    schema: int
    cells: tuple[SuiteCell, ...]
    evaluation: Evaluation
    resolved_metrics: tuple[Resolved, ...]
    axes: tuple[str, ...]
    claims: tuple[Claim, ...]
    references: tuple[Reference, ...]
    on_illegal: str
    plugins: tuple[Path, ...]
    configuration: dict[str, Any]
    overrides: tuple[str, ...]
    skipped_notes: tuple[str, ...]
    selected: tuple[str, ...] | None


def load(
    source: str | Path | toml.Document, overrides: Sequence[str] = (), only: Sequence[str] = (), name: str | None = None
) -> Suite:
    """The suite of a file, with --set overrides, --only selections and --name.

    Raises one UserError that holds every problem, `FILE:LINE: key: text`, in the order of the lines.
    """
    document = source if isinstance(source, toml.Document) else toml.read(source)
    document = toml.apply(document, overrides)
    problems = parts.Problems(document)
    report, tables = problems.report, document.tables
    parts.check_top(tables, report)
    suite_name, title = parts.names(document, name, problems)
    plugins = parts.load_plugins(document, report)

    base = read_base(tables, report)
    axes = read_axes(tables.get("matrix", {}), base, report)
    _check_overridden(document, axes, report)
    points = _points(tables, base, axes, report)
    evaluation = parts.read_evaluation(tables.get("evaluation", {}), report)
    metrics = None
    if evaluation is not None:
        metrics = tuple(resolve(evaluation.metrics, evaluation.extractors, "evaluation.metrics", report))

    built = cells.build_cells(points, report)
    reasons = cells.refusals(built)
    varied = cells.varied_axes(points, axes)
    on_illegal = tables.get("on_illegal", "error")
    cells.report_illegal(points, reasons, varied, on_illegal == "skip", report)
    if evaluation is not None:
        legal = [cell for cell, reason in zip(built, reasons, strict=True) if cell is not None and reason is None]
        parts.check_landscape(evaluation.landscape, legal, report)
    ids = cells.cell_ids(points, varied, report)

    context = Context(
        points=points,
        ids=ids,
        dataset=getattr(base["dataset"], "name", None),
        replaced=parts.dataset_name(document.written),
        metrics=metrics,
        evaluation=evaluation,
        report=parts.with_hint(document, report),
        notes=[],
    )
    claims = read_all(tables.get("claim", []), "claim", read_claim, context)
    references = read_all(tables.get("reference", []), "reference", read_reference, context)
    selected = _selected(only, points, ids, problems)
    problems.raise_all()

    assert evaluation is not None
    assert metrics is not None
    shown = tuple(dict.fromkeys([*(key for key in SHORT if key != "seed"), *varied]))
    suite_cells = []
    for point, cell, cell_id, reason in zip(points, built, ids, reasons, strict=True):
        assert cell is not None
        values = cells.axis_values(point, shown)
        suite_cells.append(
            SuiteCell(
                cell=cell,
                id=cell_id,
                label=labels.cell_label(values, varied) + (f" ({point.variant})" if point.variant else ""),
                axes={axis: labels.value_label(value) for axis, value in values.items()},
                reason=reason,
                variant=point.variant,
            )
        )
    return Suite(
        name=suite_name,
        title=title,
        path=document.path,
        schema=parts.SCHEMA,
        cells=tuple(suite_cells),
        evaluation=evaluation,
        resolved_metrics=metrics,
        axes=varied,
        claims=claims,
        references=references,
        on_illegal=on_illegal,
        plugins=plugins,
        configuration={"name": suite_name, "title": title, **_configuration(document, base, evaluation)},
        overrides=(*document.overrides, *(f"--only {text}" for text in only)),
        skipped_notes=tuple(context.notes),
        selected=selected,
    )


def _check_overridden(document: toml.Document, axes: Sequence[Axis], report: Report) -> None:
    """A --set of the base tables that the matrix varies would do nothing; includes take their values from there."""
    if "include" in document.tables:
        return
    for axis in axes:
        path = ".".join([axis.root, *axis.inner])
        for known, place in document.places.items():
            if place.file is None and f"{known}.".startswith(f"{path}."):
                report(known, f"has no effect: the matrix varies {axis.name}; set {axis.path}=[…]")


def _points(tables: Mapping[str, Any], base: Mapping[str, Any], axes: list[Axis], report: Report) -> list[Point]:
    """The cross product without what is excluded, then what is included."""
    full = matrix_points(base, axes, report)
    left_out: set[int] = set()
    for index, table in enumerate(parts.array(tables, "exclude", report)):
        left_out.update(select(table, f"exclude[{index}]", full, report)[1])
    points = [point for index, point in enumerate(full) if index not in left_out]
    for index, table in enumerate(parts.array(tables, "include", report)):
        points += include_points(table, f"include[{index}]", base, axes[-1].values, report)
    if not points:
        report("exclude", "leaves no cell")
    return points


def _selected(
    only: Sequence[str], points: Sequence[Point], ids: Sequence[str], problems: parts.Problems
) -> tuple[str, ...] | None:
    """The ids that any --only selects, None without --only."""
    chosen: set[int] = set()
    for text in only:
        report = problems.on_command_line(f"--only {text}")
        try:
            table = parse_only(text)
        except ValueError as problem:
            report("", str(problem))
            continue
        chosen.update(select(table, "only", points, report)[1])
    return tuple(ids[index] for index in sorted(chosen)) if only else None


def _configuration(document: toml.Document, base: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """The suite with every default written out; the matrix as it was written."""
    sections: dict[str, Any] = {name: {} for name in SECTIONS}
    for root, value in base.items():
        section, _, name = root.partition(".")
        if section in sections:
            sections[section][name] = value
    matrix = {path.removeprefix("matrix."): v for _, path, v in leaves(document.tables.get("matrix", {}), "matrix")}
    protocol = {item.name: getattr(evaluation, item.name) for item in dataclasses.fields(evaluation)}
    protocol["extractor"] = protocol.pop("extractors")
    entries = {"dataset": base["dataset"], "network": base["network"], **sections, "evaluation": protocol}
    kept = ("on_illegal", "plugins", "exclude", "include")
    return {
        "schema": parts.SCHEMA,
        "extends": [str(path) for path in document.extends],
        **plain(canonical(entries)),
        **toml.to_json({"matrix": matrix, **{key: document.tables[key] for key in kept if key in document.tables}}),
    }
