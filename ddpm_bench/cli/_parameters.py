"""Parameters of one entry from --set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ddpm_bench import fields, toml
from ddpm_bench.errors import UserError


def parse(assignments: Sequence[str]) -> dict[str, Any]:
    """parameter → value. Raises UserError with every assignment that is none."""
    found: dict[str, Any] = {}
    problems = []
    for assignment in assignments:
        try:
            keys, value = toml.parse_assignment(assignment)
        except ValueError as problem:
            problems.append(f"--set {assignment}: {problem}")
        else:
            found[".".join(keys)] = value
    if problems:
        raise UserError(problems)
    return found


def required(cls: Any) -> list[str]:
    """The parameters of an entry class that have no default."""
    missing = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing]


def make(cls: Any, given: dict[str, Any]) -> Any:
    """The entry with these parameters. Raises UserError with every one that does not fit."""
    problems: list[str] = []
    entry = fields.build(cls, given, cls.name, lambda path, text: problems.append(f"{path}: {text}"))
    if problems:
        raise UserError(problems)
    return entry
