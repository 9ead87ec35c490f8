import pickle

import pytest
import torch
from torch import nn

from ddpm_bench.errors import UserError
from ddpm_bench.extractors._imported import import_weights
from ddpm_bench.extractors.inception import FILE, Inception
from ddpm_bench.vision import import_torch_fidelity
from tests.extractors.made_weights import as_published, digest_of, images, kaiming


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory):
    """A weight file of the right shapes, Kaiming-initialised: with torch's default initialisation activations die out
    on the way and every image has the same features."""
    network_class = import_torch_fidelity().FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.torch.load", lambda *args, **kwargs: {})
        patch.setattr(network_class, "load_state_dict", lambda self, state: None)
        network = network_class("inception", ["2048"], feature_extractor_weights_path="none")
    kaiming(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1.1)  # makes up for pooling: features of the size of one
    path = tmp_path_factory.mktemp("weights") / "kaiming.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def published(other_weights, monkeypatch, root):
    """The Kaiming file in the role of the published one."""
    as_published(monkeypatch, Inception, other_weights)
    return import_weights(other_weights)[1]


def test_the_name_of_the_file_carries_the_start_of_its_digest():
    assert FILE.endswith(f"-{Inception().published.sha256[:8]}.pth")


def test_missing_weights_say_where_what_and_how(root):
    assert Inception().label == "inception"  # a plan may name the results of what is missing
    for asked in (Inception().weights, Inception().digest, lambda: Inception().load("cpu")):
        with pytest.raises(UserError) as caught:
            asked()
        text = str(caught.value)
        assert str(root / FILE) in text
        assert f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}" in text
        assert "ddpm-bench weights import" in text


def test_features_and_logits(published):
    loaded = Inception().load("cpu")
    x = images(3)
    features, logits = loaded(x)
    assert (features.shape, features.dtype) == ((3, Inception().num_features), torch.float32)
    assert (logits.shape, logits.dtype) == ((3, 1008), torch.float32)
    assert features.std(0).max() > 0.01 * features.abs().max()  # they depend on the image
    single, single_logits = loaded(x[1:2])
    # Float32 sums in another order, relative to the largest value, over some hundred layers.
    torch.testing.assert_close(single, features[1:2], rtol=0, atol=1e-5 * float(features.abs().max()))
    torch.testing.assert_close(single_logits, logits[1:2], rtol=0, atol=1e-5 * float(logits.abs().max()))


def test_values_are_those_of_torch_fidelity(published):
    """The whole way through torch_fidelity, from images to numbers. Its batches differ from ours, so the features do in
    their last bits: relative 1e-4 for a cube of a product of features. Not the Fréchet distance: 2048 × 2048
    eigenvalues take seconds and see the same features."""
    from ddpm_bench.metrics import FeatureInputs
    from ddpm_bench.registry import get

    torch_fidelity = import_torch_fidelity()
    generated, reference = images(12, seed=1), images(10, seed=2) // 2
    expected = torch_fidelity.calculate_metrics(
        input1=torch.utils.data.Subset(generated, range(12)), input2=torch.utils.data.Subset(reference, range(10)),
        isc=True, kid=True, prc=True, kid_subset_size=10, rng_seed=0, batch_size=5, cuda=False, cache=False,
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(published), save_cpu_ram=True,
        verbose=False,
    )  # fmt: skip
    loaded = Inception().load("cpu")
    (features, logits), (other_features, other_logits) = loaded(generated), loaded(reference)
    inputs = FeatureInputs(features.numpy(), other_features.numpy(), logits.numpy(), other_logits.numpy())
    kernel = get("metrics", "kid")().compute(inputs)
    score = get("metrics", "inception_score")().compute(inputs)
    shares = get("metrics", "precision_recall")().compute(inputs)
    assert kernel[""].value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    assert score[""].value - 1 == pytest.approx(expected["inception_score_mean"] - 1, rel=1e-3)
    assert abs(expected["kernel_inception_distance_mean"]) > 0.01  # else nothing would be seen
    assert expected["inception_score_mean"] > 1.001
    for name in ("precision", "recall"):  # shares of twelve and of ten images
        assert shares[name].value == pytest.approx(expected[name], rel=1e-6)
    assert expected["precision"] != expected["recall"]


def test_the_published_digest_is_verified_before_the_file_is_opened(root, dangerous):
    path, marker = dangerous
    root.mkdir()
    (root / FILE).write_bytes(path.read_bytes())
    for asked in (Inception().weights, Inception().digest, lambda: Inception().load("cpu")):
        with pytest.raises(UserError, match=Inception().published.sha256):
            asked()
    assert not marker.exists()


def test_other_weights_need_an_explicit_field(root, other_weights):
    root.mkdir()
    (root / FILE).write_bytes(other_weights.read_bytes())
    with pytest.raises(UserError, match="weights_file"):
        Inception().weights()
    extractor = Inception(weights_file=str(other_weights))
    assert extractor.label == "inception_unverified"
    assert extractor.digest() == digest_of(other_weights)
    features, _ = extractor.load("cpu")(images(2))
    assert features.std(0).max() > 0


def test_no_result_of_other_weights_has_a_published_name(other_weights):
    from ddpm_bench.metrics import QualityMetric
    from ddpm_bench.registry import get, names

    extractor = Inception(weights_file=str(other_weights))
    metrics = [get("metrics", name)() for name in names("metrics")]
    quality = [metric for metric in metrics if isinstance(metric, QualityMetric)]
    results = {name for metric in quality for name in metric.result_names(extractor).values()}
    assert {"fd_inception_unverified", "precision_inception_unverified", "recall_inception_unverified"} <= results
    assert all(name.endswith("_inception_unverified") for name in results)


def test_the_published_file_elsewhere_is_verified(published, other_weights):
    assert Inception(weights_file=str(other_weights)).label == "inception"


def test_other_weights_are_read_without_executing_them(dangerous):
    path, marker = dangerous
    extractor = Inception(weights_file=str(path))
    assert extractor.label == "inception_unverified"
    with pytest.raises(UserError, match="no file of tensors"):
        extractor.load("cpu")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no file of tensors"),
        (b"not a weight file", "no file of tensors"),
        (b"PK\x03\x04 a broken archive", "no file of tensors"),
        (pickle.dumps({"a": 1}, protocol=2), "no file of tensors"),
        ([1, 2], "no state dict"),
        ({"fc.bias": 3}, "no state dict"),
        ({"fc.bias": torch.zeros(1008)}, "does not fit the network"),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, complaint):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=complaint):
        Inception(weights_file=str(path)).load("cpu")


def test_a_weights_file_that_is_missing(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        _ = Inception(weights_file=str(tmp_path / "none.pth")).label
