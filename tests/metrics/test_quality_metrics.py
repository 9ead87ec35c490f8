"""What holds for every quality metric, and their numbers against torch_fidelity.calculate_metrics."""

import math
import re

import numpy as np
import pytest
import torch

from ddpm_bench.extractors.efficientnet_lite0 import EfficientNetLite0
from ddpm_bench.metrics import Measured, Metric, QualityMetric, ScoreMetric, Value
from ddpm_bench.registry import get, names
from ddpm_bench.vision import import_torch_fidelity

QUALITY = [name for name in names("metrics") if issubclass(get("metrics", name), QualityMetric)]
SCORE = [name for name in names("metrics") if issubclass(get("metrics", name), ScoreMetric)]


def test_every_metric_is_of_one_kind():
    assert sorted(QUALITY + SCORE) == sorted(names("metrics"))
    assert {"bits_per_dim", "timestep_kl"} <= set(SCORE)
    assert all(get("metrics", name).needs == "features" for name in QUALITY)
    assert all(get("metrics", name).needs == "score" for name in SCORE)


def test_names_of_results_are_unique_among_metrics_of_any_extractor():
    extractor = EfficientNetLite0()
    metrics = [get("metrics", name)() for name in QUALITY if get("metrics", name).extractor is None]
    results = [name for metric in metrics for name in metric.result_names(extractor).values()]
    assert len(results) == len(set(results))
    assert {"precision_efficientnet_lite0", "recall_efficientnet_lite0"} <= set(results)


@pytest.fixture
def sets(inputs):
    random = np.random.default_rng(0)
    return inputs(*(random.normal(size=(n, d)) for n, d in ((60, 4), (50, 4), (60, 5), (50, 5))))


STDERR = {"_infinity"}
"""Keys with an error of their own: that of a fitted line."""


@pytest.mark.parametrize("name", QUALITY)
def test_records(name, sets):
    metric = get("metrics", name)()
    found = metric.compute(sets)
    assert list(found) == metric.keys
    for key, estimate in found.items():
        assert np.isfinite(estimate.value)
        assert estimate.reason is None
        assert (estimate.stderr is not None) is (key in STDERR)
        assert estimate.num_samples == estimate.protocol["n_generated"] == 60
        assert estimate.protocol.get("n_reference") == (50 if metric.uses_reference else None)
        assert estimate.unit == metric.unit
        assert estimate.higher_is_better is (metric.higher_is_better if key in metric.parts else False)
        own = metric.protocol(60, 50, 4)
        assert {name: estimate.protocol[name] for name in own} == own
        assert (estimate.protocol == own) is (key not in STDERR)


@pytest.mark.parametrize("name", QUALITY)
def test_repeated_computation_agrees_bit_for_bit(name, sets):
    metric = get("metrics", name)()
    assert metric.compute(sets) == metric.compute(sets)


@pytest.mark.parametrize("name", QUALITY)
def test_too_few_images_are_a_reason_and_no_number(name, inputs):
    one = np.zeros((1, 4)), np.zeros((1, 4)), np.zeros((1, 3)), np.zeros((1, 3))
    found = get("metrics", name)().compute(inputs(*one))
    assert all(estimate.value is None and re.search("needs? at least", estimate.reason) for estimate in found.values())


def test_result_names_of_third_parties_are_metric_words():
    class Other(Metric):
        """Other."""

    Other.name = "some-package/My-Metric"
    assert Other().result_names(None) == {"": "my_metric"}


def test_several_generations_are_their_mean_with_its_standard_error(sets):
    """R values: mean, and s/√R with s over R − 1. The number of images is that of all, n_generated that of each."""
    metric = get("metrics", "frechet_distance")()
    measured = [Measured({"": Value(value), "_infinity": Value(value - 1, stderr=9.0)}) for value in (3.0, 5.0, 10.0)]
    found = metric.estimates(measured, 60, 50, 4)
    # mean 6; squared deviations 9 + 1 + 16, over 2 and over 3
    assert (found[""].value, found["_infinity"].value) == (6.0, 5.0)
    assert found[""].stderr == pytest.approx(math.sqrt(26 / 2 / 3), rel=1e-12)
    assert found["_infinity"].stderr == pytest.approx(math.sqrt(26 / 2 / 3), rel=1e-12)
    assert found[""].num_samples == 180
    protocol = {"n_generated": 60, "generations": 3, "standard_error": "over generations"}
    assert {name: found[""].protocol[name] for name in protocol} == protocol


