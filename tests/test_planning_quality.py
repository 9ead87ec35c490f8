"""Quality in a plan: several generations, results of one task, and metrics of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ddpm_bench as db
from ddpm_bench.errors import UserError
from ddpm_bench.extractors.efficientnet_lite0 import EfficientNetLite0
from ddpm_bench.planning import Plan
from ddpm_bench.planning.file import to_json
from ddpm_bench.stages import CHUNK
from ddpm_bench.store import write_json
from tests.support import write_suite
from tests.test_planning import INFO, SUITE

KERNEL = 'evaluation.metrics=["kernel_distance"]'


class Plans:
    """Plans of the suite on decoded data."""

    def __init__(self, folder: Path):
        self.folder, self.runs = folder, folder / "runs"

    def __call__(self, *overrides: str, end: str = "", **options: Any) -> Plan:
        suite = db.load_suite(write_suite(self.folder, SUITE + end), overrides=overrides)
        key = db.plan(suite, runs=self.runs).data.key
        write_json(self.runs / "store" / "data" / key / "manifest.json", {"info": INFO})
        return db.plan(suite, runs=self.runs, **options)


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def test_generations_are_further_images_of_the_same_noise(plans: Plans) -> None:
    one, three = plans(KERNEL).cells[0], plans(KERNEL, "evaluation.generations=3").cells[0]
    assert [task.spec["count"] for task in one.samples] == [CHUNK, 200 - CHUNK]
    assert [task.spec["count"] for task in three.samples] == [CHUNK] * 4 + [600 - 4 * CHUNK]
    assert three.samples[0] == one.samples[0]
    spec = three.quality["kd_efficientnet_lite0"].spec
    assert (spec["n_generated"], spec["generations"], spec["stride"]) == (200, 3, 200)
    assert len(three.quality["kd_efficientnet_lite0"].inputs["generated"]) == 5


def test_a_single_generation_leaves_keys_alone(plans: Plans) -> None:
    one, said = plans(KERNEL), plans(KERNEL, "evaluation.generations=1")
    assert one.cells[0].quality == said.cells[0].quality
    assert "generations" not in one.cells[0].quality["kd_efficientnet_lite0"].spec


def test_floors_are_a_single_set(plans: Plans) -> None:
    plan = plans(KERNEL, "evaluation.generations=3")
    assert plan.baselines
    assert not any("generations" in item.task.spec for item in plan.baselines)


def test_generations_are_at_least_one(plans: Plans) -> None:
    with pytest.raises(UserError, match=r"evaluation\.generations: must be at least 1, got 0"):
        plans("evaluation.generations=0")


def test_precision_and_recall_are_one_task(plans: Plans) -> None:
    plan = plans('evaluation.metrics=["precision_recall"]')
    quality = plan.cells[0].quality
    for suffix in ("", "_test"):
        names = [f"{part}_efficientnet_lite0{suffix}" for part in ("precision", "recall")]
        assert quality[names[0]] == quality[names[1]]
    assert {name: part for name, part in to_json(plan)["parts"].items() if "_test" not in name} == {
        "precision_efficientnet_lite0": "precision", "recall_efficientnet_lite0": "recall",
    }  # fmt: skip
    assert all(item["higher_is_better"] for item in to_json(plan)["metrics"].values())


def test_every_metric_has_its_floor_for_both_references(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EfficientNetLite0, "classes_of", "digits")
    metrics = 'evaluation.metrics=["frechet_distance", "kernel_distance", "precision_recall", "class_histogram"]'
    plan = plans(metrics)
    names = [f"{prefix}_efficientnet_lite0" for prefix in ("fd", "kd", "precision", "recall", "ch")]
    assert set(plan.cells[0].quality) == {name + suffix for name in names for suffix in ("", "_test")}
    floors = {item.metric: item for item in plan.baselines if item.name and item.name.startswith("floor")}
    for name in names:
        for suffix, held_out, reference in (("", "test", "train"), ("_test", "train", "test")):
            floor = floors[name + suffix]
            assert floor.name == f"floor: 200 {held_out} images"
            assert floor.task.spec["protocol"]["reference_split"] == reference
            assert floor.task.spec["protocol"]["generated_split"] == held_out
            assert floor.task.inputs["reference"] == plan.cells[0].quality[name + suffix].inputs["reference"]


CLAIM = """
[matrix]
prediction = ["epsilon", "x0"]

[[claim]]
statement = "ε covers more of the data"
metric = "{metric}"
better = {{ prediction = "epsilon" }}
than = {{ prediction = "x0" }}
"""


@pytest.mark.parametrize(
    "metric",
    ["recall_efficientnet_lite0", "recall_efficientnet_lite0_test", "fd_efficientnet_lite0_infinity",
     "fd_efficientnet_lite0_test_infinity", "fd_efficientnet_lite0_n100"],
)  # fmt: skip
def test_claims_name_results_and_companions(plans: Plans, metric: str) -> None:
    metrics = 'evaluation.metrics=["precision_recall", "frechet_distance"]'
    (claim,) = plans(metrics, end=CLAIM.format(metric=metric)).suite.claims
    assert claim.metric == metric


def test_a_claim_about_precision_and_recall_says_which(plans: Plans) -> None:
    with pytest.raises(UserError, match=r"has several results; say which: precision_.*, recall_"):
        plans('evaluation.metrics=["precision_recall"]', end=CLAIM.format(metric="precision_recall"))


CLASSES = 'evaluation.metrics=["class_histogram", "classifier_score"]'


def test_a_class_histogram_of_foreign_classes_is_not_computed(plans: Plans) -> None:
    plan = plans(CLASSES)
    assert not plan.problems
    reason = "the classes of efficientnet_lite0 are not those of the data (digits)"
    assert plan.not_computed == {"ch_efficientnet_lite0": reason, "ch_efficientnet_lite0_test": reason}
    assert list(plan.cells[0].quality) == ["cs_efficientnet_lite0"]
    assert plan.cells[0].quality["cs_efficientnet_lite0"].spec["protocol"]["classes_of_data"] is False


def test_classes_of_the_data_are_named(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EfficientNetLite0, "classes_of", "digits")
    monkeypatch.setattr(EfficientNetLite0, "class_names", ("zero", "one"))
    plan = plans(CLASSES)
    assert plan.not_computed == {}
    quality = plan.cells[0].quality
    assert list(quality) == ["ch_efficientnet_lite0", "ch_efficientnet_lite0_test", "cs_efficientnet_lite0"]
    for task in quality.values():
        assert task.spec["protocol"]["classes_of_data"] is True
        assert task.spec["class_names"] == ["zero", "one"]
    floors = [item for item in plan.baselines if item.metric == "ch_efficientnet_lite0"]
    assert [item.name for item in floors] == ["floor: 200 test images", "uniform noise"]


def test_metrics_without_classes_say_nothing_of_them(plans: Plans) -> None:
    assert "classes_of_data" not in plans(KERNEL).cells[0].quality["kd_efficientnet_lite0"].spec["protocol"]
