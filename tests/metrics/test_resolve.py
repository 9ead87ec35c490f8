import re

import pytest

from ddpm_bench.errors import UserError
from ddpm_bench.extractors.efficientnet_lite0 import EfficientNetLite0
from ddpm_bench.extractors.inception import Inception
from ddpm_bench.metrics import _resolve
from ddpm_bench.metrics._resolve import Resolved, resolve, result_names
from ddpm_bench.registry import get, names

SMALL, LARGE = EfficientNetLite0(), EfficientNetLite0(input_size=112)


def resolved(*metrics, extractors=()):
    def complain(path, text):
        pytest.fail(f"{path}: {text}")

    return resolve(metrics, extractors, "evaluation.metrics", complain)


def problems(*metrics, extractors=()):
    found = []
    resolve(metrics, extractors, "evaluation.metrics", lambda path, text: found.append((path, text)))
    assert all(path == "evaluation.metrics" for path, _ in found)
    return [text for _, text in found]


def name_and_extractor(found):
    return [(item.name, item.extractor) for item in found]


def test_generic_names_mean_every_extractor_of_the_suite():
    found = resolved("kernel_distance", "bits_per_dim", "frechet_distance", extractors=(SMALL, LARGE))
    assert name_and_extractor(found) == [
        ("kd_efficientnet_lite0", SMALL),
        ("kd_efficientnet_lite0_112", LARGE),
        ("bits_per_dim", None),
        ("fd_efficientnet_lite0", SMALL),
        ("fd_efficientnet_lite0_112", LARGE),
    ]


def test_a_suite_without_extractor_gets_the_default():
    assert name_and_extractor(resolved("classifier_score")) == [("cs_efficientnet_lite0", SMALL)]


def test_resolved_names_bring_their_extractor():
    assert name_and_extractor(resolved("kd_inception", extractors=(LARGE,))) == [("kd_inception", Inception())]
    assert name_and_extractor(resolved("kd_efficientnet_lite0", extractors=(LARGE,))) == [
        ("kd_efficientnet_lite0", SMALL)
    ]


def test_resolved_names_mean_the_suites_extractor_where_it_has_one():
    assert name_and_extractor(resolved("fd_efficientnet_lite0_112", extractors=(SMALL, LARGE))) == [
        ("fd_efficientnet_lite0_112", LARGE)
    ]
    assert "unknown metric" in problems("fd_efficientnet_lite0_112")[0]


def test_reserved_names_bring_inception():
    found = resolved("fid", "kid", "inception_score", extractors=(SMALL,))
    assert name_and_extractor(found) == [(name, Inception()) for name in ("fid", "kid", "inception_score")]


def test_reserved_names_are_for_published_weights_only(tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes(b"other weights")
    found = resolved("fid", "kid", "inception_score", extractors=(Inception(weights_file=str(other)),))
    assert [item.name for item in found] == [
        "fd_inception_unverified", "kd_inception_unverified", "cs_inception_unverified",
    ]  # fmt: skip
    assert {item.extractor.weights_file for item in found} == {str(other)}


def test_a_missing_weights_file_is_reported(tmp_path):
    (text,) = problems("fid", extractors=(Inception(weights_file=str(tmp_path / "none.pth")),))
    assert "does not exist" in text


def test_duplicates_are_dropped_and_the_order_kept():
    found = resolved("kd_efficientnet_lite0", "bits_per_dim", "kernel_distance", "bits_per_dim")
    assert [item.name for item in found] == ["kd_efficientnet_lite0", "bits_per_dim"]
    assert [item.name for item in resolved("kernel_distance", extractors=(SMALL, SMALL))] == ["kd_efficientnet_lite0"]


def test_two_extractors_of_one_label_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    extractors = tuple(Inception(weights_file=str(tmp_path / name)) for name in ("a", "b"))
    (text,) = problems("kernel_distance", extractors=extractors)
    assert 'would both give "kd_inception_unverified"' in text


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("kernel_distanse", "kernel_distance"),
        ("kd_efficientnet_lite", "kd_efficientnet_lite0"),
        ("bits_per_dimension", "bits_per_dim"),
        ("fd_inceptoin", "fd_inception"),
    ],
)
def test_unknown_names_are_reported_with_a_suggestion(wrong, meant):
    assert problems(wrong, "bits_per_dim") == [f'unknown metric "{wrong}"; did you mean "{meant}"?']


