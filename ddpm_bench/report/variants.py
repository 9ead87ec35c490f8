"""Cells that differ in nothing but the seed are one variant; its numbers are summarised over seeds.

With two seeds or more: mean ± t_{0.975, n−1} · s/√n. With one: the value ± its standard error, over images or, of
quality, over independent generations, which says nothing about another training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ddpm_bench import protocols
from ddpm_bench.protocols import must_agree, no_claim
from ddpm_bench.report import words
from ddpm_bench.report.source import ResultsView
from ddpm_bench.statistics import t_half_width

Cell = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric under one protocol: values measured differently never share a column."""

    metric: str
    protocol: dict[str, Any]
    unit: str
    higher_is_better: bool
    decimals: int
    number: int = 0
    """Counts the protocols of a metric that has several: 1, 2, …; 0 when it has one."""

    @property
    def title(self) -> str:
        """The heading, without the arrow."""
        mark = f" [{self.number}]" if self.number else ""
        return words.metric(self.metric) + mark

    @property
    def no_claim(self) -> str | None:
        """Why its values support no claim and no ranking, or None."""
        return no_claim(self.protocol)

    @property
    def rank_deficient(self) -> bool:
        """Whether the covariance of so few images has no full rank: such a Fréchet distance supports no claim."""
        return bool(self.protocol.get("rank_deficient"))

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.higher_is_better else "↓"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A variant's number in a column.

    mean: over the seeds in `cells` (their ids, in order of the seed); error: half width of the 95 % t interval (kind
    "t"), standard error (kind "stderr") or None; over: what a standard error is taken over; reason: why there is no
    number.
    """

    cells: tuple[str, ...] = ()
    mean: float | None = None
    error: float | None = None
    kind: Literal["t", "stderr"] | None = None
    over: str = "over images"
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Cells that differ in the seed only. axes: varied axis → label; label: their words, in print."""

    axes: dict[str, str]
    label: str
    cells: tuple[Cell, ...]

    @property
    def key(self) -> str:
        """The varied labels joined: a stable name."""
        return " / ".join(self.axes.values()) or self.cells[0]["id"]

    @cached_property
    def done(self) -> tuple[Cell, ...]:
        """The cells that were finished."""
        return tuple(cell for cell in self.cells if cell["status"] == "done")

    def estimates(self, column: Column, varied: Sequence[str]) -> dict[int, tuple[Cell, dict[str, Any]]]:
        """Seed → cell and record, where a value exists under the column's protocol."""
        found = {}
        for cell in self.cells:
            record = cell.get("metrics", {}).get(column.metric)
            if record and record["value"] is not None and signature(record, varied) == column.protocol:
                found[cell["seed"]] = (cell, record)
        return found

    def summary(self, column: Column, varied: Sequence[str]) -> Summary:
        """The number of this variant in a column."""
        found = [self.estimates(column, varied)[seed] for seed in sorted(self.estimates(column, varied))]
        if not found:
            return Summary(reason=self._why_missing(column, varied))
        ids = tuple(cell["id"] for cell, _ in found)
        values = [float(record["value"]) for _, record in found]
        mean = math.fsum(values) / len(values)
        if len(values) > 1:
            return Summary(cells=ids, mean=mean, error=t_half_width(values), kind="t")
        error = found[0][1]["stderr"]
        over = standard_error(found[0][1])
        return Summary(cells=ids, mean=mean, error=error, kind=None if error is None else "stderr", over=over)

    def _why_missing(self, column: Column, varied: Sequence[str]) -> str:
        reasons = []
        for cell in self.cells:
            record = cell.get("metrics", {}).get(column.metric)
            if cell["status"] != "done":
                continue
            if record is None:
                reasons.append("not measured")
            elif record["value"] is None:
                reasons.append(record["reason"] or "not measured")
            elif signature(record, varied) != column.protocol:
                reasons.append("measured under another protocol, see the other column")
        statuses = sorted({cell["status"] for cell in self.cells})
        return "; ".join(dict.fromkeys(reasons)) or " and ".join(statuses)


def standard_error(record: dict[str, Any]) -> str:
    """What the standard error of a record is taken over, in words."""
    return str(record.get("protocol", {}).get("standard_error", "over images"))


