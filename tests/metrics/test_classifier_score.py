import numpy as np
import pytest

from ddpm_bench.metrics.classifier_score import ClassifierScore


def compute(inputs, logits, reference_logits=None):
    features = np.zeros((len(logits), 2))
    return ClassifierScore().compute(inputs(features, features, logits, reference_logits))


def test_one_prediction_for_all_images_scores_one(inputs):
    found = compute(inputs, np.repeat(np.random.default_rng(0).normal(size=(1, 7)), 50, axis=0))
    assert found[""].value == pytest.approx(1, abs=1e-12)
    assert found["_std"].value == pytest.approx(0, abs=1e-12)


def test_confident_and_uniform_predictions_score_the_number_of_classes(inputs):
    """A split of n_s = 2000 images of 5 classes has the entropy ln 5 − (5 − 1)/(2 n_s) on average: a score of 0.1 %
    less than 5. A logit of 100 leaves e^-100 for the other classes."""
    logits = np.eye(5)[np.arange(20_000) % 5] * 100
    assert compute(inputs, logits)[""].value == pytest.approx(5 * np.exp(-4 / (2 * 2000)), rel=1e-3)


def test_confident_predictions_of_one_class_score_one(inputs):
    """Diversity is missing: a collapsed generator."""
    assert compute(inputs, np.eye(5)[np.zeros(100, dtype=int)] * 100)[""].value == pytest.approx(1, abs=1e-12)


def test_against_a_second_implementation(inputs):
    """Each of the ten splits of the documented order is scored as exp(H(mean p) − mean H(p)); float64 on both sides."""
    logits = np.random.default_rng(3).normal(size=(57, 6)).astype(np.float32).astype(float)
    order = np.random.RandomState(0).permutation(57)
    p = np.exp(logits[order])
    p /= p.sum(axis=1, keepdims=True)
    scores = []
    for i in range(10):
        part = p[i * 57 // 10 : (i + 1) * 57 // 10]
        mean = part.mean(axis=0)
        scores.append(np.exp((part * np.log(part)).sum(axis=1).mean() - (mean * np.log(mean)).sum()))
    found = compute(inputs, logits)
    assert found[""].value == pytest.approx(np.mean(scores), rel=1e-12)
    assert found["_std"].value == pytest.approx(np.std(scores), rel=1e-10)


def test_reference_images_do_not_enter(inputs):
    random = np.random.default_rng(0)
    logits, other = random.normal(size=(30, 4)), 10 * random.normal(size=(30, 4))
    assert compute(inputs, logits, other) == compute(inputs, logits)
    assert compute(inputs, other, logits)[""].value != pytest.approx(compute(inputs, logits)[""].value, rel=0.1)


def test_an_extractor_without_classes_is_a_reason(inputs):
    found = ClassifierScore().compute(inputs(np.zeros((30, 2)), np.zeros((30, 2))))
    assert {estimate.reason for estimate in found.values()} == {"the extractor gives no class logits"}
    assert all(estimate.value is None for estimate in found.values())


def test_higher_is_better_and_the_protocol_states_the_splits():
    metric = ClassifierScore()
    assert metric.higher_is_better
    assert metric.protocol(360, 1293, 1280) == {"n_generated": 360, "splits": 10, "seed": 0}
