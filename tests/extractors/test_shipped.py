"""The classifiers that come with the package: their weights, what they recognise, and the script that trained them."""

import hashlib
import re
import shutil
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ddpm_bench.datasets import data_root
from ddpm_bench.datasets.digits import Digits
from ddpm_bench.errors import UserError
from ddpm_bench.extractors import _shipped
from ddpm_bench.extractors._small_cnn import to_grey
from ddpm_bench.extractors.digits_cnn import DigitsCnn
from ddpm_bench.extractors.fashion_cnn import FashionCnn
from ddpm_bench.registry import get
from ddpm_bench.stages.features import to_rgb
from tests.stages.workbench import Bench
from tests.support import REPOSITORY
from tools import train_extractor
from tools.train_extractor import RECIPES, Split

BOTH = (DigitsCnn(), FashionCnn())
NUM_LOOKED_AT = 1000


def name(extractor):
    return extractor.name


@cache
def documented():
    """(extractor, split, side) → (images, accuracy, condition number) in docs/extractors.md."""
    text = (REPOSITORY / "docs" / "extractors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\d,]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|", text, re.MULTILINE)
    return {(a, b, int(side)): (int(n.replace(",", "")), float(p), float(c)) for a, b, n, side, p, c in rows}


@cache
def outputs(extractor, size):
    """(features, logits, labels) of up to NUM_LOOKED_AT test images, chosen with seed 0."""
    dataset = get("datasets", extractor.classes_of)(size=size)
    try:
        data = dataset.load(data_root())
    except UserError as missing:
        pytest.skip(f"{missing}")
    chosen = np.random.default_rng(0).permutation(len(data.test))[:NUM_LOOKED_AT]
    loaded = extractor.load("cpu")
    parts = torch.from_numpy(data.test[chosen]).split(100)
    found = [loaded(to_rgb(part, data.levels)) for part in parts]
    features, logits = (torch.cat(values) for values in zip(*found, strict=True))
    return features, logits, torch.from_numpy(data.test_labels[chosen])


@pytest.mark.parametrize("extractor", BOTH, ids=name)
def test_the_file_is_the_declared_one_and_small(extractor):
    path = extractor.weights()
    assert path.is_relative_to(Path(_shipped.__file__).parent)
    assert extractor.digest() == extractor.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_size <= 300_000
    assert extractor.label == extractor.name


@pytest.mark.parametrize(
    ("extractor", "size"), [(DigitsCnn(), None), (FashionCnn(), None), (FashionCnn(), 16)], ids=["digits", "28", "16"]
)
def test_it_recognises_the_data(extractor, size):
    """Of m test images chosen out of all n the share that is recognised has the standard deviation
    √(p(1 − p)/m · (n − m)/(n − 1)) about the documented one; three of them, and the rounding of p to four digits.
    A wrong order of classes or a wrong scale of pixels falls far below."""
    n, p, _ = documented()[extractor.name, "test", size or extractor.side]
    _, logits, labels = outputs(extractor, size)
    m = len(labels)
    found = float((logits.argmax(1) == labels).double().mean())
    assert abs(found - p) <= 3 * (p * (1 - p) / m * (n - m) / (n - 1)) ** 0.5 + 5e-5
    assert logits.shape[1] == len(extractor.class_names)


@pytest.mark.parametrize(
    ("extractor", "size"), [(DigitsCnn(), None), (FashionCnn(), None), (FashionCnn(), 16)], ids=["digits", "28", "16"]
)
def test_features_have_full_rank_and_one_scale(extractor, size):
    """Mean 0 and variance 1 over the training images by construction, so nearly over test images. The condition number
    of a sample's covariance exceeds that of all by its own scatter; for m images of d independent features the largest
    over the smallest eigenvalue is ((1 + √(d/m))/(1 − √(d/m)))², 2.4 for m = 360, d = 16."""
    features, _, _ = outputs(extractor, size)
    m, d = features.shape
    assert (features.dtype, d) == (torch.float32, extractor.num_features)
    assert features.mean(0).abs().max() < 0.5
    assert features.std(0).min() > 0.5
    assert features.std(0).max() < 1.5
    spectrum = torch.linalg.eigvalsh(features.double().T.cov())
    scatter = ((1 + (d / m) ** 0.5) / (1 - (d / m) ** 0.5)) ** 2
    _, _, condition = documented()[extractor.name, "test", size or extractor.side]
    assert 1 < spectrum[-1] / spectrum[0] < condition * scatter


@pytest.mark.parametrize("extractor", BOTH, ids=name)
@pytest.mark.parametrize("side", [8, 16, 28, 40])
def test_images_of_every_size_and_colour(extractor, side):
    x = torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features, logits = extractor.load("cpu")(x)
    assert features.shape == (2, 16)
    assert logits.shape == (2, 10)
    assert features.isfinite().all()


