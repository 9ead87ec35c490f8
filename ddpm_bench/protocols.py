"""Protocols: what must agree before two values are compared, and which values support no claim.

A value says how it was measured. Part of that belongs to the cell that it was measured on (which sampler, how many
steps): cells are compared in it. All else, such as numbers of images, references, extractors and estimators, must be
the same, or the two values do not stand in one column, one difference or one claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_bench.errors import UserError

CELL = frozenset(
    {"sampler", "sampling_steps", "spacing", "thresholding", "first_step", "weights", "precision", "variance", "seed"}
)
"""Entries of a protocol that belong to the cell."""

Protocol = Mapping[str, Any]


def varied_axes(named: Sequence[str], cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The axes in which cells differ: those the suite names, in its order, then any other; the seed is none of them.

    An entry whose parameters vary as axes of their own (loss.weighting, of one loss) is no axis beside them.
    """
    names = dict.fromkeys([*named, *(name for cell in cells for name in cell["axes"])])
    columns = {name: [str(cell["axes"].get(name, "—")) for cell in cells] for name in names if name != "seed"}
    several = {name: column for name, column in columns.items() if len(set(column)) > 1}
    return [name for name in several if not _said_by_parameters(name, several)]


def _said_by_parameters(name: str, columns: Mapping[str, Sequence[str]]) -> bool:
    """Whether the labels of an axis are of one entry, and follow from those of its parameters."""
    inside = [column for other, column in columns.items() if other.startswith(f"{name}.")]
    entries = {label.partition("(")[0] for label in columns[name]}
    together = set(zip(*inside, columns[name], strict=True))
    return bool(inside) and len(entries) == 1 and len(together) == len(set(zip(*inside, strict=True)))


def must_agree(protocol: Protocol, varied: Sequence[str] = ()) -> dict[str, Any]:
    """The part of a protocol that must be the same, sorted by name.

    varied: the axes in which the cells differ on purpose; a dotted one stands for its last part.
    """
    ignored = CELL.union(varied, (name.rpartition(".")[2] for name in varied))
    return {name: value for name, value in sorted(protocol.items()) if name not in ignored}


def differences(first: Protocol, second: Protocol, varied: Sequence[str] = ()) -> list[str]:
    """What must agree and does not: "n_generated: 300 and 360", one text for each entry."""
    one, other = must_agree(first, varied), must_agree(second, varied)
    return [
        f"{name}: {one.get(name, 'not said')} and {other.get(name, 'not said')}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def require_equal(what: str, measured: Sequence[tuple[str, Protocol]], varied: Sequence[str] = ()) -> None:
    """Raise UserError unless all protocols agree; it names the first pair that does not, and in what.

    what: the values that they belong to ("bits_per_dim"); measured: (name of the cell, protocol) of each.
    """
    (first, protocol), *others = measured
    for name, other in others:
        found = differences(protocol, other, varied)
        if found:
            raise UserError(
                f"{what} of {first} and {name} was measured under different protocols ({'; '.join(found)}): evaluate "
                "both under one"
            )


def no_claim(protocol: Protocol) -> str | None:
    """Why a value that was measured like this supports no claim, or None."""
    if protocol.get("rank_deficient"):
        return "taken from too few images for its rank"
    if protocol.get("classes_of_data") is False:
        return "taken over classes that are not those of the data"
    return None
