"""From a suite file to resolved cells, or to every problem that it has."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_bench import cells, fields, labels, registry, toml
from ddpm_bench.errors import UserError, suggestion
from ddpm_bench.fields import Invalid, Report, describe
from ddpm_bench.identity import canonical
from ddpm_bench.matrix import SECTIONS, SHORT, Axis, Point, include_points, leaves, matrix_points, read_axes, read_base
from ddpm_bench.metrics._resolve import Resolved, resolve
from ddpm_bench.selectors import parse_only, select
from ddpm_bench.spec import Cell, Evaluation, plain
from ddpm_bench.statements import Claim, Context, Reference, read_all, read_claim, read_reference

SCHEMA = 1
TABLES = ("dataset", "network", "diffusion", "training", "reverse", "evaluation", "matrix")
ARRAYS = ("exclude", "include", "claim", "reference")
VALUES = ("schema", "name", "title", "extends", "plugins", "on_illegal")
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


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


class Problems:
    """What is wrong so far, each problem once."""

    def __init__(self, document: toml.Document):
        self.document = document
        self.found: dict[str, tuple[int, int]] = {}

    def report(self, path: str, text: str) -> None:
        """A problem with a key of the suite."""
        place = self.document.place(path)
        self.found.setdefault(f"{place.text}: {path}: {text}", (place.rank, place.line))

    def on_command_line(self, argument: str) -> Report:
        """A report of problems with an argument; its paths are shown without what stands before their first dot."""

        def report(path: str, text: str) -> None:
            key = path.partition(".")[2]
            self.found.setdefault(f"{argument}: {key}: {text}" if key else f"{argument}: {text}", (-1, 0))

        return report

    def raise_all(self) -> None:
        """Raise UserError with all problems in the order of the lines, unless there is none."""
        if self.found:
            raise UserError(sorted(self.found, key=self.found.__getitem__))


def load(
    source: str | Path | toml.Document, overrides: Sequence[str] = (), only: Sequence[str] = (), name: str | None = None
) -> Suite:
    """The suite of a file, with --set overrides, --only selections and --name.

    Raises one UserError that holds every problem, `FILE:LINE: key: text`, in the order of the lines.
    """
    document = source if isinstance(source, toml.Document) else toml.read(source)
    document = toml.apply(document, overrides)
    problems = Problems(document)
    report, tables = problems.report, document.tables
    _check_top(tables, report)
    suite_name, title = _names(document, name, problems)
    plugins = _load_plugins(document, report)

    base = read_base(tables, report)
    axes = read_axes(tables.get("matrix", {}), base, report)
    _check_overridden(document, axes, report)
    points = _points(tables, base, axes, report)
    evaluation = _read_evaluation(tables.get("evaluation", {}), report)
    metrics = None
    if evaluation is not None:
        metrics = tuple(resolve(evaluation.metrics, evaluation.extractors, "evaluation.metrics", report))

    built = cells.build_cells(points, report)
    reasons = cells.refusals(built)
    varied = cells.varied_axes(points, axes)
    on_illegal = tables.get("on_illegal", "error")
    cells.report_illegal(points, reasons, varied, on_illegal == "skip", report)
    ids = cells.cell_ids(points, varied, report)

    context = Context(
        points=points,
        ids=ids,
        dataset=getattr(base["dataset"], "name", None),
        replaced=_dataset_name(document.written),
        metrics=metrics,
        evaluation=evaluation,
        report=_with_hint(document, report),
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
                label=labels.cell_label(values, varied),
                axes={axis: labels.value_label(value) for axis, value in values.items()},
                reason=reason,
                variant=point.variant,
            )
        )
    return Suite(
        name=suite_name,
        title=title,
        path=document.path,
        schema=SCHEMA,
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


def _check_top(tables: Mapping[str, Any], report: Report) -> None:
    known = (*VALUES, *TABLES, *ARRAYS)
    for key, value in tables.items():
        if key in SHORT:
            report(key, f'unknown key; did you mean "{"matrix.seed" if key == "seed" else SHORT[key]}"?')
        elif key not in known:
            kind = "table" if isinstance(value, Mapping | list) else "key"
            report(key, f"unknown {kind}{suggestion(key, known)}")
    schema = tables.get("schema", SCHEMA)
    if type(schema) is not int or schema != SCHEMA:
        report("schema", f"this ddpm-bench reads schema {SCHEMA}, got {describe(schema)}")
    if tables.get("on_illegal", "error") not in ("error", "skip"):
        report("on_illegal", f'expected "error" or "skip", got {describe(tables["on_illegal"])}')


def _names(document: toml.Document, given: str | None, problems: Problems) -> tuple[str, str]:
    """The name and the title: --name, else the file's, else its own file name."""
    tables = document.tables
    for key in ("name", "title"):
        if key in tables and not isinstance(tables[key], str):
            problems.report(key, f"expected a string, got {describe(tables[key])}")
    name = given if given is not None else tables.get("name", document.path.stem)
    if isinstance(name, str) and not SAFE_NAME.fullmatch(name):
        text = f'"{name}" cannot name a directory: letters, digits and ._- only, not beginning with . or -'
        if given is not None:
            problems.on_command_line(f"--name {given}")("", text)
        else:
            problems.report("name", text)
    return name, tables.get("title", name)


