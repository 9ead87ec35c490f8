"""Prediction × objective: the entries of the results table as a grid, in the form of Ho et al. 2020, Table 2.

Nothing is averaged: a field is one variant. Other axes that vary give a grid for each of their combinations.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ddpm_bench.report import words
from ddpm_bench.report.illegal import is_illegal
from ddpm_bench.report.table import Entry, Row, Table
from ddpm_bench.report.variants import Column, Variant

DOWN = "prediction"
ACROSS = ("loss", "variance")
MAX_METRICS = 3
"""Metrics with a grid: the first of the results table."""
MAX_CONTEXTS = 4
"""Combinations of the other axes; where there are more, the first is shown."""
MAX_COLUMNS = 6
"""Objectives; where there are more, those that are illegal whatever is predicted have no column."""

Place = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Field:
    """One variant in a grid. entry: that of the results table, None where the suite has no such variant; blank: why
    there is no number, with the number of its note (0: none); seeds: "1 of 2 seeds, 1 failed" where some have none."""

    entry: Entry | None
    blank: str = ""
    note: int = 0
    seeds: str = ""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One combination of the other axes (label, empty where none varies): lines are (what is predicted, fields)."""

    label: str
    lines: list[tuple[str, list[Field]]]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One metric."""

    column: Column
    blocks: list[Block]


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """The section. heads: the columns in groups, (loss, variances), or (objective, [""]) where one axis alone varies;
    notes: reasons by number − 1; rest: what is not shown, in sentences."""

    heads: list[tuple[str, list[str]]]
    grids: list[Grid]
    notes: list[str]
    rest: str

    @property
    def kinds(self) -> set[str]:
        """What is behind ±: "t", "stderr"."""
        fields = [field for grid in self.grids for block in grid.blocks for _, line in block.lines for field in line]
        return {field.entry.summary.kind for field in fields if field.entry and field.entry.summary.kind}


def objectives(table: Table) -> Objectives | None:
    """The grids of a results table; None unless the prediction varies and the loss or σ² does."""
    layout = _Layout(table)
    if len(layout.down) < 2 or len(layout.across) < 2 or not layout.contexts:
        return None
    several = len(layout.contexts) > MAX_CONTEXTS
    shown, notes = layout.contexts[: 1 if several else None], dict[str, int]()
    measured = [
        (index, column)
        for index, column in enumerate(table.columns)
        if any((it := row.entries[index]) and (it.published or it.summary.mean is not None) for row in table.rows)
    ]
    chosen = list(dict.fromkeys(column.metric for _, column in measured))[:MAX_METRICS]
    grids = [
        Grid(column=column, blocks=[layout.block(context, index, notes) for context in shown])
        for index, column in measured
        if column.metric in chosen
    ]
    rest = []
    if several:
        rest.append(
            f"Shown is {layout.label(layout.context_axes, shown[0])}, the first of {len(layout.contexts)} combinations "
            "of the other axes; the results table has all of them."
        )
    if layout.left_out:
        verb = "is" if layout.left_out == 1 else "are"
        rest.append(f"{words.count(layout.left_out, 'objective')} {verb} illegal whatever is predicted and left out.")
    return Objectives(heads=layout.heads(), grids=grids, notes=list(notes), rest=" ".join(rest)) if grids else None


class _Layout:
    """Which variant stands where. An axis that is fixed by the prediction, or by the objective, belongs to it."""

    def __init__(self, table: Table):
        self.down: dict[Place, None] = {}
        self.across: dict[Place, None] = {}
        self.contexts: list[Place] = []
        self.left_out = 0
        self.rows = {row.variant.key: row for row in table.rows if row.variant}
        own = [name for root in ACROSS for name in table.axes if name.partition(".")[0] == root]
        if DOWN not in table.axes or not own:
            return
        groups = [row.variant for row in self.rows.values() if row.variant]
        others = [name for name in table.axes if name not in (DOWN, *own)]
        self.down_axes = [DOWN, *(name for name in others if _fixed_by([DOWN], name, groups))]
        left = [name for name in others if name not in self.down_axes]
        self.across_axes = [*own, *(name for name in left if _fixed_by(own, name, groups))]
        self.context_axes = [name for name in left if name not in self.across_axes]
        self.own = own
        self.places = {self._place(group): row for group, row in zip(groups, self.rows.values(), strict=True)}
        self._order(list(dict.fromkeys(group.axes[own[0]] for group in groups)))

    def _order(self, losses: list[str]) -> None:
        """Rows, columns (those of one loss together) and combinations of the other axes, in the order of the suite."""
        columns: dict[Place, list[Place]] = {}
        for context, down, across in self.places:
            self.down.setdefault(down)
            columns.setdefault(context, []).append(across)
        # Where no two predictions share an objective, a grid would compare nothing.
        self.contexts = [context for context, found in columns.items() if len(set(found)) < len(found)]
        every = dict.fromkeys(across for _, _, across in self.places)
        legal = {place[2] for place, row in self.places.items() if row.variant and not is_illegal(row.variant)}
        kept = [across for across in every if across in legal or len(every) <= MAX_COLUMNS]
        self.left_out = len(every) - len(kept)
        self.across = dict.fromkeys(sorted(kept, key=lambda across: losses.index(across[0])))

    def _place(self, group: Variant) -> tuple[Place, Place, Place]:
        axes = (self.context_axes, self.down_axes, self.across_axes)
        context, down, across = (tuple(group.axes[name] for name in names) for names in axes)
        return context, down, across

    @staticmethod
    def label(names: list[str], place: Place) -> str:
        """The values of these axes in words."""
        return ", ".join(words.phrase(name, item) for name, item in zip(names, place, strict=True))

    def heads(self) -> list[tuple[str, list[str]]]:
        """The columns, those of one loss together."""
        if len(self.own) == 1:
            return [(self.label(self.across_axes, place), [""]) for place in self.across]
        found: dict[str, list[str]] = {}
        for place in self.across:
            loss = words.phrase(self.own[0], place[0])
            found.setdefault(loss, []).append(self.label(self.across_axes[1:], place[1:]))
        return list(found.items())

    def block(self, context: Place, index: int, notes: dict[str, int]) -> Block:
        """One combination of the other axes, with the entries of a column of the table."""
        present = [down for down in self.down if any((context, down, across) in self.places for across in self.across)]
        lines = [
            (
                self.label(self.down_axes, down),
                [_field(self.places.get((context, down, across)), index, notes) for across in self.across],
            )
            for down in present
        ]
        return Block(label=self.label(self.context_axes, context), lines=lines)


def _fixed_by(names: list[str], name: str, groups: list[Variant]) -> bool:
    """Whether variants that agree in `names` agree in `name`."""
    found: dict[Place, str] = {}
    return all(found.setdefault(tuple(g.axes[n] for n in names), g.axes[name]) == g.axes[name] for g in groups)


def _field(row: Row | None, index: int, notes: dict[str, int]) -> Field:
    if row is None or row.variant is None:
        return Field(entry=None, blank="not in the suite")
    entry, cells = row.entries[index], row.variant.cells
    if entry is not None and entry.summary.mean is not None:
        return Field(entry=entry, seeds=_seeds(row.variant, len(entry.summary.cells)))
    if is_illegal(row.variant):
        blank, reason = "illegal", cells[0]["reason"]
    elif row.variant.done:
        blank, reason = "no value", entry.summary.reason if entry else ""
    else:
        blank = " and ".join(dict.fromkeys(cell["status"] for cell in cells))
        reason = "; ".join(dict.fromkeys(reason for _, reason in row.troubles if reason))
    return Field(entry=entry, blank=blank, note=notes.setdefault(reason, len(notes) + 1) if reason else 0)


def _seeds(variant: Variant, number: int) -> str:
    if number == len(variant.cells):
        return ""
    ended = Counter(cell["status"] for cell in variant.cells if cell["status"] != "done")
    parts = [f"{number} of {words.count(len(variant.cells), 'seed')}"]
    return ", ".join([*parts, *(f"{count} {status}" for status, count in ended.items())])
