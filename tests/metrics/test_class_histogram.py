import dataclasses

import numpy as np
import pytest

from ddpm_bench.extractors.efficientnet_lite0 import EfficientNetLite0
from ddpm_bench.metrics import foreign_classes
from ddpm_bench.metrics.class_histogram import ClassHistogram


def logits_of(classes, number=3, sure=8.0):
    return np.eye(number)[np.asarray(classes)] * sure


def measured(inputs, generated, reference, names=()):
    zeros = np.zeros((len(generated), 2)), np.zeros((len(reference), 2))
    return ClassHistogram().measure(dataclasses.replace(inputs(*zeros, generated, reference), class_names=names))


def test_known_histograms(inputs):
    """Generated ½, ½, 0 and reference ¼, ¼, ½: ½ (¼ + ¼ + ½)."""
    found = measured(inputs, logits_of([0, 1, 0, 1]), logits_of([0, 1, 2, 2]), names=("a", "b", "c"))
    assert found.values[""].value == 0.5
    assert found.tables == {
        "class_histogram": [
            {"class": "a", "generated": 0.5, "reference": 0.25},
            {"class": "b", "generated": 0.5, "reference": 0.25},
            {"class": "c", "generated": 0.0, "reference": 0.5},
        ]
    }


def test_the_ends_of_the_scale(inputs):
    classes = [0, 1, 2, 2, 1]
    assert measured(inputs, logits_of(classes), logits_of(classes)).values[""].value == 0
    assert measured(inputs, logits_of([0, 0]), logits_of([1, 2])).values[""].value == 1


def test_confidence_is_that_of_the_generated_images(inputs):
    """Softmax of (s, 0, 0) has the largest probability e^s/(e^s + 2); float32 logits are exact here."""
    generated = np.concatenate([logits_of([0, 1], sure=2.0), logits_of([2, 2], sure=0.0)])
    found = measured(inputs, generated, logits_of([0, 1, 2], sure=50.0))
    sure = np.exp(2.0) / (np.exp(2.0) + 2)
    assert found.values["_confidence"].value == pytest.approx((sure + 1 / 3) / 2, rel=1e-12)
    large = measured(inputs, logits_of([0, 1], sure=1e4), logits_of([0, 1, 2]))  # no overflow
    assert large.values["_confidence"].value == 1.0


def test_two_samples_of_one_distribution(inputs):
    """The mean of ½ Σ |p_g − p_r|: each difference is nearly normal with variance p(1 − p)(1/n_g + 1/n_r), and E|Z| is
    √(2/π) σ. Of 400 repetitions, four standard errors; the normal approximation is off by less than 1 % at n p > 40."""
    random, p = np.random.default_rng(0), np.array([0.5, 0.3, 0.2])
    n_g, n_r = 200, 500
    expected = np.sqrt(2 * p * (1 - p) * (1 / n_g + 1 / n_r) / np.pi).sum() / 2
    found = [
        measured(inputs, logits_of(random.choice(3, n_g, p=p)), logits_of(random.choice(3, n_r, p=p))).values[""].value
        for _ in range(400)
    ]
    tolerance = 4 * np.std(found) / np.sqrt(len(found)) + 0.01 * expected
    assert tolerance < 0.15 * expected
    assert np.mean(found) == pytest.approx(expected, abs=tolerance)


def test_sides_are_not_interchangeable_in_the_companion(inputs):
    sure, unsure = logits_of([0, 1, 2], sure=9.0), logits_of([0, 1, 2], sure=0.5)
    one, other = measured(inputs, sure, unsure), measured(inputs, unsure, sure)
    assert one.values[""] == other.values[""]
    assert one.values["_confidence"].value > 0.99 > 0.5 > other.values["_confidence"].value


def test_an_extractor_without_classes_is_a_reason(inputs):
    found = ClassHistogram().compute(inputs(np.zeros((9, 2)), np.zeros((9, 2))))
    assert {(item.value, item.reason) for item in found.values()} == {(None, "the extractor gives no class logits")}


def test_classes_are_the_datas_or_foreign(monkeypatch):
    extractor = EfficientNetLite0()
    assert foreign_classes(extractor, "digits") == (
        "the classes of efficientnet_lite0 are not those of the data (digits)"
    )
    monkeypatch.setattr(EfficientNetLite0, "classes_of", "digits")
    assert foreign_classes(extractor, "digits") is None
    assert foreign_classes(extractor, "cifar10") == (
        "the classes of efficientnet_lite0 are not those of the data (cifar10); they are those of digits"
    )
