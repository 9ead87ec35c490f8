"""The keys of a cell: short names, dotted keys, and what each may hold.

A root is a field that one cell has ("diffusion.loss", "network", "seed"); a key may go on inside the entry that stands
there ("network.channels", "loss.weighting").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from ddpm_bench import registry
from ddpm_bench.errors import suggestion
from ddpm_bench.fields import Invalid, Report, hints
from ddpm_bench.networks import Network
from ddpm_bench.spec import Diffusion, ReverseOptions, TrainingOptions

SECTIONS: dict[str, Any] = {"diffusion": Diffusion, "training": TrainingOptions, "reverse": ReverseOptions}
"""The tables whose fields are roots of their own."""

ROOTS: dict[str, Any] = {
    **{f"{section}.{name}": kind for section, cls in SECTIONS.items() for name, kind in hints(cls).items()},
    "network": Network,
    "seed": int,
}
"""What can vary, with its annotation."""

SHORT = {
    "prediction": "diffusion.prediction",
    "variance": "reverse.variance",
    "schedule": "diffusion.schedule",
    "loss": "diffusion.loss",
    "sampler": "reverse.sampler",
    "sampling_steps": "reverse.sampling_steps",
    "thresholding": "reverse.thresholding",
    "timesteps": "diffusion.timesteps",
    "seed": "seed",
}
"""The short names, in the order of ids and labels."""
_SHORT_OF = {root: name for name, root in SHORT.items()}


@dataclass(frozen=True, eq=False)
class Mistaken:
    """The value of a field that was wrong (and reported), as it was written; equal to nothing else."""

    written: Any


def split_key(parts: list[str]) -> tuple[str, tuple[str, ...]]:
    """(root, inner keys) of a short name or a dotted key. Raises KeyError for one that no cell has."""
    if parts[0] in SHORT:
        root, inner = SHORT[parts[0]], parts[1:]
    elif parts[0] == "network":
        root, inner = "network", parts[1:]
    else:
        root, inner = ".".join(parts[:2]), parts[2:]
    if root not in ROOTS or not all(inner):
        raise KeyError(".".join(parts))
    return root, () if inner == ["name"] else tuple(inner)


def name_of(root: str, inner: tuple[str, ...] = ()) -> str:
    """How an axis is called: its short name, or its dotted key."""
    return ".".join([_SHORT_OF.get(root, root), *inner])


def known_keys() -> list[str]:
    """Every short name and dotted key, for suggestions."""
    return [*SHORT, *(root for root in ROOTS if root not in _SHORT_OF), *SHORT.values()]


def entry_axis(annotation: Any) -> str | None:
    """The registry axis of a field that holds an entry, None of any other."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, registry.Entry):
            return kind.axis
    return None


def inner_annotation(root: str, inner: tuple[str, ...], value: Any, path: str, report: Report) -> Any:
    """The annotation of a parameter inside the entry at a root, which has this value; Invalid after reporting."""
    annotation = ROOTS[root]
    for part in inner:
        axis = entry_axis(annotation)
        cls = _class_of(value, axis) if axis else None
        if cls is None:
            if axis is None:
                report(path, f"{name_of(root)} has no parameters: it is a value, not an entry")
            return Invalid
        known = hints(cls)
        if part not in known:
            owner = f'{registry.axis_of(axis or "").key} "{cls.name}"'
            report(path, f'unknown key: {owner} has no parameter "{part}"{suggestion(part, list(known))}')
            return Invalid
        annotation = known[part]
        if not isinstance(value, Mistaken):
            value = getattr(value, part)
        else:
            value = Mistaken(value.written.get(part) if isinstance(value.written, Mapping) else None)
    return annotation


def _class_of(value: Any, axis: str) -> Any:
    """The class of an entry, of a mistaken one by the name it was given; None where that is no name."""
    if isinstance(value, registry.Entry):
        return type(value)
    name = written_name(value.written) if isinstance(value, Mistaken) else None
    return registry.get(axis, name) if name in registry.names(axis) else None


def written_name(written: Any) -> Any:
    """The name in what stands for an entry: itself, or a table's `name`."""
    return written.get("name") if isinstance(written, Mapping) else written
