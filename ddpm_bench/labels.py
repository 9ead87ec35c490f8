"""How a cell is called: labels for people, ids for files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ddpm_bench.fields import show
from ddpm_bench.registry import Entry

LEADING = ("prediction", "variance", "schedule", "loss")
"""The axes that every label and id begins with, varied or not."""
MAX_ID = 120
"""Characters of an id before it is cut (file systems allow 255 bytes, and names get suffixes)."""


def value_label(value: Any, symbol: bool = False) -> str:
    """The bare name of an entry with default parameters, else `name(parameter=value)`; other values as they are.

    symbol: the name as the field writes it (ε for epsilon), where the entry has one.
    """
    if isinstance(value, Entry):
        name = (value.symbol if symbol else None) or value.name
        inside = ", ".join(f"{key}={value_label(item)}" for key, item in value.parameters().items())
        return f"{name}({inside})" if inside else name
    if isinstance(value, tuple):
        return "[" + ", ".join(value_label(item) for item in value) + "]"
    return value if isinstance(value, str) else "default" if value is None else show(value)


def short_keys(axes: tuple[str, ...]) -> dict[str, str]:
    """{axis: the last part of its key, or the whole one where two axes end alike} of what the leading ones leave."""
    last = {axis: axis.rpartition(".")[2] for axis in axes if axis.partition(".")[0] not in LEADING}
    ends = list(last.values())
    return {axis: end if ends.count(end) == 1 else axis for axis, end in last.items()}


def cell_label(values: Mapping[str, Any], varied: tuple[str, ...]) -> str:
    """`ε, σ²=β, linear, L_simple, timesteps=100`: the four leading axes, then what else varies. values: by axis."""
    keys = short_keys(varied)
    parts = [value_label(values[axis], symbol=True) for axis in LEADING]
    parts += [f"{key}={value_label(values[axis])}" for axis, key in keys.items()]
    return ", ".join(parts)


def cell_id(values: Mapping[str, Any], varied: tuple[str, ...], seed: int) -> str:
    """`epsilon-beta-linear-simple-timesteps_100-s0`: letters, digits and `._-` only."""
    keys = short_keys(varied)
    parts = [value_label(values[axis]) for axis in LEADING]
    parts += [f"{key}_{value_label(values[axis])}" for axis, key in keys.items()]
    slugs = [re.sub(r"[^A-Za-z0-9._-]+", "_", part).strip("_") for part in parts]
    return f"{'-'.join(slugs)[:MAX_ID]}-s{seed}"
