"""From files to one table of tables: `extends`, `--set`, and where each key was written."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm_bench import _toml_lines
from ddpm_bench.errors import UserError
from ddpm_bench.fields import describe

NOT_INHERITED = ("extends", "name", "title")
"""Keys of the file itself: a suite that extends another has its own name, or their results would be one."""


@dataclass(frozen=True)
class Place:
    """Where a key was written: a line of a file (rank 0 is the suite, then what it extends), or a --set (rank −1)."""

    rank: int
    line: int
    text: str
    file: Path | None


@dataclass(frozen=True, kw_only=True)
class Document:
    """The merged tables of a suite.

    path: the suite as the user typed it; tables: with `extends` merged and --set applied; written: without --set;
    places: by dotted path; extends: the files that it extends, nearest first; overrides: every --set.
    """

    path: Path
    tables: dict[str, Any]
    written: dict[str, Any]
    places: Mapping[str, Place]
    extends: tuple[Path, ...] = ()
    overrides: tuple[str, ...] = field(default=())

    def place(self, path: str) -> Place:
        """Where the key was written; of a key that was not, where its table was; at last the top of the file."""
        while path:
            if path in self.places:
                return self.places[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return Place(0, 1, f"{self.path}:1", self.path)

    def where(self, path: str) -> str:
        """`suites/x.toml:9` or `--set training.steps=20`."""
        return self.place(path).text


def read(path: str | Path) -> Document:
    """The document of a suite file. Raises UserError: unreadable, not TOML, or `extends` that leads nowhere."""
    path = Path(path)
    tables, places, extends = _read(path, [])
    return Document(path=path, tables=tables, written=copy.deepcopy(tables), places=places, extends=extends)


def _read(path: Path, above: list[Path]) -> tuple[dict[str, Any], dict[str, Place], tuple[Path, ...]]:
    try:
        # Universal newlines, as tomllib itself normalises them: both then count the same lines.
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise UserError(f"{path}: cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise UserError(f"{path}: is not UTF-8 text: {problem}") from problem
    try:
        own = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise UserError(_syntax(path, text, str(problem))) from problem
    rank = len(above)
    own_places = {key: Place(rank, line, f"{path}:{line}", path) for key, line in _toml_lines.lines(text).items()}
    if "extends" not in own:
        return own, own_places, ()
    where = own_places["extends"].text
    if not isinstance(own["extends"], str):
        raise UserError(f"{where}: extends: expected the path of a suite, got {describe(own['extends'])}")
    base_path = path.parent / own["extends"]
    seen = [item.resolve() for item in [*above, path]]
    if base_path.resolve() in seen:
        raise UserError(f"{where}: extends: {base_path} extends this file; one of the two must stand alone")
    if not base_path.is_file():
        raise UserError(f"{where}: extends: {base_path}: no such file")
    base, base_places, bases = _read(base_path, [*above, path])
    for key in NOT_INHERITED:
        base.pop(key, None)
    places = {key: place for key, place in base_places.items() if key not in NOT_INHERITED}
    merged = _merge(base, own, "", places)
    return merged, {**places, **own_places}, (base_path, *bases)


def _syntax(path: Path, text: str, problem: str) -> str:
    """tomllib's message with the line in front."""
    match = re.fullmatch(r"(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)", problem, re.DOTALL)
    assert match is not None, problem
    line = match[2] or str(len(text.rstrip().splitlines()) or 1)
    column = f" (column {match[3]})" if match[3] else " (at the end of the file)"
    return f"{path}:{line}: not valid TOML: {match[1][:1].lower()}{match[1][1:]}{column}"


def _merge(base: Any, own: Any, path: str, places: dict[str, Place]) -> Any:
    """What the nearer file says over what the farther one says: tables key by key, all else replaced.

    A table that names another entry replaces the one below it, whose parameters are not its own; parameters without
    a name go to the entry below, named plainly or in a table. places: loses what was replaced.
    """
    if isinstance(own, dict) and isinstance(base, str) and path:
        base = {"name": base}
    if (
        not isinstance(own, dict)
        or not isinstance(base, dict)
        or (path and own.get("name", "") not in ("", base.get("name")))
    ):
        _forget(places, path)
        return own
    merged = dict(base)
    for key, value in own.items():
        below = _toml_lines.join(path, key)
        merged[key] = _merge(base[key], value, below, places) if key in base else value
    return merged


def _forget(places: dict[str, Place], path: str) -> None:
    for known in [known for known in places if known == path or known.startswith((f"{path}.", f"{path}["))]:
        del places[known]


def apply(document: Document, assignments: Sequence[str]) -> Document:
    """The document with every `key=value` of --set; a shorter key is set before a longer one, the last one wins.

    A name of another entry replaces it with its parameters. Raises UserError with every assignment that is none.
    """
    tables, places = copy.deepcopy(document.tables), dict(document.places)
    problems: list[str] = []
    parsed: list[tuple[list[str], Any, str]] = []
    for assignment in assignments:
        try:
            keys, value = parse_assignment(assignment)
        except ValueError as problem:
            problems.append(f"--set {assignment}: {problem}")
            continue
        parsed.append((keys, value, f"--set {assignment}"))
    for rank, (keys, value, text) in enumerate(sorted(parsed, key=lambda item: len(item[0]) - (item[0][-1] == "name"))):
        try:
            _assign(tables, keys, value, places)
        except ValueError as problem:
            problems.append(f"{text}: {problem}")
            continue
        path, place = ".".join(keys), Place(-1, rank, text, None)
        _forget(places, path)
        places[path] = place
        if keys[-1] == "name":
            places.setdefault(".".join(keys[:-1]), place)
    if problems:
        raise UserError(problems)
    return dataclasses.replace(document, tables=tables, places=places, overrides=(*document.overrides, *assignments))


def parse_assignment(text: str) -> tuple[list[str], Any]:
    """The keys and the value of `key=value`. Raises ValueError, whose text says what is expected."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key or not value:
        raise ValueError("expected key=value")
    try:
        node: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        raise ValueError(f'"{key}" is no dotted key such as training.steps') from None
    keys = []
    while isinstance(node, dict):
        [(name, node)] = node.items()
        keys.append(name)
    if keys == ["extends"]:
        raise ValueError("extends cannot be set; it says which file this one is")
    return keys, parse_value(value)


def parse_value(text: str) -> Any:
    """A TOML value; a bare word is a string. Raises ValueError for none, and where quotes or brackets do not close."""
    if not text.strip():
        raise ValueError("the value is empty")
    try:
        table = tomllib.loads(f"value = {text}")
        if set(table) == {"value"}:
            return table["value"]
    except tomllib.TOMLDecodeError:
        pass
    if text[0] in "[{\"'":
        raise ValueError(f"{text} is not valid TOML; strings inside it need quotes, which the shell must not remove")
    return text


def _assign(tables: dict[str, Any], keys: list[str], value: Any, places: dict[str, Place]) -> None:
    """Set the value in place. Raises ValueError where the way leads through something that is no table."""
    node = tables
    for depth, key in enumerate(keys[:-1], 1):
        if isinstance(node.get(key), str) and depth > 0:
            node[key] = {"name": node[key]}
        inner = node.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ValueError(f"{'.'.join(keys[:depth])} is {describe(inner)}, not a table; set it as a whole")
        node = inner
    if keys[-1] == "name" and len(keys) > 1 and node.get("name") != value:
        node.clear()
        _forget(places, ".".join(keys[:-1]))
    node[keys[-1]] = value


def to_json(value: Any) -> Any:
    """A TOML value as JSON holds it: dates and times as text."""
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value