def test_a_generation_without_a_value_leaves_none(sets):
    metric = get("metrics", "kernel_distance")()
    good, bad = Value(1.0), Value(None, reason="none")
    found = metric.estimates([Measured(dict.fromkeys(metric.keys, item)) for item in (good, bad)], 60, 50, 4)
    assert {(item.value, item.stderr, item.reason) for item in found.values()} == {(None, None, "none")}


@pytest.fixture(scope="module")
def torch_fidelity():
    """torch_fidelity with an extractor of the test's own: pixels as features and others as logits, so that both ways
    see the same bits whatever their batches."""
    module = import_torch_fidelity()

    class Pixels(module.FeatureExtractorBase):
        def __init__(self, name, features_list, **kwargs):
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list():
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled():
            return False

        def forward(self, images):
            layers = dict(zip(("features", "logits"), pixel_layers(images), strict=True))
            return tuple(layers[name] for name in self.features_list)

    module.register_feature_extractor("ddpm-bench-test-pixels", Pixels)
    return module


def pixel_layers(images):
    pixels = images.flatten(1).float()
    return pixels[:, :12] / 64, pixels[:, 12:18] / 32


def test_values_are_those_of_torch_fidelity(torch_fidelity, inputs):
    """Bit for bit, from the same images; the Fréchet distance but for torch-fidelity's float32 means, see
    test_frechet_distance.py. input1 is the generated set: with the inputs swapped, the score is of the real images,
    the kernel distance draws other subsets, precision and recall trade places, so all would differ."""
    random = np.random.default_rng(0)
    generated = torch.from_numpy(random.integers(0, 256, (70, 3, 4, 4), dtype=np.uint8))
    reference = torch.from_numpy(random.integers(64, 192, (50, 3, 4, 4), dtype=np.uint8))

    def calculate(first, second):
        return torch_fidelity.calculate_metrics(
            input1=torch.utils.data.Subset(first, range(len(first))),
            input2=torch.utils.data.Subset(second, range(len(second))),
            isc=True, fid=True, kid=True, prc=True, kid_subset_size=50, rng_seed=0, batch_size=16,
            feature_extractor="ddpm-bench-test-pixels", cuda=False, cache=False, save_cpu_ram=True, verbose=False,
        )  # fmt: skip

    expected, swapped = calculate(generated, reference), calculate(reference, generated)
    (features, logits), (other_features, other_logits) = pixel_layers(generated), pixel_layers(reference)
    sets = inputs(features, other_features, logits, other_logits)
    keys = {
        ("frechet_distance", ""): "frechet_inception_distance",
        ("kernel_distance", ""): "kernel_inception_distance_mean",
        ("kernel_distance", "_subset_std"): "kernel_inception_distance_std",
        ("classifier_score", ""): "inception_score_mean",
        ("classifier_score", "_std"): "inception_score_std",
        ("precision_recall", "precision"): "precision",
        ("precision_recall", "recall"): "recall",
    }
    for (name, suffix), key in keys.items():
        value = get("metrics", name)().compute(sets)[suffix].value
        # Features up to 4, float32 sums of 70: 70 · 6e-8 · 4 of each mean, of 12 differences of about 0.1, twice.
        assert value == pytest.approx(expected[key], rel=0, abs=4e-5 if name == "frechet_distance" else 0), name
        if name != "frechet_distance":  # symmetric
            assert abs(value - swapped[key]) > 1e-4 * abs(value), name
    published = {"fid": "frechet_distance", "kid": "kernel_distance", "inception_score": "classifier_score"}
    for name, generic in published.items():
        assert get("metrics", name)().compute(sets) == get("metrics", generic)().compute(sets)
