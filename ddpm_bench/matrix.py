"""What varies: the axes of [matrix], the variants of [[include]], and the points that they make.

A point is the fields of one cell by their root ("diffusion.loss", "network", "seed"). Points exist also where some of
the input was wrong (that field is a `Mistaken`), so that the rest of the suite can still be checked against them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ddpm_bench import fields, registry
from ddpm_bench.datasets import Dataset
from ddpm_bench.errors import FieldError, UserError, suggestion
from ddpm_bench.fields import Invalid, Report, describe, hints, show
from ddpm_bench.keys import ROOTS, SECTIONS, SHORT, Mistaken, inner_annotation, known_keys, name_of, split_key
from ddpm_bench.networks import Network


@dataclass(frozen=True)
class Axis:
    """One key of [matrix]. name: short where there is a short one; inner: parameters of the entry at the root."""

    name: str
    root: str
    inner: tuple[str, ...]
    path: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Point:
    """The fields of one cell by root; varied: where in the suite those that differ from the base were written."""

    values: Mapping[str, Any]
    origin: str
    varied: Mapping[str, str] = field(default_factory=dict)
    variant: str | None = None

    @property
    def sound(self) -> bool:
        """Whether every field has a value."""
        return not any(isinstance(value, Mistaken) for value in self.values.values())

    def get(self, root: str, inner: tuple[str, ...] = ()) -> Any:
        """The value in force: thresholding that was left out depends on the data (as in `spec.Cell`).

        None for a parameter that the entry does not have.
        """
        value = self.values[root]
        if value is None and root == SHORT["thresholding"]:
            data = self.values["dataset"]
            return Mistaken(None) if isinstance(data, Mistaken) else "none" if data.levels is None else "clip"
        for name in inner:
            value = getattr(value, name, None)
        return value


def read_base(tables: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """The fields of the one cell that the tables describe, by root, the data set with them."""
    base: dict[str, Any] = {"seed": 0}
    if "dataset" in tables:
        base["dataset"] = _coerce(Dataset, tables["dataset"], "dataset", report)
    else:
        report("dataset", 'the table is missing: which data? [dataset] name = "…"')
        base["dataset"] = Mistaken(None)
    for section, cls in SECTIONS.items():
        table = tables.get(section, {})
        if not isinstance(table, Mapping):
            report(section, f"expected a table, got {describe(table)}")
            table = {}
        for name in (name for name in table if name not in hints(cls)):
            report(f"{section}.{name}", f"unknown key{suggestion(name, list(hints(cls)))}")
        for item in dataclasses.fields(cls):
            root = f"{section}.{item.name}"
            if item.name in table:
                base[root] = _coerce(ROOTS[root], table[item.name], root, report)
            else:
                default = item.default_factory
                base[root] = item.default if default is dataclasses.MISSING else default()
    network = tables.get("network", "unet")
    if isinstance(network, Mapping):
        network = {"name": "unet", **network}
    base["network"] = _coerce(Network, network, "network", report)
    return base


def _coerce(annotation: Any, value: Any, path: str, report: Report) -> Any:
    result = fields.coerce(annotation, value, path, report)
    return Mistaken(value) if result is Invalid else result


def leaves(table: Mapping[str, Any], path: str) -> Iterator[tuple[list[str], str, Any]]:
    """(key parts, path, value) of what stands below a table: all that is no table, or an entry given as a table.

    A quoted dotted key is a dotted key.
    """
    for key, value in table.items():
        below = f"{path}.{key}"
        if isinstance(value, Mapping) and value and not isinstance(value.get("name"), str):
            for parts, deeper, item in leaves(value, below):
                yield [*key.split("."), *parts], deeper, item
        else:
            yield key.split("."), below, value


def read_axes(table: Any, base: Mapping[str, Any], report: Report) -> list[Axis]:
    """The axes of [matrix], seed last; each value is checked once."""
    if not isinstance(table, Mapping):
        report("matrix", f"expected a table of lists, got {describe(table)}")
        table = {}
    axes: list[Axis] = []
    for parts, path, values in leaves(table, "matrix"):
        try:
            root, inner = split_key(parts)
        except KeyError:
            word = ".".join(parts)
            if parts[0] in ("dataset", "evaluation"):
                report(path, f"{parts[0]} cannot vary: a suite has one data set and one protocol")
            else:
                report(path, f"unknown key{suggestion(word, known_keys())}")
            continue
        clash = next((a for a in axes if a.root == root and _overlap(a.inner, inner)), None)
        if clash is not None:
            report(path, f"{name_of(root, inner)} varies already in {clash.path}")
            continue
        annotation = inner_annotation(root, inner, base[root], path, report)
        if annotation is Invalid:
            continue
        axes.append(Axis(name_of(root, inner), root, inner, path, _values(annotation, values, path, report)))
    if not any(axis.root == "seed" for axis in axes):
        axes.append(Axis("seed", "seed", (), "matrix.seed", (0,)))
    return sorted(axes, key=lambda axis: axis.root == "seed")


def _overlap(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    shared = min(len(first), len(second))
    return first[:shared] == second[:shared]


def _values(annotation: Any, values: Any, path: str, report: Report) -> tuple[Any, ...]:
    if not isinstance(values, list):
        report(path, f"expected a list of values, got {describe(values)}; one value is [{show(values)}]")
        return (Mistaken(values),)
    if not values:
        report(path, "is empty: nothing to run; leave the key out for the value of the base tables")
        return (Mistaken(None),)
    found: list[Any] = []
    for index, value in enumerate(values):
        result = _coerce(annotation, value, f"{path}[{index}]", report)
        if path.endswith(".seed") and isinstance(result, int) and result < 0:
            report(f"{path}[{index}]", f"must not be negative, got {result}")
            result = Mistaken(value)
        if result in found:
            report(f"{path}[{index}]", f"{show(value)} stands in the list twice")
        else:
            found.append(result)
    return tuple(found)


def matrix_points(base: Mapping[str, Any], axes: list[Axis], report: Report) -> list[Point]:
    """The cross product of the axes, seed innermost."""
    varied = {axis.root: axis.path for axis in axes}
    origin = "matrix" if any(axis.root != "seed" for axis in axes) else ""
    rebuilt: dict[Any, Any] = {}
    points = []
    for combination in product(*(axis.values for axis in axes)):
        values = dict(base)
        inside: dict[str, list[tuple[Axis, Any]]] = {}
        for axis, value in zip(axes, combination, strict=True):
            if axis.inner:
                inside.setdefault(axis.root, []).append((axis, value))
            else:
                values[axis.root] = value
        for root, changes in inside.items():
            key = (root, tuple(value for _, value in changes))
            if key not in rebuilt:
                rebuilt[key] = _rebuild_root(base[root], changes, report)
            values[root] = rebuilt[key]
        points.append(Point(values, origin, varied))
    return points


def _rebuild_root(entry: Any, changes: list[tuple[Axis, Any]], report: Report) -> Any:
    if isinstance(entry, Mistaken) or any(isinstance(value, Mistaken) for _, value in changes):
        return entry if isinstance(entry, Mistaken) else Mistaken({"name": entry.name})
    try:
        return _rebuild(entry, {axis.inner: value for axis, value in changes})
    except FieldError as problem:
        guilty = next((axis for axis, _ in changes if axis.inner[-1] == problem.field), changes[0][0])
        report(guilty.path, f"{problem.field}: {problem.text}")
        return Mistaken({"name": entry.name})


def _rebuild(entry: Any, changes: Mapping[tuple[str, ...], Any]) -> Any:
    """The entry with other parameters, those of entries inside it included."""
    direct = {keys[0]: value for keys, value in changes.items() if len(keys) == 1}
    for name in {keys[0] for keys in changes if len(keys) > 1}:
        deeper = {keys[1:]: value for keys, value in changes.items() if keys[0] == name}
        direct[name] = _rebuild(getattr(entry, name), deeper)
    return dataclasses.replace(entry, **direct)


def include_points(
    table: Any, path: str, base: Mapping[str, Any], seeds: tuple[Any, ...], report: Report
) -> list[Point]:
    """The points of one [[include]]: the base tables with a variant's values or the short names given, every seed."""
    if not isinstance(table, Mapping):
        report(path, f"expected a table, got {describe(table)}")
        return []
    if not table:
        report(path, 'is empty; name a variant = "…" or short names such as prediction = "x0"')
        return []
    variant = table.get("variant")
    given: Mapping[str, Any] = table
    if "variant" in table:
        if len(table) > 1:
            report(path, "names a variant and short names; a variant differs in nothing but what it is named for")
            return []
        if not isinstance(variant, str):
            report(f"{path}.variant", f"expected a name, got {describe(variant)}")
            return []
        try:
            given = registry.get("variants", variant)()
        except UserError as problem:
            report(f"{path}.variant", str(problem))
            return []
        if not isinstance(given, Mapping) or not given:
            report(f"{path}.variant", f'"{variant}" returns no table of short names but {describe(given)}')
            return []
    values, varied = dict(base), {}
    for key, value in given.items():
        place = f"{path}.variant" if "variant" in table else f"{path}.{key}"
        if key not in SHORT or key == "seed":
            hint = "; every seed of the matrix is used" if key == "seed" else suggestion(key, [*SHORT, "variant"])
            report(place, f"unknown key{hint}" if given is table else f'sets "{key}", which is no short name')
            return []
        root = SHORT[key]
        values[root] = _coerce(ROOTS[root], value, place, report)
        varied[root] = place
    return [Point({**values, "seed": seed}, path, varied, variant) for seed in seeds]