def test_every_unknown_name_is_reported():
    assert len(problems("xyz", "bits_per_dim", "abc")) == 2


def test_a_broken_plugin_is_named_only_where_it_may_matter(monkeypatch):
    def broken(axis, name):
        if "/" in name:
            raise UserError(f'the plugin {axis} "{name}" cannot be imported')
        return get(axis, name)

    monkeypatch.setattr(_resolve, "names", lambda axis: [*names(axis), f"package/{axis}"])
    monkeypatch.setattr(_resolve, "get", broken)
    assert [item.name for item in resolved("kd_inception", "fid")] == ["kd_inception", "fid"]
    assert "cannot be imported" in problems("kd_something")[0]


def test_result_names_of_likelihood_metrics():
    assert result_names(resolved("bits_per_dim", "timestep_kl")) == [
        "bits_per_dim", "bits_per_dim_l_0", "bits_per_dim_mean_cost", "bits_per_dim_variance_cost", "bits_per_dim_l_T",
        "bits_per_dim_network",
    ]  # fmt: skip


def test_result_names_of_quality_metrics():
    assert result_names(resolved("kernel_distance", "cs_efficientnet_lite0", "fid")) == [
        "kd_efficientnet_lite0", "kd_efficientnet_lite0_subset_std", "cs_efficientnet_lite0",
        "cs_efficientnet_lite0_std", "fid", "fid_infinity",
    ]  # fmt: skip


def test_a_metric_of_several_results_names_each():
    found = resolved("precision_recall", extractors=(SMALL, LARGE))
    assert name_and_extractor(found) == [
        ("precision_efficientnet_lite0", SMALL),
        ("recall_efficientnet_lite0", SMALL),
        ("precision_efficientnet_lite0_112", LARGE),
        ("recall_efficientnet_lite0_112", LARGE),
    ]
    assert [item.part for item in found] == ["precision", "recall"] * 2
    assert all(item.higher_is_better for item in found)


def test_one_of_several_results_can_be_named():
    (found,) = resolved("recall_efficientnet_lite0")
    assert (found.metric.name, found.part, found.names) == ("precision_recall", "recall", ["recall_efficientnet_lite0"])
    assert [item.name for item in resolved("recall_efficientnet_lite0", "precision_recall")] == [
        "recall_efficientnet_lite0", "precision_efficientnet_lite0",
    ]  # fmt: skip
    assert problems("recal_efficientnet_lite0") == [
        'unknown metric "recal_efficientnet_lite0"; did you mean "recall_efficientnet_lite0"?'
    ]


def test_precision_and_recall_of_other_weights_are_marked(tmp_path):
    """They have no name that is reserved, but the label of the extractor says it."""
    other = tmp_path / "other.pth"
    other.write_bytes(b"other weights")
    assert [item.name for item in resolved("precision_recall", extractors=(Inception(weights_file=str(other)),))] == [
        "precision_inception_unverified", "recall_inception_unverified",
    ]  # fmt: skip
    assert [item.name for item in resolved("precision_inception", "recall_inception")] == [
        "precision_inception", "recall_inception",
    ]  # fmt: skip


def test_direction_and_unit():
    found = {
        item.name: (item.higher_is_better, item.unit) for item in resolved("bits_per_dim", "inception_score", "fid")
    }
    assert found == {"bits_per_dim": (False, "bits/dim"), "inception_score": (True, ""), "fid": (False, "")}


def test_every_metric_resolves_to_words_that_trackers_accept():
    found = resolved(*names("metrics"))
    assert {item.metric.name for item in found} == set(names("metrics"))
    assert all(isinstance(item, Resolved) and re.fullmatch("[a-z0-9_]+", item.name) for item in found)
