import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ddpm_bench.metrics import precision_recall
from ddpm_bench.metrics.precision_recall import PrecisionRecall


def both(sets):
    found = PrecisionRecall().compute(sets)
    return found["precision"].value, found["recall"].value


def on_manifold(points, manifold, k):
    """The share of points within the distance of some manifold point to its k-th neighbour, the point itself left
    out; float64, one pair after the other."""
    own = cdist(manifold, manifold)
    np.fill_diagonal(own, np.inf)
    radius = np.sort(own, axis=1)[:, k - 1]
    return float((cdist(points, manifold) <= radius).any(axis=1).mean())


def expected(sets):
    generated, reference = sets.generated.astype(float), sets.reference.astype(float)
    return on_manifold(generated, reference, 3), on_manifold(reference, generated, 3)


@pytest.mark.parametrize(("n_generated", "n_reference"), [(60, 45), (4, 90), (90, 4), (4, 4)])
def test_against_a_second_implementation(inputs, n_generated, n_reference):
    """Shares of whole images, so equal unless some distance is that of a radius to 1e-6."""
    random = np.random.default_rng(0)
    generated = random.normal(0.4, 0.8, size=(n_generated, 3))
    sets = inputs(generated, random.normal(size=(n_reference, 3)))
    # torch-fidelity's means are float32.
    assert both(sets) == pytest.approx(expected(sets), rel=1e-6)


def test_blocks_do_not_matter(inputs, monkeypatch):
    random = np.random.default_rng(0)
    sets = inputs(random.normal(size=(150, 6)), random.normal(0.2, 1, size=(130, 6)))
    whole = both(sets)
    monkeypatch.setattr(precision_recall, "BLOCK", 40)
    assert both(sets) == whole


def test_swapped_sets_swap_the_values(inputs):
    """Generated images are a narrow part of the real ones: all of them look real, most real ones are missing."""
    random = np.random.default_rng(0)
    reference, generated = random.normal(size=(300, 4)), random.normal(size=(200, 4)) * 0.3
    precision, recall = both(inputs(generated, reference))
    assert precision > 0.95
    assert recall < 0.3
    assert both(inputs(reference, generated)) == (recall, precision)


def test_a_collapsed_generator(inputs):
    """One real image over and over: it looks real, and no other real image lies in a ball of no radius."""
    reference = np.random.default_rng(0).normal(size=(200, 4))
    precision, recall = both(inputs(np.repeat(reference[:1], 100, axis=0), reference))
    assert precision == 1.0
    assert recall <= 1 / 200  # the image itself


def test_a_part_of_the_real_images_has_precision_one(inputs):
    reference = np.random.default_rng(0).normal(size=(200, 4))
    precision, recall = both(inputs(reference[::4], reference))
    assert precision == 1.0
    assert 0.5 < recall <= 1.0


def test_images_of_another_kind_have_neither(inputs):
    random = np.random.default_rng(0)
    assert both(inputs(random.normal(50, 1, size=(80, 4)), random.normal(size=(80, 4)))) == (0.0, 0.0)


def test_identical_sets_have_both(inputs):
    features = np.random.default_rng(0).normal(size=(60, 4))
    assert both(inputs(features, features)) == (1.0, 1.0)


@pytest.mark.parametrize(("n_generated", "n_reference"), [(3, 50), (50, 3)])
def test_a_neighbour_needs_four_images(inputs, n_generated, n_reference):
    random = np.random.default_rng(0)
    found = PrecisionRecall().compute(
        inputs(random.normal(size=(n_generated, 2)), random.normal(size=(n_reference, 2)))
    )
    assert {(item.value, item.reason) for item in found.values()} == {
        (None, "precision and recall need at least 4 generated and 4 reference images")
    }


def test_both_are_better_when_higher_and_the_protocol_states_k():
    metric = PrecisionRecall()
    assert metric.higher_is_better
    assert metric.keys == ["precision", "recall"]
    assert metric.protocol(360, 1293, 1280) == {"n_generated": 360, "n_reference": 1293, "neighbours": 3}
