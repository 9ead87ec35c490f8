"""The parts of a suite beside its cells: names, plugins, the protocol; and how its problems are collected."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ddpm_bench import fields, registry, toml
from ddpm_bench.errors import UserError, suggestion
from ddpm_bench.fields import Invalid, Report, describe
from ddpm_bench.identity import dumps
from ddpm_bench.keys import SHORT
from ddpm_bench.spec import Cell, Evaluation, Landscape, bind

SCHEMA = 1
TABLES = ("dataset", "network", "diffusion", "training", "reverse", "evaluation", "matrix")
ARRAYS = ("exclude", "include", "claim", "reference")
VALUES = ("schema", "name", "title", "extends", "plugins", "on_illegal")
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class Problems:
    """What is wrong so far, each problem once."""

    def __init__(self, document: toml.Document):
        self.document = document
        self.found: dict[str, tuple[int, int]] = {}

    def report(self, path: str, text: str) -> None:
        """A problem with a key of the suite; with the suite as a whole where the path is empty."""
        place = self.document.place(path)
        key = f"{path}: " if path else ""
        self.found.setdefault(f"{place.text}: {key}{text}", (place.rank, place.line))

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


def check_top(tables: Mapping[str, Any], report: Report) -> None:
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


def names(document: toml.Document, given: str | None, problems: Problems) -> tuple[str, str]:
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


def load_plugins(document: toml.Document, report: Report) -> tuple[Path, ...]:
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


def array(tables: Mapping[str, Any], key: str, report: Report) -> list[Any]:
    found = tables.get(key, [])
    if isinstance(found, list):
        return found
    report(key, f"expected [[{key}]] tables, got {describe(found)}")
    return []


def read_evaluation(table: Any, report: Report) -> Evaluation | None:
    if not isinstance(table, Mapping):
        report("evaluation", f"expected a table, got {describe(table)}")
        return None
    rest = {key: value for key, value in table.items() if key not in ("extractor", "extractors", "landscape")}
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
    landscape = read_landscape(table.get("landscape", False), report)
    if evaluation is Invalid or landscape is Invalid or Invalid in extractors:
        return None
    assert isinstance(evaluation, Evaluation)
    return dataclasses.replace(evaluation, extractors=tuple(extractors), landscape=landscape)


def read_landscape(value: Any, report: Report) -> Any:
    """evaluation.landscape: None for false; true is a table without entries; Invalid after reporting."""
    path = "evaluation.landscape"
    if not isinstance(value, bool | Mapping):
        report(path, f"expected true, false or a table {{checkpoints = …}}, got {describe(value)}")
        return Invalid
    if value is False:
        return None
    return fields.build(Landscape, {} if value is True else value, path, report)


def check_landscape(landscape: Landscape | None, legal: Iterable[Cell], report: Report) -> None:
    """A training that gets a landscape must have a step at least between two of its checkpoints."""
    if landscape is None:
        return
    longest: dict[str, int] = {}
    for cell in legal:
        trajectory = dumps(bind(cell)[0])
        longest[trajectory] = max(longest.get(trajectory, 0), cell.training.steps)
    few = min(longest.values(), default=landscape.checkpoints)
    if few < landscape.checkpoints - 1:
        advice = f"; set checkpoints = {few + 1} or fewer" if few >= 2 else "; leave the landscape out"
        report(
            "evaluation.landscape.checkpoints",
            f"{landscape.checkpoints} different weights need a training of at least {landscape.checkpoints - 1} steps, "
            f"and one here has {few}{advice}",
        )


def dataset_name(tables: Mapping[str, Any]) -> str | None:
    """The name of the data set that the files name, whatever --set says."""
    written = tables.get("dataset")
    return written.get("name") if isinstance(written, Mapping) else written


def with_hint(document: toml.Document, report: Report) -> Report:
    """Problems of claims and references, with the way out for a user who made them by --set."""

    def hinted(path: str, text: str) -> None:
        key = path.partition("[")[0]
        report(path, f"{text}; --set '{key}=[]' leaves all of them out" if document.overrides else text)

    return hinted
