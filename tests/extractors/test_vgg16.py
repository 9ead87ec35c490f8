import pytest
import torch
from torch import nn

from ddpm_bench.extractors._imported import import_weights
from ddpm_bench.extractors.vgg16 import Vgg16
from ddpm_bench.vision import import_torch_fidelity, import_torchvision
from tests.extractors.made_weights import as_published, images, kaiming


def test_the_published_file_is_the_one_of_torchvision():
    """Its name and address, and with the name the first eight digits of its SHA-256."""
    weights = import_torchvision().models.VGG16_Weights.IMAGENET1K_V1
    file = Vgg16().published
    assert file.url == weights.url
    assert file.url.endswith(f"/{file.file}")
    assert file.file == f"vgg16-{file.sha256[:8]}.pth"


@pytest.mark.slow  # 138 million weights: 1.1 GB on disk, 3 GB of memory
def test_features_are_those_of_torchvisions_network(root, tmp_path, monkeypatch):
    """A file in the old format of torch.save, as the published one is. Oracle: torchvision's own network up to the
    second ReLU, on an image of 224 × 224, which needs no resizing; ImageNet's mean and deviation written out."""
    network = import_torchvision().models.vgg16(init_weights=False)
    kaiming(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.bias, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "kaiming.pth"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    assert Vgg16(weights_file=str(path)).label == "vgg16_unverified"
    as_published(monkeypatch, Vgg16, path)
    import_weights(path)
    path.unlink()
    loaded = Vgg16().load("cpu")
    x = torch.randint(0, 256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    features, logits = loaded(x)
    assert (features.shape, features.dtype, logits) == ((2, Vgg16().num_features), torch.float32, None)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, None, :, None, None]
    with torch.no_grad():
        deep = network.eval().features((x / 255 - mean) / deviation)
        expected = network.classifier[:5](network.avgpool(deep).flatten(1))
    assert expected.std(0).max() > 0.01 * expected.max()
    # Sums of up to 25088 products in float32, in an order of their own: 1e-5 of the largest.
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5 * float(expected.max()))
    varied, _ = loaded(images(3))
    assert varied.std(0).max() > 0.01 * varied.max()


def test_torch_fidelity_knows_the_layer():
    assert "fc2_relu" in import_torch_fidelity().FeatureExtractorVGG16.get_provided_features_list()
