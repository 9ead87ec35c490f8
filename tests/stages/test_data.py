"""Splits and digests of the data stage, and the codes that any model should beat."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_bench.datasets import Images
from ddpm_bench.datasets.digits import Digits
from ddpm_bench.datasets.gaussian import Gaussian
from ddpm_bench.identity import canonical
from ddpm_bench.stages.baseline import histogram_bits
from ddpm_bench.stages.data import validation_indices
from ddpm_bench.store import Artifact
from tests.stages.workbench import Bench


def decode(folder: Path, dataset: Any = None) -> Artifact:
    return Bench(folder).run("data", {"dataset": dataset or Digits(), "sources": []}, {})


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """scikit-learn's digits."""
    return decode(tmp_path_factory.mktemp("digits"))


def load(artifact: Artifact, name: str) -> np.ndarray:
    values: np.ndarray = np.load(artifact.path / f"{name}.npy")
    return values


def test_digits_are_split_1293_144_360(digits: Artifact) -> None:
    info = digits.manifest["info"]
    assert (info["num_train"], info["num_validation"], info["num_test"]) == (1293, 144, 360)
    assert (info["name"], info["shape"], info["levels"]) == ("digits", [1, 8, 8], 17)
    assert json.loads((digits.path / "info.json").read_text()) == info
    for name in ("train", "validation", "test"):
        assert load(digits, name).dtype == np.uint8
        assert load(digits, name).shape == (info[f"num_{name}"], 1, 8, 8)
        assert load(digits, f"{name}_labels").shape == (info[f"num_{name}"],)


def test_the_splits_together_are_the_published_images(digits: Artifact) -> None:
    from sklearn.datasets import load_digits

    published = load_digits()
    pairs = zip(published.images, published.target, strict=True)
    rows = [(image.astype(np.uint8).tobytes(), int(label)) for image, label in pairs]
    found = [
        (image.tobytes(), int(label))
        for name in ("train", "validation", "test")
        for image, label in zip(load(digits, name), load(digits, f"{name}_labels"), strict=True)
    ]
    assert Counter(found) == Counter(rows)  # every image once, with its label: disjoint and complete


def test_every_digit_is_in_every_split_in_its_proportion(digits: Artifact) -> None:
    counts = {name: np.bincount(load(digits, f"{name}_labels"), minlength=10) for name in ("train", "validation")}
    share = counts["validation"] / (counts["train"] + counts["validation"])
    # Largest remainders: each class is within one image of a tenth of its 140 or so.
    assert np.abs(share - 144 / 1437).max() < 1 / 140


def test_decoding_is_deterministic(digits: Artifact, tmp_path: Path) -> None:
    again = decode(tmp_path)
    assert again.manifest["files"] == digits.manifest["files"]
    assert again.manifest["info"] == digits.manifest["info"]


def test_the_validation_split_is_a_tenth_by_class_or_at_random() -> None:
    labels = np.repeat([0, 1, 2], [500, 300, 203])
    chosen = validation_indices(1003, labels)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == 100
    assert np.bincount(labels[chosen]).tolist() == [50, 30, 20]  # shares 49.9, 29.9, 20.2
    assert abs(chosen[labels[chosen] == 0].mean() - 249.5) < 5 * 144 / 50**0.5  # not the first of each class
    plain = validation_indices(1003, None)
    assert len(plain) == len(set(plain.tolist())) == 100
    assert abs(plain.mean() - 501) < 5 * 290 / 10
    assert validation_indices(1003, None).tolist() == plain.tolist()