def test_images_of_the_right_side_keep_their_pixels():
    """Grey levels 0…255 as x/127.5 − 1; of a colour the mean of the channels."""
    grey = torch.arange(256, dtype=torch.uint8)[: 15 * 15].reshape(1, 1, 15, 15).expand(-1, 3, -1, -1)
    expected = grey[:, :1].double() / 127.5 - 1
    torch.testing.assert_close(to_grey(grey, 15).double(), expected, rtol=0, atol=1e-6)  # float32 near one
    colour = torch.tensor([30, 60, 90], dtype=torch.uint8).reshape(1, 3, 1, 1)
    torch.testing.assert_close(to_grey(colour, 1), torch.full((1, 1, 1, 1), 60 / 127.5 - 1))


def test_shrinking_is_antialiased_and_not_rounded():
    """One line of 255 in four, shrunk by four, is 63.75 inside; without antialiasing 0, rounded 64."""
    lines = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    lines[..., ::4] = 255
    inside = to_grey(lines, 16)[..., 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, 63.75 / 127.5 - 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("extractor", BOTH, ids=name)
def test_other_weights_are_refused(extractor, tmp_path, monkeypatch):
    damaged = tmp_path / f"{extractor.name}.safetensors"
    shutil.copy(extractor.weights(), damaged)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(_shipped, "FOLDER", tmp_path)
    for asked in (extractor.weights, extractor.digest, lambda: extractor.load("cpu")):
        with pytest.raises(UserError, match=f"expected {extractor.sha256}; install ddpm-bench again"):
            asked()
    damaged.unlink()
    with pytest.raises(UserError, match="is missing; install ddpm-bench again"):
        extractor.load("cpu")


# The script


@pytest.fixture
def one_thread():
    """What the script sets, and what was before it."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])
    torch.set_rng_state(before[2])


@pytest.mark.parametrize("extractor", BOTH, ids=name)
@pytest.mark.usefixtures("one_thread")
def test_training_repeats_bit_for_bit(extractor):
    """The first steps, on noise: the data do not matter here."""
    generator = torch.Generator().manual_seed(1)
    recipe = RECIPES[extractor.name]
    views = torch.rand((len(recipe.sizes), 400, 1, extractor.side, extractor.side), generator=generator) * 2 - 1
    noise = Split(views, torch.randint(10, (400,), generator=generator))
    once, again, other = (train_extractor.train(extractor, recipe, noise, steps).state_dict() for steps in (4, 4, 3))
    assert all(torch.equal(once[key], again[key]) for key in once)
    assert not torch.equal(once["classes.weight"], other["classes.weight"])
    shipped = load_file(extractor.weights())
    assert {key: value.shape for key, value in once.items()} == {key: value.shape for key, value in shipped.items()}


def test_it_sees_the_splits_of_the_data_stage(tmp_path):
    """Training part, validation and test as every diffusion model has them."""
    artifact = Bench(tmp_path / "runs").run("data", {"dataset": Digits()}, {})
    splits = train_extractor.read_splits(DigitsCnn(), (None,))
    for split, found in splits.items():
        grey = np.rint(np.load(artifact.path / f"{split}.npy") * 255.0 / 16)
        np.testing.assert_allclose(found.images[0].numpy(), grey / 127.5 - 1, rtol=0, atol=1e-6)
        assert np.array_equal(found.labels.numpy(), np.load(artifact.path / f"{split}_labels.npy"))


def test_shifts_bring_background_in():
    x = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3).expand(50, -1, -1, -1)
    torch.manual_seed(0)
    found = {tuple(image.flatten().tolist()) for image in train_extractor._shifted(x, 1)}
    padded = np.pad(np.arange(1.0, 10.0).reshape(3, 3), 1, constant_values=-1.0)
    assert found == {tuple(padded[i : i + 3, j : j + 3].flatten()) for i in range(3) for j in range(3)}
    assert train_extractor._shifted(x, 0) is x


@pytest.mark.usefixtures("one_thread")
def test_the_command_writes_the_file_and_its_digest(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "digits_cnn", replace(RECIPES["digits_cnn"], epochs=3))
    target = tmp_path / "digits_cnn.safetensors"
    monkeypatch.setattr(sys, "argv", ["train_extractor", "digits_cnn", "--output", str(target)])
    train_extractor.main()
    out = capsys.readouterr().out
    assert hashlib.sha256(target.read_bytes()).hexdigest() in out
    rows = re.findall(r"^\| `digits_cnn` \| (\w+) \| (\d+) \| 8 \| ([\d.]+) \|", out, re.MULTILINE)
    assert [(split, int(count)) for split, count, _ in rows] == [("train", 1293), ("validation", 144), ("test", 360)]
    assert DigitsCnn().network().load_state_dict(load_file(target))
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_script_makes_as_good_an_extractor_again(tmp_path, monkeypatch, capsys):
    """Another processor sums in another order: not the same bits, but the same accuracy. 99 % of 360 digits, three
    misses: the shipped weights have none."""
    target = tmp_path / "digits_cnn.safetensors"
    monkeypatch.setattr(sys, "argv", ["train_extractor", "digits_cnn", "--output", str(target)])
    train_extractor.main()
    (accuracy,) = re.findall(
        r"^\| `digits_cnn` \| test \| 360 \| 8 \| ([\d.]+) \|", capsys.readouterr().out, re.MULTILINE
    )
    assert float(accuracy) >= 0.99
