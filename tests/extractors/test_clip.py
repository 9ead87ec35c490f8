import warnings

import pytest
import torch
from torch import nn

from ddpm_bench.errors import UserError
from ddpm_bench.extractors._imported import import_weights
from ddpm_bench.extractors.clip import MODELS, Clip
from ddpm_bench.vision import import_torch_fidelity
from tests.extractors.made_weights import as_published, images, kaiming

import_torch_fidelity()
from torch_fidelity import feature_extractor_clip as theirs  # noqa: E402


def encoder(features: int) -> nn.Module:
    """A small image encoder (2 layers of width 64, patches of 32 pixels) with the entries of a whole CLIP around it."""
    torch.manual_seed(0)
    network = theirs.CLIPVisual(features, 224, 2, 64, 32)
    kaiming(network)
    network.text_projection = nn.Parameter(torch.randn(64, features))
    network.logit_scale = nn.Parameter(torch.tensor(4.6))
    network.ln_final = nn.LayerNorm(64)
    for name, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408)):
        network.register_buffer(name, torch.tensor(value))
    return network


@pytest.fixture
def archive(tmp_path):
    """A TorchScript archive, which the published files are."""
    path = tmp_path / "archive.pt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.jit.save(torch.jit.script(encoder(512)), path)
    return path


@pytest.fixture
def state(tmp_path):
    """The same weights as a state dict."""
    path = tmp_path / "state.pt"
    torch.save(encoder(512).state_dict(), path)
    return path


def test_the_models_are_those_of_torch_fidelity():
    found = {f"clip-{name}": {"hash": digest, "filename": file} for name, (file, _, digest) in MODELS.items()}
    assert found == theirs.MODEL_METADATA
    for extractor in Clip.configurations():
        assert extractor.published.url == theirs.MODEL_URLS[f"clip-{extractor.model}"]
        assert extractor.published.sha256 == MODELS[extractor.model][2]


def test_a_published_archive_gives_torch_fidelitys_features(archive, root, monkeypatch):
    """Oracle: torch-fidelity's own class on the same file."""
    as_published(monkeypatch, Clip, archive, list(MODELS).index("vit-b-32"))
    import_weights(archive)
    x = images(3)
    features, logits = Clip().load("cpu")(x)
    assert (features.shape, features.dtype, logits) == ((3, 512), torch.float32, None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        oracle = theirs.FeatureExtractorCLIP("clip-vit-b-32", ["clip"], feature_extractor_weights_path=str(archive))
    assert torch.equal(features, oracle(x)[0])
    assert features.std(0).max() > 0.01 * features.abs().max()


def test_other_weights_are_a_state_dict(state, archive, monkeypatch):
    extractor = Clip(weights_file=str(state))
    assert extractor.label == "clip_unverified"
    features, _ = extractor.load("cpu")(images(3))
    with monkeypatch.context() as patch:
        as_published(patch, Clip, archive, list(MODELS).index("vit-b-32"))
        expected, _ = Clip(weights_file=str(archive)).load("cpu")(images(3))
    assert torch.equal(features, expected)


def test_an_archive_that_is_not_published_is_not_opened(archive, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *args, **kwargs: pytest.fail("the archive was opened"))
    with pytest.raises(UserError, match="no file of tensors"):
        Clip(weights_file=str(archive)).load("cpu")


def test_weights_of_another_model_are_refused(state):
    with pytest.raises(UserError, match="vit-l-14 has 768 features, these weights have 512"):
        Clip(model="vit-l-14", weights_file=str(state)).load("cpu")


def test_weights_of_something_else_are_refused(tmp_path):
    path = tmp_path / "other.pt"
    for content in ({"fc.bias": torch.zeros(3)}, {"text_projection": torch.zeros(64, 512)}):
        torch.save(content, path)
        with pytest.raises(UserError, match="does not fit the network"):
            Clip(weights_file=str(path)).load("cpu")


def test_a_model_is_part_of_the_name():
    assert Clip(model="vit-l-14").label == "clip_vit_l_14"
    assert Clip(model="vit-l-14").num_features == 768
