"""Which rows of features are a generation, what several of them give, and the tables beside the values."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_bench.metrics import QualityMetric
from ddpm_bench.metrics.class_histogram import ClassHistogram
from ddpm_bench.metrics.frechet_distance import FrechetDistance
from ddpm_bench.metrics.kernel_distance import KernelDistance
from ddpm_bench.metrics.precision_recall import PrecisionRecall
from ddpm_bench.store import Artifact
from tests.stages.workbench import Bench

DIMENSION = 4


class Made(Bench):
    """A bench that makes features without images."""

    def features(self, rows: np.ndarray, logits: np.ndarray | None = None) -> Artifact:
        """An artifact that holds these features."""
        key = hashlib.sha256(rows.tobytes()).hexdigest()
        with self.store.create("features", key, {"spec": {}}) as out:
            np.save(out / "features.npy", rows.astype(np.float32))
            if logits is not None:
                np.save(out / "logits.npy", logits.astype(np.float32))
        return self.store.get("features", key)

    def quality(
        self, metric: QualityMetric, chunks: list[Artifact], reference: Artifact, n: int, n_reference: int, **more: Any
    ) -> tuple[dict[str, Any], Path]:
        """(estimates.json, the folder) of the metric."""
        spec = {
            "metric": metric, "generated": "samples", "n_generated": n, "n_reference": n_reference,
            "protocol": {"extractor": "made"}, **more,
        }  # fmt: skip
        found = self.run("quality", spec, {"generated": chunks, "reference": [reference]})
        return json.loads((found.path / "estimates.json").read_text()), found.path


@pytest.fixture
def bench(tmp_path: Path) -> Made:
    return Made(tmp_path / "runs")


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(90, DIMENSION))


@pytest.fixture
def reference(bench: Made) -> Artifact:
    return bench.features(np.random.default_rng(1).normal(0.5, 1, size=(50, DIMENSION)))


def single(rows: np.ndarray, reference: Artifact, metric: QualityMetric) -> dict[str, float]:
    """The values of one set, the metric asked directly."""
    from ddpm_bench.metrics import FeatureInputs

    known = np.load(reference.path / "features.npy")
    found = metric.compute(FeatureInputs(rows.astype(np.float32), known, None, None))
    return {key: estimate.value for key, estimate in found.items()}  # type: ignore[misc]


def test_generations_are_sets_of_their_own(bench: Made, samples: np.ndarray, reference: Artifact) -> None:
    """90 samples in chunks of 40, 40 and 10: the second and third thirty of them cross chunks."""
    chunks = [bench.features(part) for part in (samples[:40], samples[40:80], samples[80:])]
    read, _ = bench.quality(KernelDistance(), chunks, reference, 30, 50, generations=3, stride=30)
    values = [single(samples[30 * g : 30 * (g + 1)], reference, KernelDistance())[""] for g in range(3)]
    mean = math.fsum(values) / 3
    assert read[""]["value"] == pytest.approx(mean, rel=1e-12)
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / 2 / 3)
    assert read[""]["stderr"] == pytest.approx(error, rel=1e-9)
    assert read[""]["num_samples"] == 90
    assert read[""]["protocol"]["n_generated"] == 30
    assert read[""]["protocol"]["generations"] == 3


def test_fewer_images_are_the_first_of_each_generation(bench: Made, samples: np.ndarray, reference: Artifact) -> None:
    read, _ = bench.quality(
        KernelDistance(), [bench.features(samples)], reference, 20, 50, generations=3, stride=30
    )  # fmt: skip
    values = [single(samples[30 * g : 30 * g + 20], reference, KernelDistance())[""] for g in range(3)]
    assert read[""]["value"] == pytest.approx(math.fsum(values) / 3, rel=1e-12)


def test_one_generation_has_no_error(bench: Made, samples: np.ndarray, reference: Artifact) -> None:
    read, _ = bench.quality(KernelDistance(), [bench.features(samples)], reference, 90, 50)
    assert read[""]["value"] == single(samples, reference, KernelDistance())[""]
    assert read[""]["stderr"] is None
    assert "generations" not in read[""]["protocol"]


def test_the_error_of_generations_is_that_of_independent_values(bench: Made, reference: Artifact) -> None:
    """Twenty runs of R = 4 generations: the mean of the squared standard errors is the variance of the run's value. A
    variance over twenty values has a relative standard deviation of √(2/19) = 0.32: within three of them."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(20):
        chunk = bench.features(random.normal(size=(4 * 24, DIMENSION)))
        read, _ = bench.quality(FrechetDistance(), [chunk], reference, 24, 50, generations=4, stride=24)
        found.append((read[""]["value"], read[""]["stderr"]))
    values, errors = np.array(found).T
    assert 0.3 < np.mean(errors**2) / np.var(values, ddof=1) < 3.0


def test_tables_stand_beside_the_values(bench: Made, samples: np.ndarray, reference: Artifact) -> None:
    read, folder = bench.quality(
        FrechetDistance(), [bench.features(samples)], reference, 45, 50, generations=2, stride=45
    )
    ((name, rows),) = json.loads((folder / "tables.json").read_text()).items()
    assert name == "frechet_over_n"
    assert [row["generation"] for row in rows] == [0] * 5 + [1] * 5
    last = [row["value"] for row in rows if row["n"] == 45]
    # The value is torch-fidelity's, with means in float32; the table is in float64.
    assert read[""]["value"] == pytest.approx(math.fsum(last) / 2, rel=1e-5)
    assert read["_infinity"]["protocol"]["standard_error"] == "over generations"


def test_a_metric_of_several_results_has_a_key_for_each(bench: Made, samples: np.ndarray, reference: Artifact) -> None:
    read, folder = bench.quality(PrecisionRecall(), [bench.features(samples)], reference, 90, 50)
    assert {key: item["value"] for key, item in read.items()} == single(samples, reference, PrecisionRecall())
    assert not (folder / "tables.json").exists()


def test_classes_are_called_by_their_names(bench: Made, samples: np.ndarray) -> None:
    logits = np.eye(3)[np.arange(90) % 3] * 9
    known = bench.features(samples[:50] + 1, np.eye(3)[[0] * 50] * 9)
    chunk = bench.features(samples, logits)
    _, folder = bench.quality(ClassHistogram(), [chunk], known, 90, 50, class_names=["x", "y", "z"])
    rows = json.loads((folder / "tables.json").read_text())["class_histogram"]
    third = pytest.approx(1 / 3, rel=1e-12)
    assert rows == [
        {"generation": 0, "class": name, "generated": third, "reference": real}
        for name, real in (("x", 1.0), ("y", 0.0), ("z", 0.0))
    ]
