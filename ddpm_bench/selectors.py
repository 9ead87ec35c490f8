"""Selectors: which cells an exclude, a claim, a reference or --only speaks of.

A selector is a table of short names or dotted keys. A name matches an entry whatever its parameters; a table matches
by name and by the parameters given, which may be defaults in the cell.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ddpm_bench import fields, registry
from ddpm_bench.errors import UserError, suggestion
from ddpm_bench.fields import Invalid, Report, describe, hints
from ddpm_bench.keys import ROOTS, SECTIONS, Mistaken, entry_axis, known_keys, name_of, split_key, written_name
from ddpm_bench.labels import value_label
from ddpm_bench.matrix import Point


@dataclass(frozen=True)
class Pattern:
    """An entry by its name (None: any) and some of its parameters."""

    name: str | None
    parameters: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Selector:
    """What is asked of some roots, all of which must match. path: where it was written; axes: what it speaks of."""

    terms: tuple[tuple[str, Any], ...]
    path: str
    axes: tuple[str, ...]

    def matches(self, point: Point) -> bool:
        """Whether the point has it all. A mistaken value counts as a match where it may mean what is asked for."""
        return all(_matches(wanted, point.get(root)) for root, wanted in self.terms)


def _matches(wanted: Any, value: Any) -> bool:
    if isinstance(value, Mistaken):
        asked, written = wanted.name if isinstance(wanted, Pattern) else wanted, written_name(value.written)
        return asked is None or written is None or bool(get_close_matches(str(asked), [str(written)]))
    if isinstance(wanted, Pattern):
        return (
            isinstance(value, registry.Entry)
            and wanted.name in (None, value.name)
            and all(_matches(item, getattr(value, name, Invalid)) for name, item in wanted.parameters)
        )
    return bool(type(wanted) is type(value) and wanted == value)


def parse(table: Any, path: str, points: Sequence[Point], report: Report) -> Selector | None:
    """The selector of a table, None after reporting unknown keys and values. points: what there is to select."""
    if not isinstance(table, Mapping):
        report(path, f"expected a table of short names or dotted keys, got {describe(table)}")
        return None
    if not table:
        report(path, "is empty: it would select everything")
        return None
    terms: list[tuple[str, Any]] = []
    axes: list[str] = []
    for key, value in table.items():
        found = _term(key.split("."), value, f"{path}.{key}", points, report)
        terms += found
        axes += [name_of(root, _named(wanted)) for root, wanted in found]
    if any(wanted is Invalid for _, wanted in terms):
        return None
    return Selector(tuple(terms), path, tuple(dict.fromkeys(axes)))


def _named(wanted: Any) -> tuple[str, ...]:
    """The keys inside an entry that a pattern without a name speaks of."""
    if isinstance(wanted, Pattern) and wanted.name is None and len(wanted.parameters) == 1:
        name, item = wanted.parameters[0]
        return (name, *_named(item))
    return ()


def _term(parts: list[str], value: Any, path: str, points: Sequence[Point], report: Report) -> list[tuple[str, Any]]:
    """What one key asks for: (root, Pattern or value), (root, Invalid) after reporting."""
    if parts[0] in SECTIONS and len(parts) == 1 and isinstance(value, Mapping) and value:
        inside = [
            _term([*parts, *key.split(".")], item, f"{path}.{key}", points, report) for key, item in value.items()
        ]
        return [term for terms in inside for term in terms]
    try:
        root, inner = split_key(parts)
    except KeyError:
        report(path, f"unknown key{suggestion('.'.join(parts), [*known_keys(), 'network'])}")
        return [("", Invalid)]
    for name in reversed(inner):
        value = {name: value}
    axis = entry_axis(ROOTS[root])
    if axis is not None:
        return [(root, _pattern(axis, value, path, [point.get(root) for point in points], report))]
    if inner:
        report(path, f"{name_of(root)} has no parameters: it is a value, not an entry")
        return [("", Invalid)]
    return [(root, fields.coerce(ROOTS[root], value, path, report))]


def _pattern(axis: str, value: Any, path: str, present: Sequence[Any], report: Report) -> Any:
    """A pattern from a name or a table; without a name its parameters are those of the entries that are present."""
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("name", ""), str) or not table:
        report(path, f"expected a name or a table {{name = …, parameters}}, got {describe(value)}")
        return Invalid
    name = table.get("name")
    if name is not None:
        try:
            classes = [registry.get(axis, name)]
        except UserError as problem:
            report(path, str(problem))
            return Invalid
    else:
        classes = list(dict.fromkeys(type(item) for item in present if isinstance(item, registry.Entry)))
    parameters = []
    for key, item in table.items():
        if key == "name":
            continue
        owners = [cls for cls in classes if key in hints(cls)]
        if not owners:
            if classes:
                known = list(dict.fromkeys(k for cls in classes for k in hints(cls)))
                report(f"{path}.{key}", f"unknown key{suggestion(key, known)}")
            return Invalid
        annotation = hints(owners[0])[key]
        inner_axis = entry_axis(annotation)
        if inner_axis is None:
            wanted = fields.coerce(annotation, item, f"{path}.{key}", report)
        else:
            inside = [getattr(entry, key) for entry in present if isinstance(entry, tuple(owners))]
            wanted = _pattern(inner_axis, item, f"{path}.{key}", inside, report)
        if wanted is Invalid:
            return Invalid
        parameters.append((key, wanted))
    return Pattern(name, tuple(parameters))


def select(
    table: Any, path: str, points: Sequence[Point], report: Report, within: Selector | None = None
) -> tuple[Selector | None, list[int]]:
    """The selector and the indices of the points that match it (and `within`); reports when there are none."""
    selector = parse(table, path, points, report)
    if selector is None:
        return None, []
    alone = [index for index, point in enumerate(points) if selector.matches(point)]
    if not alone:
        report(path, f"matches no cell{_why(selector, points)}")
        return None, []
    both = [index for index in alone if within is None or within.matches(points[index])]
    if not both:
        report(path, 'matches no cell of those that "where" leaves')
        return None, []
    return selector, both


def _why(selector: Selector, points: Sequence[Point]) -> str:
    """The first key that no cell fulfils, with what there is; else that no cell has all at once."""
    for root, wanted in selector.terms:
        values = [point.get(root) for point in points]
        if not any(_matches(wanted, value) for value in values):
            labels = dict.fromkeys(value_label(v) for v in values if not isinstance(v, Mistaken))
            return f": {name_of(root)} is {' or '.join(labels) or 'not known'} here"
    return ": none has all of this at once" if points else ""


def parse_only(text: str) -> Mapping[str, Any]:
    """The table of `--only key=value,…`: TOML values, a bare word is a string. Raises ValueError."""
    table: dict[str, Any] = {}
    for piece in _split(text):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not key or not value:
            raise ValueError(f'expected key=value,…, got "{piece.strip()}"')
        if key in table:
            raise ValueError(f"{key} is given twice; give --only twice for cells of either kind")
        try:
            table[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            if value[0] in "[{\"'":
                raise ValueError(f"{value} is not valid TOML; strings inside it need quotes") from None
            table[key] = value
    return table


def _split(text: str) -> list[str]:
    """Cut at the commas that stand outside of brackets and quotes."""
    pieces, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        else:
            depth += (char in "[{") - (char in "]}")
            if char == "," and depth == 0:
                pieces.append("")
                continue
        pieces[-1] += char
    return pieces
