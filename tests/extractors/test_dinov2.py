import numpy as np
import pytest
import torch
from torch import nn

from ddpm_bench.errors import UserError
from ddpm_bench.extractors._dinov2_network import DinoV2
from ddpm_bench.extractors._imported import import_weights
from ddpm_bench.extractors.dinov2 import MODELS, Dinov2
from ddpm_bench.vision import import_torch_fidelity
from tests.extractors.made_weights import as_published, images

BLOCK_ENTRIES = (
    "norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias", "ls1.gamma",
    "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias", "ls2.gamma",
)  # fmt: skip
"""As the reference implementation names them (its files layers/block.py, attention.py, mlp.py, layer_scale.py)."""


def made_state(width: int, depth: int) -> dict[str, torch.Tensor]:
    """A state dict of a network of this size: seeded, every entry different from its initial value."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        network = DinoV2(width, depth, 2)
    state = {}
    for name, value in network.state_dict().items():
        scale = value[0].numel() ** -0.5 if value.dim() in (2, 4) else 0.3
        state[name] = scale * torch.randn(value.shape, generator=generator) + (1.0 if "norm" in name else 0.0)
    return state


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A weight file for ViT-S/14."""
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.save(made_state(*MODELS["vit-s-14"][:2]), path)
    return path


def test_names_of_the_weights():
    names = {f"blocks.{index}.{entry}" for index in range(12) for entry in BLOCK_ENTRIES}
    others = {"cls_token", "pos_embed", "mask_token", "norm.weight", "norm.bias"}
    others |= {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    with torch.device("meta"):
        assert set(DinoV2(384, 12, 6).state_dict()) == names | others


@pytest.mark.parametrize(("model", "millions"), [("vit-s-14", 22), ("vit-b-14", 87), ("vit-l-14", 304)])
def test_sizes_are_the_published_ones(model, millions):
    """Numbers of parameters from the reference implementation's table: 21 M, 86 M and 300 M, rounded down there."""
    with torch.device("meta"):
        network = DinoV2(*MODELS[model])
    assert round(sum(value.numel() for value in network.parameters()) / 1e6) == millions


def test_a_forward_pass_in_torchs_own_layers():
    """Oracle: nn.TransformerEncoderLayer with the normalisation first; the scales of a residual branch multiply the
    weights and bias of its last layer there. Images of 518 pixels, whose positions need no interpolation. Tolerance:
    1e-5 of features of the size of one."""
    width, heads = 32, 4
    network, state = DinoV2(width, 2, heads), made_state(width, 2)
    network.load_state_dict(state)
    x = torch.randn(2, 3, 518, 518, generator=torch.Generator().manual_seed(1))
    patches = x.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).flatten(1, 2).flatten(2)
    tokens = patches @ state["patch_embed.proj.weight"].flatten(1).T + state["patch_embed.proj.bias"]
    tokens = torch.cat([state["cls_token"].expand(2, -1, -1), tokens], dim=1) + state["pos_embed"]
    for index in range(2):
        part = {name: state[f"blocks.{index}.{name}"] for name in BLOCK_ENTRIES}
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            4 * width,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        ).eval()
        scale = {"attn.proj": part["ls1.gamma"], "mlp.fc2": part["ls2.gamma"]}
        layer.load_state_dict({
            "self_attn.in_proj_weight": part["attn.qkv.weight"], "self_attn.in_proj_bias": part["attn.qkv.bias"],
            "self_attn.out_proj.weight": scale["attn.proj"][:, None] * part["attn.proj.weight"],
            "self_attn.out_proj.bias": scale["attn.proj"] * part["attn.proj.bias"],
            "linear1.weight": part["mlp.fc1.weight"], "linear1.bias": part["mlp.fc1.bias"],
            "linear2.weight": scale["mlp.fc2"][:, None] * part["mlp.fc2.weight"],
            "linear2.bias": scale["mlp.fc2"] * part["mlp.fc2.bias"],
            "norm1.weight": part["norm1.weight"], "norm1.bias": part["norm1.bias"],
            "norm2.weight": part["norm2.weight"], "norm2.bias": part["norm2.bias"],
        })  # fmt: skip
        tokens = layer(tokens)
    expected = nn.functional.layer_norm(tokens, (width,), state["norm.weight"], state["norm.bias"], eps=1e-6)[:, 0]
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.3


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = −0.75, which torch's bicubic interpolation uses."""
    a, x = -0.75, np.abs(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def test_positions_of_a_smaller_image():
    """Row i of 16 is read at (i + ½)·37/16.1 − ½ of 37, edges repeated: the factor has the 0.1 of the reference."""
    network = DinoV2(8, 0, 1)
    network.load_state_dict(made_state(8, 0))
    centres = (np.arange(16) + 0.5) * 37 / 16.1 - 0.5
    taps = np.floor(centres).astype(int)[:, None] + np.arange(-1, 3)
    matrix = np.zeros((16, 37))
    np.add.at(matrix, (np.arange(16)[:, None], taps.clip(0, 36)), cubic(centres[:, None] - taps))
    grid = network.pos_embed.detach().double().numpy()[0, 1:].reshape(37, 37, 8)
    expected = np.einsum("ir,jc,rcd->ijd", matrix, matrix, grid).reshape(256, 8)
    found = network.positions(16, 16).detach().double().numpy()[0]
    np.testing.assert_allclose(found[1:], expected, rtol=0, atol=1e-5)  # float32, coordinates up to 37
    np.testing.assert_array_equal(found[:1], network.pos_embed.detach()[0, :1])
    assert network.positions(37, 37) is network.pos_embed


def test_features_of_a_published_file(small, root, monkeypatch):
    as_published(monkeypatch, Dinov2, small)
    import_weights(small)
    loaded = Dinov2().load("cpu")
    features, logits = loaded(images(3))
    assert (features.shape, features.dtype, logits) == ((3, Dinov2().num_features), torch.float32, None)
    assert features.std(0).max() > 0.01 * features.abs().max()
    assert torch.equal(features, loaded(images(3))[0])


def test_the_way_of_an_image_is_torch_fidelitys(small):
    """An image of 224 × 224 is not resized: the network sees ImageNet's normalisation, written out here. 1e-5: two ways
    to divide."""
    extractor = Dinov2(weights_file=str(small))
    assert extractor.label == "dinov2_unverified"
    network = extractor.load("cpu").network
    assert isinstance(network, import_torch_fidelity().feature_extractor_dinov2.FeatureExtractorDinoV2)
    seen = []
    network.model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = torch.randint(0, 256, (1, 3, 224, 224), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    network(x)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, None, :, None, None]
    torch.testing.assert_close(seen[0], (x / 255 - mean) / deviation, rtol=0, atol=1e-5)


def test_weights_of_another_model_are_refused(small):
    with pytest.raises(UserError, match="does not fit the network"):
        Dinov2(model="vit-b-14", weights_file=str(small)).load("cpu")
