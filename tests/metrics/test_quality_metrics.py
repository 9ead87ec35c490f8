"""What holds for every quality metric, and their numbers against torch_fidelity.calculate_metrics."""

import numpy as np
import pytest
import torch

from ddpm_bench.metrics import Metric, QualityMetric, ScoreMetric
from ddpm_bench.registry import get, names
from ddpm_bench.vision import import_torch_fidelity

QUALITY = [name for name in names("metrics") if issubclass(get("metrics", name), QualityMetric)]
SCORE = [name for name in names("metrics") if issubclass(get("metrics", name), ScoreMetric)]


def test_every_metric_is_of_one_kind():
    assert sorted(QUALITY + SCORE) == sorted(names("metrics"))
    assert {"bits_per_dim", "timestep_kl"} <= set(SCORE)
    assert all(get("metrics", name).needs == "features" for name in QUALITY)
    assert all(get("metrics", name).needs == "score" for name in SCORE)


def test_prefixes_are_unique_among_metrics_of_any_extractor():
    prefixes = [get("metrics", name).prefix for name in QUALITY if get("metrics", name).extractor is None]
    assert len(prefixes) == len(set(prefixes))


@pytest.fixture
def sets(inputs):
    random = np.random.default_rng(0)
    return inputs(*(random.normal(size=(n, d)) for n, d in ((60, 4), (50, 4), (60, 5), (50, 5))))


@pytest.mark.parametrize("name", QUALITY)
def test_records(name, sets):
    metric = get("metrics", name)()
    found = metric.compute(sets)
    assert tuple(found) == metric.suffixes
    for suffix, estimate in found.items():
        assert np.isfinite(estimate.value)
        assert (estimate.stderr, estimate.reason) == (None, None)
        assert estimate.num_samples == estimate.protocol["n_generated"] == 60
        assert estimate.protocol.get("n_reference") == (50 if metric.uses_reference else None)
        assert estimate.unit == metric.unit
        assert estimate.higher_is_better is (metric.higher_is_better if suffix == "" else False)
        assert estimate.protocol == metric.protocol(60, 50, 4)


@pytest.mark.parametrize("name", QUALITY)
def test_repeated_computation_agrees_bit_for_bit(name, sets):
    metric = get("metrics", name)()
    assert metric.compute(sets) == metric.compute(sets)


@pytest.mark.parametrize("name", QUALITY)
def test_too_few_images_are_a_reason_and_no_number(name, inputs):
    found = get("metrics", name)().compute(inputs(np.zeros((1, 4)), np.zeros((1, 4)), np.zeros((1, 3)), None))
    assert all(estimate.value is None and "needs at least" in estimate.reason for estimate in found.values())


def test_result_names_of_third_parties_are_metric_words():
    class Other(Metric):
        """Other."""

    Other.name = "some-package/My-Metric"
    assert Other().result_name(None) == "my_metric"


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
    """Bit for bit, from the same images. input1 is the generated set: with the inputs swapped, the score is of the real
    images and the kernel distance draws other subsets, so both would differ."""
    random = np.random.default_rng(0)
    generated = torch.from_numpy(random.integers(0, 256, (70, 3, 4, 4), dtype=np.uint8))
    reference = torch.from_numpy(random.integers(64, 192, (50, 3, 4, 4), dtype=np.uint8))

    def calculate(first, second):
        return torch_fidelity.calculate_metrics(
            input1=torch.utils.data.Subset(first, range(len(first))),
            input2=torch.utils.data.Subset(second, range(len(second))),
            isc=True, fid=True, kid=True, kid_subset_size=50, rng_seed=0, batch_size=16,
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
    }
    for (name, suffix), key in keys.items():
        value = get("metrics", name)().compute(sets)[suffix].value
        assert value == expected[key], name
        if name != "frechet_distance":  # symmetric
            assert abs(value - swapped[key]) > 1e-4 * abs(value), name
    published = {"fid": "frechet_distance", "kid": "kernel_distance", "inception_score": "classifier_score"}
    for name, generic in published.items():
        assert get("metrics", name)().compute(sets) == get("metrics", generic)().compute(sets)
