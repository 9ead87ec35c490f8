"""The identity of what is computed: canonical JSON of a specification and its SHA-256.

The same function serves the plan, the finished artifact and the tests, so a key can be recomputed from a manifest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any

IDENTITY_VERSION = 1
"""Raised when the rules of this module change: every key changes with it."""


def canonical(value: Any) -> Any:
    """The JSON form of a specification that is hashed, stored in manifests and shown by `plan`.

    A registered entry (any dataclass with `identity()`) says its own; other dataclasses give their fields, except
    one with metadata `omit_at` while it has that value (a field added later reproduces old keys that way).
    Raises TypeError for anything that JSON cannot hold exactly (non-finite floats included).
    """
    if hasattr(value, "identity"):
        return canonical(value.identity())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return canonical(identity_fields(value))
    if isinstance(value, dict):
        return {str(name): canonical(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise TypeError(f"{value!r} has no canonical form")


def identity_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that enter its key, floats coerced where the annotation says float."""
    fields = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if "omit_at" in field.metadata and item == field.metadata["omit_at"]:
            continue
        kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
        if kind.startswith("float") and isinstance(item, int) and not isinstance(item, bool):
            item = float(item)
        fields[field.name] = item
    return fields


def dumps(value: Any) -> str:
    """Canonical JSON text: sorted names, no white space, shortest floats."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_key(stage: str, version: int, spec: Any, inputs: dict[str, str]) -> str:
    """SHA-256 (64 hex digits) over identity version, stage, stage VERSION, specification and the keys of the inputs."""
    text = dumps({"identity": IDENTITY_VERSION, "stage": stage, "version": version, "spec": spec, "inputs": inputs})
    return hashlib.sha256(text.encode()).hexdigest()