def test_the_digest_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands for the data in every other key: whatever changes a number must change it."""
    train = np.arange(80, dtype=np.uint8).reshape(20, 1, 2, 2) % 16
    test, labels = train[:4], np.arange(20) % 2
    changed, pixel = train.copy(), test.copy()
    changed[7, 0, 1, 1] += 1
    pixel[0, 0, 0, 0] += 1
    variants = {
        "base": Images(train, test, 17, labels, None),
        "the same": Images(train.copy(), test.copy(), 17, labels, None),
        "a training pixel": Images(changed, test, 17, labels, None),
        "a test pixel": Images(train, pixel, 17, labels, None),
        "order": Images(train[::-1].copy(), test, 17, labels, None),
        "shape": Images(train.reshape(20, 1, 1, 4), test.reshape(4, 1, 1, 4), 17, labels, None),
        "levels": Images(train, test, 16, labels, None),
        "real values": Images(train.astype(np.float32), test.astype(np.float32), None, labels, None),
        "split": Images(train, test, 17, None, None),  # other validation images
    }
    digests = {}
    for name, images in variants.items():
        monkeypatch.setattr(Digits, "load", lambda self, root, images=images: images)
        digests[name] = decode(tmp_path / name).manifest["info"]["digest"]
    assert digests["base"] == digests.pop("the same")
    assert len(set(digests.values())) == len(digests)


def test_real_values_stay_real(tmp_path: Path) -> None:
    found = decode(tmp_path, Gaussian(num_train=30, num_test=5))
    assert load(found, "train").dtype == np.float32
    assert load(found, "train").shape == (27, 1, 8, 8)
    assert found.manifest["info"]["levels"] is None


def baseline(folder: Path, data: Artifact, **changes: Any) -> dict[str, Any]:
    bench = Bench(folder)
    if not bench.store.has("data", data.path.name):
        target = bench.store.path("data", data.path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(data.path)
    found = bench.run(
        "baseline", {"split": "test", "images": 360, **changes}, {"data": bench.store.get("data", data.path.name)}
    )
    read: dict[str, Any] = json.loads((found.path / "estimates.json").read_text())
    return read


def test_codes_of_the_digits(digits: Artifact, tmp_path: Path) -> None:
    found = baseline(tmp_path, digits)
    assert found.keys() == {"uniform code", "per-pixel histogram"}
    assert 2 ** found["uniform code"]["value"] == pytest.approx(17, rel=1e-12)
    assert found["uniform code"]["value"] == pytest.approx(4.0875, abs=5e-5)  # to its last digit
    assert found["uniform code"]["stderr"] is None
    # By counting in Python: (count + 1)/(N + K) for each pixel.
    train, test = load(digits, "train").reshape(1293, 64), load(digits, "test").reshape(360, 64)
    tables = [Counter(column.tolist()) for column in train.T]
    bits = [
        sum(math.log2((1293 + 17) / (tables[pixel][int(level)] + 1)) for pixel, level in enumerate(image)) / 64
        for image in test
    ]
    mean = sum(bits) / 360
    assert found["per-pixel histogram"]["value"] == pytest.approx(mean, rel=1e-12)
    error = math.sqrt(sum((b - mean) ** 2 for b in bits) / 359 / 360)
    assert found["per-pixel histogram"]["stderr"] == pytest.approx(error, rel=1e-9)
    # Pinned to its last digit: another split, another smoothing or the levels counted as 256 would show.
    assert mean == pytest.approx(2.4317, abs=5e-5)
    assert {record["num_samples"] for record in found.values()} == {360}
    assert {record["unit"] for record in found.values()} == {"bits/dim"}


def test_a_baseline_sees_the_images_of_the_likelihood(digits: Artifact, tmp_path: Path) -> None:
    from ddpm_bench.stages._images import subset

    found = baseline(tmp_path, digits, images=24)["per-pixel histogram"]
    chosen = load(digits, "test")[subset(360, 24)]
    assert found["num_samples"] == 24
    assert found["value"] == pytest.approx(histogram_bits(load(digits, "train"), chosen, 17).mean(), rel=1e-12)


def test_the_histogram_is_a_code() -> None:
    """Probabilities of the levels of a pixel add up to one, unseen levels included."""
    train = np.array([0, 0, 1], dtype=np.uint8).reshape(3, 1, 1, 1)
    bits = histogram_bits(train, np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1), 4)
    assert sum(2.0**-b for b in bits) == pytest.approx(1, abs=1e-12)
    assert bits.tolist() == pytest.approx([math.log2(7 / n) for n in (3, 2, 1, 1)], rel=1e-12)


def test_real_values_have_no_code(tmp_path: Path) -> None:
    data = decode(tmp_path, Gaussian(num_train=30, num_test=5))
    assert baseline(tmp_path, data, images=5) == {}


def test_what_a_data_manifest_says_rebuilds_the_data_set(digits: Artifact) -> None:
    assert digits.spec["dataset"] == canonical(Digits())
