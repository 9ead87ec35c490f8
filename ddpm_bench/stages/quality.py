"""Stage quality: one metric of one set of images against one reference, from their features."""

from __future__ import annotations

import numpy as np

from ddpm_bench.metrics import FeatureInputs, Metric, QualityMetric
from ddpm_bench.spec import rebuild
from ddpm_bench.stages import Context
from ddpm_bench.stages._images import subset
from ddpm_bench.store import Artifact

VERSION = 1


def _load(artifacts: list[Artifact], name: str, count: int, seeded: bool) -> np.ndarray | None:
    """The rows of some artifacts: the first `count`, or a seeded subset of that size."""
    if not all((artifact.path / f"{name}.npy").is_file() for artifact in artifacts):
        return None
    parts = [np.load(artifact.path / f"{name}.npy", mmap_mode="c") for artifact in artifacts]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if count >= len(rows):
        return rows
    return rows[subset(len(rows), count)] if seeded else rows[:count]


def run(context: Context) -> None:
    """Writes estimates.json: suffix → estimate, with the whole protocol in each."""
    spec = context.spec
    metric: QualityMetric = rebuild(Metric, spec["metric"])
    generated, reference = context.input_list("generated"), context.input_list("reference")
    seeded = spec["generated"] == "split"  # held-out images: a seeded subset; samples: the first n
    inputs = FeatureInputs(
        generated=_load(generated, "features", spec["n_generated"], seeded),  # type: ignore[arg-type]
        reference=_load(reference, "features", spec["n_reference"], True),  # type: ignore[arg-type]
        generated_logits=_load(generated, "logits", spec["n_generated"], seeded),
        reference_logits=_load(reference, "logits", spec["n_reference"], True),
    )
    found = {}
    for suffix, estimate in metric.compute(inputs).items():
        record = estimate.to_json()
        record["protocol"] = {**record["protocol"], **spec["protocol"]}
        found[suffix] = record
    context.write_json("estimates.json", found)