def varied_axes(view: ResultsView) -> list[str]:
    """The axes in which cells differ, in the order of the suite."""
    return protocols.varied_axes(view.data["axes"], view.cells)


def variants(view: ResultsView) -> list[Variant]:
    """The variants in matrix order."""
    varied = varied_axes(view)
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in view.cells:
        groups.setdefault(tuple(str(cell["axes"].get(name, "—")) for name in varied), []).append(cell)
    found = []
    for labels, cells in groups.items():
        axes = dict(zip(varied, labels, strict=True))
        label = ", ".join(words.phrase(name, item) for name, item in axes.items()) or cells[0]["label"]
        found.append(Variant(axes=axes, label=label, cells=tuple(sorted(cells, key=lambda cell: cell["seed"]))))
    return found


def signature(record: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """The part of a record's protocol that values of one column share."""
    return must_agree(record.get("protocol", {}), varied)


def columns(view: ResultsView, names: Sequence[str]) -> list[Column]:
    """A column for each metric and protocol, in the order in which they occur."""
    varied = varied_axes(view)
    groups = variants(view)
    found = []
    for name in names:
        records = [cell["metrics"][name] for cell in view.cells if name in cell.get("metrics", {})]
        measured = [record for record in records if record["value"] is not None]
        protocols: dict[str, list[dict[str, Any]]] = {}
        for record in measured or records[:1]:
            protocols.setdefault(json.dumps(signature(record, varied), sort_keys=True), []).append(record)
        for index, group in enumerate(protocols.values()):
            draft = Column(
                metric=name,
                protocol=signature(group[0], varied),
                unit=group[0]["unit"],
                higher_is_better=group[0]["higher_is_better"],
                decimals=0,
                number=index + 1 if len(protocols) > 1 else 0,
            )
            summaries = [variant.summary(draft, varied) for variant in groups]
            decimals = words.digits(
                [item.error for item in summaries if item.error is not None],
                [item.mean for item in summaries if item.mean is not None],
            )
            found.append(Column(**{**vars(draft), "decimals": decimals}))
    return found


def metric_names(view: ResultsView) -> list[str]:
    """Every metric of the suite, in the order in which cells hold them."""
    return list(dict.fromkeys(name for cell in view.cells for name in cell.get("metrics", {})))


def headline_names(view: ResultsView) -> list[str]:
    """The metrics that stand for themselves in some suite of the view: no parts of bits/dim, no companions."""
    parts = [metric_names(part) for part in view.views]
    return list(dict.fromkeys(name for names in parts for name in names if not words.is_companion(name, names)))


def metrics_with_table(view: ResultsView, table: str) -> list[str]:
    """The metrics that leave a table of this name beside their values, other references and numbers left out."""
    found = dict.fromkeys(
        name for cell in view.cells for name, tables in (cell.get("tables") or {}).items() if table in tables
    )
    return [name for name in found if not words.is_companion(name, found)]


def significantly_better(first: dict[int, float], second: dict[int, float], higher_is_better: bool) -> bool:
    """Whether `first` beats `second` (seed → value): the 95 % t interval of the differences at equal seed is on the
    better side of 0.

    False with fewer than two common seeds: one training of each says nothing about the next.
    """
    sign = 1 if higher_is_better else -1
    gains = [sign * (first[seed] - second[seed]) for seed in sorted(first) if seed in second]
    return len(gains) >= 2 and math.fsum(gains) / len(gains) > t_half_width(gains)


def best(groups: Sequence[Variant], column: Column, varied: Sequence[str]) -> list[Variant]:
    """The variants that no other one significantly beats; none when the column has no significant difference.

    A variant with fewer than two seeds is never among them.
    """
    values = [
        {seed: record["value"] for seed, (_, record) in variant.estimates(column, varied).items()} for variant in groups
    ]
    lost = [
        any(significantly_better(rival, own, column.higher_is_better) for rival in values if rival is not own)
        for own in values
    ]
    if not any(lost):
        return []
    return [group for group, own, beaten in zip(groups, values, lost, strict=True) if len(own) >= 2 and not beaten]
