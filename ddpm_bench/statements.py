"""What a suite says about its results: [[claim]] and [[reference]], checked and bound to its cells.

Verdicts are made later, from results alone; here a selector becomes the ids of the cells that it selects.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ddpm_bench import fields
from ddpm_bench.errors import suggestion
from ddpm_bench.fields import Invalid, Report, describe, show
from ddpm_bench.matrix import Point
from ddpm_bench.metrics import QualityMetric
from ddpm_bench.metrics._resolve import Resolved, result_names
from ddpm_bench.selectors import Selector, select
from ddpm_bench.spec import Evaluation
from ddpm_bench.toml import to_json

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Side:
    """A selection: as the suite wrote it, and the ids of the cells that it means (`where` included)."""

    selector: dict[str, Any]
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim: either `better` and `than`, or `equivalent` within `margin`.

    metric: a name in results; axes: what the two sides speak of, so that all other axes are contexts; dataset: the
    one that the claim is bound to, if it says so.
    """

    statement: str
    metric: str
    axes: tuple[str, ...]
    source: str | None = None
    better: Side | None = None
    than: Side | None = None
    equivalent: tuple[Side, Side] | None = None
    margin: float | None = None
    where: dict[str, Any] | None = None
    dataset: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The claim as it stands in results.json, before its verdict."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A published value, shown beside the measured one. cells: the ids that it stands beside."""

    dataset: str
    metric: str
    value: float
    source: str
    cells: tuple[str, ...]
    protocol: Any = None
    checked: Any = None
    where: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The reference as it stands in results.json."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What statements are checked against.

    ids: of the cells, beside points; dataset: the suite's, None where it is not known; replaced: the one that --set
    replaced; metrics: None where the suite's are not known.
    """

    points: Sequence[Point]
    ids: Sequence[str]
    dataset: str | None
    replaced: str | None
    metrics: Sequence[Resolved] | None
    evaluation: Evaluation | None
    report: Report
    notes: list[str]

    def bound_elsewhere(self, dataset: str, path: str, what: str) -> bool:
        """Whether a statement about this data set is left out (noted) or refused (reported)."""
        if self.dataset is None or dataset == self.dataset:
            return False
        if dataset == self.replaced:
            self.notes.append(f"{what} is about {dataset}, which --set replaced by {self.dataset}: left out")
        else:
            self.report(f"{path}.dataset", f'"{dataset}" is not the data set of the suite, {self.dataset}')
        return True


CLAIM = {
    "statement": (str, True),
    "metric": (str, True),
    "source": (str, False),
    "margin": (float, False),
    "dataset": (str, False),
}
REFERENCE = {"dataset": (str, True), "metric": (str, True), "value": (float, True), "source": (str, True)}


def read_all(tables: Any, key: str, read: Callable[[Any, str, Context], T | None], context: Context) -> tuple[T, ...]:
    """Every [[key]] that holds."""
    if not isinstance(tables, list):
        context.report(key, f"expected [[{key}]] tables, got {describe(tables)}")
        return ()
    found = (read(table, f"{key}[{index}]", context) for index, table in enumerate(tables))
    return tuple(item for item in found if item is not None)


def read_claim(table: Any, path: str, context: Context) -> Claim | None:
    """One [[claim]], None after reporting or noting why not."""
    keys = (*CLAIM, "better", "than", "equivalent", "where")
    values = _scalars(table, path, CLAIM, keys, context.report)
    if values is None:
        return None
    if "dataset" in values and context.bound_elsewhere(values["dataset"], path, f'claim "{values.get("statement")}"'):
        return None
    report = context.report
    metric = _metric(values.get("metric"), f"{path}.metric", context)
    where = None
    if "where" in table:
        where, _ = select(table["where"], f"{path}.where", context.points, report)
    compared = "better" in table or "than" in table
    if compared == ("equivalent" in table):
        report(path, "needs either better and than, or equivalent and margin")
        return None
    if compared:
        sides = {side: table[side] for side in ("better", "than") if side in table}
        for side in ("better", "than"):
            if side not in table:
                report(path, f'"{side}" is missing')
        if "margin" in table:
            report(f"{path}.margin", "belongs to equivalent; a better cell is better by any amount")
    else:
        pair = table["equivalent"]
        if not isinstance(pair, list) or len(pair) != 2:
            report(f"{path}.equivalent", f"expected a list of two selectors, got {describe(pair)}")
            return None
        sides = {f"equivalent[{index}]": side for index, side in enumerate(pair)}
        if "margin" not in table:
            report(path, '"margin" is missing: equivalent within what?')
        elif values.get("margin", 1.0) <= 0:
            report(f"{path}.margin", f"must be positive, got {values['margin']}")
    chosen = {side: select(item, f"{path}.{side}", context.points, report, where) for side, item in sides.items()}
    if len(chosen) < 2 or not all(selector for selector, _ in chosen.values()):
        return None
    (_, (first, those)), (second_key, (second, these)) = chosen.items()
    assert first is not None
    assert second is not None
    if set(those) & set(these):
        report(f"{path}.{second_key}", "selects a cell that the other side selects too")
        return None
    if ("where" in table and where is None) or metric is None or "statement" not in values:
        return None
    one, other = (
        Side(selector=to_json(item), cells=tuple(context.ids[i] for i in indices))
        for item, (_, indices) in zip(sides.values(), chosen.values(), strict=True)
    )
    return Claim(
        statement=values["statement"],
        metric=metric,
        axes=_contrast(first, second),
        source=values.get("source"),
        better=one if compared else None,
        than=other if compared else None,
        equivalent=None if compared else (one, other),
        margin=values.get("margin"),
        where=to_json(table.get("where")),
        dataset=values.get("dataset"),
    )


def _contrast(first: Selector, second: Selector) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first.axes, *second.axes)))


def read_reference(table: Any, path: str, context: Context) -> Reference | None:
    """One [[reference]], None after reporting or noting why not."""
    values = _scalars(table, path, REFERENCE, (*REFERENCE, "protocol", "checked", "where"), context.report)
    if values is None:
        return None
    if "dataset" in values and context.bound_elsewhere(
        values["dataset"], path, f"reference {values.get('metric')} = {values.get('value')} of {values.get('source')}"
    ):
        return None
    metric = _metric(values.get("metric"), f"{path}.metric", context)
    for key, kinds, what in (
        ("protocol", (str, Mapping), "text or a table"),
        ("checked", (str, bool, datetime.date), "a date, text, true or false"),
    ):
        if key in table and not isinstance(table[key], kinds):
            context.report(f"{path}.{key}", f"expected {what}, got {describe(table[key])}")
    indices = list(range(len(context.points)))
    if "where" in table:
        _, indices = select(table["where"], f"{path}.where", context.points, context.report)
    if not indices or metric is None or len(values) < len(REFERENCE):
        return None
    return Reference(
        dataset=values["dataset"],
        metric=metric,
        value=values["value"],
        source=values["source"],
        cells=tuple(context.ids[index] for index in indices),
        protocol=to_json(table.get("protocol")),
        checked=to_json(table.get("checked")),
        where=to_json(table.get("where")),
    )


def _scalars(
    table: Any, path: str, schema: Mapping[str, tuple[Any, bool]], known: Sequence[str], report: Report
) -> dict[str, Any] | None:
    """The plain values of a table that are sound; None for what is no table."""
    if not isinstance(table, Mapping):
        report(path, f"expected a table, got {describe(table)}")
        return None
    for key in table:
        if key not in known:
            report(f"{path}.{key}", f"unknown key{suggestion(key, known)}")
    values = {}
    for key, (kind, required) in schema.items():
        if key in table:
            value = fields.coerce(kind, table[key], f"{path}.{key}", report)
            if value is not Invalid:
                values[key] = value
        elif required:
            report(path, f'"{key}" is missing')
    return values


def _metric(name: str | None, path: str, context: Context) -> str | None:
    """The name in results that a claim or reference means, None after reporting."""
    if name is None or context.metrics is None or context.evaluation is None:
        return None
    items = [item for item in context.metrics if item.metric.name == name]
    meant = [item.name for item in items]
    if len(meant) > 1:
        why = "is measured with several extractors" if len({i.extractor for i in items}) > 1 else "has several results"
        context.report(path, f'"{name}" {why}; say which: {", ".join(meant)}')
        return None
    if meant and meant[0] in result_names(context.metrics):
        return meant[0]
    known = result_names(context.metrics)
    for item in context.metrics:
        for suffix in item.metric.suffixes:
            if re.fullmatch(_pattern(item, suffix, context.evaluation), name):
                return name
    context.report(path, f"{show(name)} is not measured by this suite{suggestion(name, known)}")
    return None


def _pattern(item: Resolved, suffix: str, evaluation: Evaluation) -> str:
    """A pattern for the names of a result or a companion: of another split, another reference, fewer images."""
    name, suffix = re.escape(item.name), re.escape(suffix)
    if isinstance(item.metric, QualityMetric):
        return name + (r"(_test)?(_n\d+)?" if item.metric.uses_reference else r"(_n\d+)?") + suffix
    splits = [f"_{split}" for split in evaluation.splits if split != "test"]
    return name + suffix + (f"({'|'.join(splits)})?" if splits else "")
