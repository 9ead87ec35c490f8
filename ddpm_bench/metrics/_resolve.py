"""Names of metrics in a suite → metrics with their extractors and the names of their results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ddpm_bench import fields
from ddpm_bench.errors import UserError, suggestion
from ddpm_bench.extractors import Extractor
from ddpm_bench.metrics import Metric, QualityMetric
from ddpm_bench.registry import get, names

DEFAULT_EXTRACTOR = "efficientnet_lite0"
"""Of a quality metric in a suite that names no extractor."""


@dataclass(frozen=True)
class Resolved:
    """One result of a metric to compute. name: of the result; part: which of the metric's it is; extractor: None for
    likelihood metrics."""

    metric: Metric
    extractor: Extractor | None
    name: str
    part: str = ""

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is a better one."""
        return self.metric.higher_is_better

    @property
    def unit(self) -> str:
        """The unit, empty where there is none."""
        return self.metric.unit

    @property
    def names(self) -> list[str]:
        """The names that it adds to results: itself and its companions."""
        return [self.name + suffix for suffix in self.metric.suffixes]


def resolve(
    metrics: Sequence[str], extractors: Sequence[Extractor], path: str, report: fields.Report
) -> list[Resolved]:
    """The metrics of a suite in the order named, without duplicates; problems are reported at the path.

    A generic name (kernel_distance) means every extractor of the suite, a resolved one (kd_efficientnet_lite0) its
    own, with defaults where the suite does not name it; fid, kid and inception_score bring inception.
    """
    found: dict[str, Resolved] = {}
    for name in dict.fromkeys(metrics):
        try:
            matches = _generic(name, extractors) if name in names("metrics") else _specific(name, extractors)
        except UserError as problem:
            report(path, str(problem))
            continue
        for match in matches:
            other = found.setdefault(match.name, match)
            if other.extractor != match.extractor:
                report(path, f'two extractors would both give "{match.name}": {other.extractor} and {match.extractor}')
            elif other.metric != match.metric:
                report(path, f'two metrics would both give "{match.name}": {other.metric.name} and {match.metric.name}')
    return list(found.values())


def result_names(resolved: Sequence[Resolved]) -> list[str]:
    """The names that appear in results, in order."""
    return [name for item in resolved for name in item.names]


def _generic(name: str, extractors: Sequence[Extractor]) -> list[Resolved]:
    metric: Metric = get("metrics", name)()
    if not isinstance(metric, QualityMetric):
        return _results(metric, None)
    if metric.extractor is not None:
        extractors = [extractor for extractor in extractors if extractor.name == metric.extractor]
    chosen = extractors or [get("extractors", metric.extractor or DEFAULT_EXTRACTOR)()]
    return [result for extractor in chosen for result in _results(metric, extractor)]


def _results(metric: Metric, extractor: Extractor | None) -> list[Resolved]:
    return [Resolved(metric, extractor, name, part) for part, name in metric.result_names(extractor).items()]


def _specific(name: str, extractors: Sequence[Extractor]) -> list[Resolved]:
    known = names("metrics")
    for candidate in _candidates(extractors):
        if candidate.name == name:
            return [candidate]
        known.append(candidate.name)
    raise UserError(f'unknown metric "{name}"{suggestion(name, known)}')


def _candidates(extractors: Sequence[Extractor]) -> Iterator[Resolved]:
    """Every quality metric with every extractor: the suite's first, then defaults.

    Pairs that involve another package come last and are imported only when they are reached: one that is broken must
    not disturb a suite that does without it.
    """
    choices: list[str | Extractor] = [*extractors, *names("extractors")]
    pairs = [(metric, choice) for metric in names("metrics") for choice in choices]
    for metric_name, choice in sorted(
        pairs, key=lambda pair: any(isinstance(item, str) and "/" in item for item in pair)
    ):
        metric = get("metrics", metric_name)()
        if not isinstance(metric, QualityMetric) or metric.extractor is not None:
            continue
        extractor = _default(choice) if isinstance(choice, str) else choice
        if extractor is not None:
            yield from _results(metric, extractor)


def _default(name: str) -> Extractor | None:
    """The extractor with its defaults, None for one with required parameters."""
    cls = get("extractors", name)
    required = [
        item.name
        for item in dataclasses.fields(cls)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    return None if required else cls()
