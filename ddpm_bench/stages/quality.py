"""Stage quality: one metric of generated images against one reference, from their features.

Memory: the features of one generation in float32, the reference memory-mapped, and what the metric adds. torch-fidelity
copies a set of features to float64 for its moments, and the logits more than once; precision and recall hold distances
in blocks of rows. docs/performance.md has what 50,000 × 2048 features take (`python -m benchmarks.feature_memory`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ddpm_bench.metrics import FeatureInputs, Metric, QualityMetric
from ddpm_bench.spec import rebuild
from ddpm_bench.stages import Context
from ddpm_bench.stages._images import subset
from ddpm_bench.store import Artifact

VERSION = 1


def _array(artifact: Artifact, name: str) -> np.ndarray:
    found: np.ndarray = np.load(artifact.path / f"{name}.npy", mmap_mode="c")
    return found


def _has(artifacts: list[Artifact], name: str) -> bool:
    return all((artifact.path / f"{name}.npy").is_file() for artifact in artifacts)


def _rows(artifacts: list[Artifact], name: str, start: int, count: int) -> np.ndarray | None:
    """`count` rows from `start` of arrays that follow each other; None where there is no such array.

    One array is not copied but memory-mapped. Of several a single one is mapped at a time.
    """
    if not _has(artifacts, name):
        return None
    if len(artifacts) == 1:
        return _array(artifacts[0], name)[start : start + count]
    first = _array(artifacts[0], name)
    found = np.empty((count, *first.shape[1:]), first.dtype)
    place, filled = 0, 0
    for artifact in artifacts:
        part = _array(artifact, name)
        rows = part[max(0, start - place) : max(0, start + count - place)]
        found[filled : filled + len(rows)] = rows
        place, filled = place + len(part), filled + len(rows)
    return found[:filled]


def _subset(artifacts: list[Artifact], name: str, count: int) -> np.ndarray | None:
    """A seeded subset of the rows of the one artifact, all of them where there are no more."""
    if not _has(artifacts, name):
        return None
    rows = _array(artifacts[0], name)
    return rows if count >= len(rows) else rows[subset(len(rows), count)]


def _inputs(context: Context) -> Iterator[FeatureInputs]:
    """The images of each generation with the reference. Images of a split: a seeded subset, a single generation."""
    spec, count = context.spec, context.spec["n_generated"]
    generated, reference = context.input_list("generated"), context.input_list("reference")
    features, logits = (_subset(reference, name, spec["n_reference"]) for name in ("features", "logits"))
    assert features is not None
    for index in range(spec.get("generations", 1)):
        if spec["generated"] == "split":
            here, classes = (_subset(generated, name, count) for name in ("features", "logits"))
        else:
            start = index * spec.get("stride", 0)
            here, classes = (_rows(generated, name, start, count) for name in ("features", "logits"))
        assert here is not None
        yield FeatureInputs(here, features, classes, logits, tuple(spec.get("class_names", ())))


def run(context: Context) -> None:
    """Writes estimates.json: key → estimate with its whole protocol; tables.json: table → rows, if the metric has any.

    Of several generations the rows of each stand below each other, counted by `generation`.
    """
    spec = context.spec
    metric: QualityMetric = rebuild(Metric, spec["metric"])
    measured, sizes = [], (0, 0, 0)
    for inputs in _inputs(context):
        sizes = len(inputs.generated), len(inputs.reference), inputs.generated.shape[1]
        measured.append(metric.measure(inputs))
        context.log.progress(len(measured), spec.get("generations", 1), "generations")
    found = {}
    for key, estimate in metric.estimates(measured, *sizes).items():
        record = estimate.to_json()
        record["protocol"] = {**record["protocol"], **spec["protocol"]}
        found[key] = record
    tables = {
        name: [{"generation": index, **row} for index, item in enumerate(measured) for row in item.tables[name]]
        for name in measured[0].tables
    }
    if tables:
        context.write_json("tables.json", tables)
    context.write_json("estimates.json", found)
