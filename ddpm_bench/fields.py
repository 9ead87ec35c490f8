"""Typed values from TOML: one walk over annotations that reports every problem with its path.

The annotations in use are bool, int, float, str, Literal, X | None, tuple[X, ...] and the base class of an axis,
whose value is a registered name or a table `{name = …, parameters}`. An int is welcome where a float is expected
(and becomes one, so that `eta = 1` and `eta = 1.0` are one run); nothing else is converted silently.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ddpm_bench import registry
from ddpm_bench.errors import FieldError, UserError, suggestion

Report = Callable[[str, str], None]
"""Called with (dotted path, text) for every problem."""

T = TypeVar("T")


class Invalid:
    """The value of a field that had a problem (which was reported)."""


@cache
def hints(cls: type) -> dict[str, Any]:
    """The annotations of the dataclass fields, resolved."""
    resolved = get_type_hints(cls)
    return {field.name: resolved[field.name] for field in dataclasses.fields(cls)}


def build(cls: type[T], table: Mapping[str, Any], path: str, report: Report) -> T | type[Invalid]:
    """An instance of the dataclass from a table; Invalid after reporting when anything is wrong.

    path: where the table stands ("training"), the prefix of every reported path.
    """
    known = hints(cls)  # type: ignore[arg-type]  # a class is hashable
    values: dict[str, Any] = {}
    sound = True
    for name, value in table.items():
        if name not in known:
            report(f"{path}.{name}", f"unknown key{suggestion(name, list(known))}")
            sound = False
            continue
        values[name] = coerce(known[name], value, f"{path}.{name}", report)
        sound &= values[name] is not Invalid
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        missing = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if missing and field.name not in table:
            report(path, f'"{field.name}" is missing')
            sound = False
    if not sound:
        return Invalid
    try:
        return cls(**values)
    except FieldError as problem:
        report(f"{path}.{problem.field}", problem.text)
        return Invalid


def coerce(annotation: Any, value: Any, path: str, report: Report) -> Any:
    """The value as the annotation wants it; Invalid after reporting when it cannot be."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _coerce_union(get_args(annotation), value, path, report)
    if origin is Literal:
        known = get_args(annotation)
        if value in known and type(value) in {type(item) for item in known}:
            return value
        hint = suggestion(value, [str(k) for k in known]) if isinstance(value, str) else ""
        report(
            path,
            f"{show(value)} is not one of {', '.join(show(k) for k in known)}"
            if not hint
            else f"unknown value {show(value)}{hint}",
        )
        return Invalid
    if origin is tuple:
        if not isinstance(value, list | tuple):
            report(path, f"expected a list, got {describe(value)}")
            return Invalid
        items = [coerce(get_args(annotation)[0], item, f"{path}[{i}]", report) for i, item in enumerate(value)]
        return Invalid if Invalid in items else tuple(items)
    if isinstance(annotation, type) and issubclass(annotation, registry.Entry):
        return entry(annotation.axis, value, path, report)
    return _coerce_scalar(annotation, value, path, report)


def entry(axis: str, value: Any, path: str, report: Report) -> Any:
    """A registered entry from its name or a table `{name = …, parameters}`."""
    if isinstance(value, registry.Entry):
        return value
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        report(path, f"expected a name or a table {{name = …}}, got {describe(value)}")
        return Invalid
    try:
        cls = registry.get(axis, table["name"])
    except UserError as problem:
        report(path, str(problem))
        return Invalid
    return build(cls, {name: item for name, item in table.items() if name != "name"}, path, report)


def _coerce_union(options: tuple[Any, ...], value: Any, path: str, report: Report) -> Any:
    if value is None and type(None) in options:
        return None
    kinds = [option for option in options if option is not type(None)]
    if len(kinds) == 1:
        return coerce(kinds[0], value, path, report)
    if all(option in _WORDS or get_origin(option) is Literal for option in kinds):
        return _coerce_simple(kinds, value, path, report)
    problems: list[tuple[str, str]] = []
    for option in kinds:
        found: list[tuple[str, str]] = []
        result = coerce(option, value, path, lambda p, text, found=found: found.append((p, text)))  # type: ignore[misc]
        if result is not Invalid:
            return result
        problems.append(found[0])
    texts = [text for where, text in problems]
    report(problems[0][0], texts[0] if len(set(texts)) == 1 else " or ".join(dict.fromkeys(texts)))
    return Invalid


def _coerce_simple(kinds: Sequence[Any], value: Any, path: str, report: Report) -> Any:
    """One of several kinds of scalars and literals: the first that takes the value, or one message for all."""
    for kind in kinds:
        found = coerce(kind, value, path, lambda *_: None)
        if found is not Invalid:
            return found
    known = [item for kind in kinds if get_origin(kind) is Literal for item in get_args(kind)]
    expected = [*(_WORDS[kind] for kind in kinds if kind in _WORDS), *map(show, known)]
    hint = suggestion(value, [str(item) for item in known]) if isinstance(value, str) else ""
    hint = "" if hint.startswith("; known") else hint  # they are named before
    report(path, f"expected {' or '.join(expected)}, got {describe(value)}{hint}")
    return Invalid


_WORDS: dict[type, str] = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def _coerce_scalar(kind: type, value: Any, path: str, report: Report) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        report(path, f"expected a finite number, got {value}")
        return Invalid
    if kind in _WORDS and type(value) is kind:
        return value
    report(path, f"expected {_WORDS.get(kind, kind)}, got {describe(value)}")
    return Invalid


def show(value: Any) -> str:
    """A value as it stands in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {show(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def describe(value: Any) -> str:
    """A value with its kind, for error messages."""
    kinds = {bool: "the boolean", int: "the integer", float: "the number", str: "the string", list: "the list"}
    return f"{kinds.get(type(value), 'the table' if isinstance(value, Mapping) else 'the value')} {show(value)}"