def _load_plugins(document: toml.Document, report: Report) -> tuple[Path, ...]:
    """Register the suite's own files; their paths are relative to the file that names them."""
    found = []
    names = document.tables.get("plugins", [])
    if not isinstance(names, list):
        report("plugins", f"expected a list of files, got {describe(names)}")
        return ()
    for index, name in enumerate(names):
        path = f"plugins[{index}]"
        if not isinstance(name, str):
            report(path, f"expected the path of a file, got {describe(name)}")
            continue
        origin = document.place(path).file
        file = origin.parent / name if origin else Path(name)
        try:
            registry.load_plugin_file(file)
        except UserError as problem:
            report(path, str(problem))
        found.append(file)
    return tuple(found)


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
    for index, table in enumerate(_array(tables, "exclude", report)):
        left_out.update(select(table, f"exclude[{index}]", full, report)[1])
    points = [point for index, point in enumerate(full) if index not in left_out]
    for index, table in enumerate(_array(tables, "include", report)):
        points += include_points(table, f"include[{index}]", base, axes[-1].values, report)
    if not points:
        report("exclude", "leaves no cell")
    return points


def _array(tables: Mapping[str, Any], key: str, report: Report) -> list[Any]:
    found = tables.get(key, [])
    if isinstance(found, list):
        return found
    report(key, f"expected [[{key}]] tables, got {describe(found)}")
    return []


def _read_evaluation(table: Any, report: Report) -> Evaluation | None:
    if not isinstance(table, Mapping):
        report("evaluation", f"expected a table, got {describe(table)}")
        return None
    rest = {key: value for key, value in table.items() if key not in ("extractor", "extractors")}
    if "extractors" in table:
        report("evaluation.extractors", 'unknown key; did you mean "extractor"?')
    evaluation = fields.build(Evaluation, rest, "evaluation", report)
    written = table.get("extractor", [])
    if written == [] and "extractor" in table:
        report("evaluation.extractor", "is empty; leave the key out for the default")
    listed = isinstance(written, list)
    extractors: list[Any] = []
    for index, value in enumerate(written if listed else [written]):
        path = f"evaluation.extractor[{index}]" if listed else "evaluation.extractor"
        extractor = fields.entry("extractors", value, path, report)
        if extractor is not Invalid and extractor in extractors:
            report(path, f"{fields.show(value)} stands in the list twice")
        extractors.append(extractor)
    if evaluation is Invalid or Invalid in extractors:
        return None
    assert isinstance(evaluation, Evaluation)
    return dataclasses.replace(evaluation, extractors=tuple(extractors))


def _dataset_name(tables: Mapping[str, Any]) -> str | None:
    """The name of the data set that the files name, whatever --set says."""
    written = tables.get("dataset")
    return written.get("name") if isinstance(written, Mapping) else written


def _with_hint(document: toml.Document, report: Report) -> Report:
    """Problems of claims and references, with the way out for a user who made them by --set."""

    def hinted(path: str, text: str) -> None:
        key = path.partition("[")[0]
        report(path, f"{text}; --set '{key}=[]' leaves all of them out" if document.overrides else text)

    return hinted


def _selected(
    only: Sequence[str], points: Sequence[Point], ids: Sequence[str], problems: Problems
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
        "schema": SCHEMA,
        "extends": [str(path) for path in document.extends],
        **plain(canonical(entries)),
        **toml.to_json({"matrix": matrix, **{key: document.tables[key] for key in kept if key in document.tables}}),
    }
