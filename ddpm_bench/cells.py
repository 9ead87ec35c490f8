"""From points to cells: the spec of each, which of them make no sense, and what they are called."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_bench import labels
from ddpm_bench.errors import FieldError
from ddpm_bench.fields import Report
from ddpm_bench.identity import dumps
from ddpm_bench.keys import SECTIONS, SHORT, Mistaken, split_key
from ddpm_bench.matrix import Axis, Point
from ddpm_bench.spec import Cell, bind, illegal


def build_cells(points: Sequence[Point], report: Report) -> list[Cell | None]:
    """The cell of each point; None where something was wrong, or is: fields of one table that exclude each other."""
    made: dict[Any, Any] = {}

    def section(name: str, point: Point) -> Any:
        items = {item.name: point.values[f"{name}.{item.name}"] for item in dataclasses.fields(SECTIONS[name])}
        key = (name, *items.values())
        if any(isinstance(value, Mistaken) for value in items.values()):
            return None
        if key not in made:
            try:
                made[key] = SECTIONS[name](**items)
            except FieldError as problem:
                root = f"{name}.{problem.field}"
                report(point.varied.get(root, root), problem.text)
                made[key] = None
        return made[key]

    cells: list[Cell | None] = []
    for point in points:
        sections = {name: section(name, point) for name in SECTIONS}
        if not point.sound or None in sections.values():
            cells.append(None)
            continue
        values = point.values
        cells.append(Cell(dataset=values["dataset"], network=values["network"], seed=values["seed"], **sections))
    return cells


def refusals(cells: Sequence[Cell | None]) -> list[str | None]:
    """Why each cell is illegal, or None: by itself, or because another cell is the same computation."""
    by_variant: dict[Cell, str | None] = {}
    first: dict[str, Cell] = {}
    found: list[str | None] = []
    for cell in cells:
        if cell is None:
            found.append(None)
            continue
        variant = dataclasses.replace(cell, seed=0)
        if variant not in by_variant:
            by_variant[variant] = illegal(variant)
        reason = by_variant[variant]
        if reason is None and not cell.reverse.sampler.uses_variance:
            training, reverse = bind(cell)
            unused = {"variance": None, "first_step": None}
            same = dumps([training, cell.training.steps, {**dataclasses.asdict(reverse), **unused}])
            kept = first.setdefault(same, cell)
            if kept is not cell:
                reason = (
                    f"sampler {cell.reverse.sampler.name} ignores σ²: the images are those with variance "
                    f"{labels.value_label(kept.reverse.variance)}"
                )
        found.append(reason)
    return found


def report_illegal(
    points: Sequence[Point], reasons: Sequence[str | None], varied: Sequence[str], skip: bool, report: Report
) -> None:
    """One problem for each reason, with what its cells have in common; with `skip` only when nothing is left."""
    if skip and not all(reasons):
        return
    by_axis = [axis_values(point, varied) for point in points]
    for reason in dict.fromkeys(filter(None, reasons)):
        members = [index for index, other in enumerate(reasons) if other == reason]
        common = {
            axis: value
            for axis, value in by_axis[members[0]].items()
            if all(by_axis[i][axis] == value for i in members) and any(v[axis] != value for v in by_axis)
        }
        point = points[members[0]]
        places = [
            point.varied[root] for root in (split_key(axis.split("."))[0] for axis in common) if root in point.varied
        ]
        who = ", ".join(f"{axis} = {labels.value_label(value)}" for axis, value in common.items())
        count = "every cell" if len(members) == len(points) else f"{len(members)} of {len(points)} cells"
        advice = "" if all(reasons) else '; exclude it, or on_illegal = "skip" lists it as illegal'
        report(
            places[-1] if places else point.origin, f"illegal, {count}{f' ({who})' if who else ''}: {reason}{advice}"
        )


def axis_values(point: Point, names: Sequence[str]) -> dict[str, Any]:
    """The values in force of axes, by name."""
    return {name: point.get(*split_key(name.split("."))) for name in names}


def varied_axes(points: Sequence[Point], axes: Sequence[Axis]) -> tuple[str, ...]:
    """The axes in which points differ, seed apart: in the order of the matrix, then what only an include sets.

    An entry whose parameters vary as axes of their own is no axis beside them unless more than these varies.
    """
    columns = {name: [point.get(*split_key(name.split("."))) for point in points] for name in _names(axes)}
    shown = {name: [labels.value_label(value) for value in column] for name, column in columns.items()}
    found = []
    for name in (name for name, column in shown.items() if len(set(column)) > 1):
        inside = [column for other, column in shown.items() if other.startswith(f"{name}.")]
        same_entry = len({getattr(value, "name", None) for value in columns[name]}) == 1
        if not (inside and same_entry and len(set(zip(*inside, strict=True))) == len(set(shown[name]))):
            found.append(name)
    return tuple(found)


def _names(axes: Sequence[Axis]) -> list[str]:
    return [name for name in dict.fromkeys([*(axis.name for axis in axes), *SHORT]) if name != "seed"]


def cell_ids(points: Sequence[Point], varied: tuple[str, ...], report: Report) -> list[str]:
    """A unique id for each point; reports an include that is a cell of the suite already."""
    names = tuple(dict.fromkeys((*labels.LEADING, *varied)))
    known: dict[tuple[str, ...], Point] = {}
    ids: list[str] = []
    for point in points:
        values = axis_values(point, names)
        exact = (*(labels.value_label(value) for value in values.values()), str(point.values["seed"]))
        if point.sound and known.setdefault(exact, point) is not point:
            report(point.origin, "is a cell of the suite already; leave it out")
        ids.append(labels.cell_id(values, varied, point.values["seed"]))
    # What a file name cannot hold is written as "_", so different values may look alike; a digest tells them apart.
    alike: dict[str, list[int]] = {}
    for index, name in enumerate(ids):
        alike.setdefault(name.lower(), []).append(index)
    for group in alike.values():
        for index in group if len(group) > 1 else ():
            ids[index] += f"-{_digest(axis_values(points[index], names))}"
    return ids


def _digest(values: Mapping[str, Any]) -> str:
    text = dumps({axis: labels.value_label(value) for axis, value in values.items()})
    return hashlib.sha256(text.encode()).hexdigest()[:8]
