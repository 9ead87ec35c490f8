"""Which images meet an extractor, in which scale, and which of their features enter a metric."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_bench.datasets.digits import Digits
from ddpm_bench.extractors import Extractor, LoadedExtractor
from ddpm_bench.extractors.digits_cnn import DigitsCnn
from ddpm_bench.extractors.efficientnet_lite0 import EfficientNetLite0
from ddpm_bench.metrics import FeatureInputs, Measured, Value
from ddpm_bench.metrics.kernel_distance import KernelDistance
from ddpm_bench.stages import features as stage
from ddpm_bench.stages._images import subset
from ddpm_bench.stages.features import to_rgb
from ddpm_bench.store import Artifact
from tests.stages.workbench import Bench, reverse, training


class Pixels(LoadedExtractor):
    """The image itself as features; its first two values as logits."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        flat = images.flatten(1).float()
        return flat, flat[:, :2]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose extractor returns the pixels that it is shown; no other test gets to see that one."""
    stage._loaded.cache_clear()
    monkeypatch.setattr(EfficientNetLite0, "load", lambda self, device: Pixels())
    yield Bench(tmp_path / "runs")
    stage._loaded.cache_clear()


def features(bench: Bench, images: Artifact, source: str, **more: Any) -> Artifact:
    spec = {"extractor": EfficientNetLite0(), "weights_sha256": "0", "source": source, **more}
    return bench.run("features", spec, {"images": images})


def rows(artifact: Artifact, name: str = "features") -> np.ndarray:
    values: np.ndarray = np.load(artifact.path / f"{name}.npy")
    return values


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_become_grey_values(levels: int) -> None:
    got = to_rgb(torch.arange(levels, dtype=torch.uint8).reshape(-1, 1, 1, 1), levels)
    assert got.dtype == torch.uint8
    assert got.shape == (levels, 3, 1, 1)
    want = [round(Fraction(v * 255, levels - 1)) for v in range(levels)]  # exact; a tie (level 8 of 17) to the even
    for channel in range(3):
        assert got[:, channel, 0, 0].tolist() == want
    assert want[0] == 0
    assert want[-1] == 255


def test_colours_stay_colours() -> None:
    images = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 2, 2)
    assert torch.equal(to_rgb(images, 256), images)


def test_features_of_a_split(bench: Bench) -> None:
    data = bench.data(test=37)  # 16 images a call: three calls, the last one short
    found = features(bench, data, "split", split="test")
    want = np.rint(np.load(data.path / "test.npy") * 255.0 / 16)
    assert np.array_equal(rows(found), np.repeat(want, 3, axis=1).reshape(37, -1))
    assert np.array_equal(rows(found, "logits"), rows(found)[:, :2])
    assert rows(found).dtype == np.float32


def test_features_of_samples(bench: Bench) -> None:
    data = bench.data()
    model = bench.model(data, training(timesteps=3))
    samples = bench.run("sample", {"reverse": reverse(), "chunk": 0, "count": 5}, {"train": model})
    found = rows(features(bench, samples, "samples"))
    want = np.rint(np.load(samples.path / "samples.npy") * 255.0 / 16)
    assert np.array_equal(found, np.repeat(want, 3, axis=1).reshape(5, -1))


def test_uniform_noise_uses_the_levels_and_shape_of_the_data(bench: Bench) -> None:
    for levels, channels in ((17, 1), (256, 3)):
        found = rows(features(bench, bench.data(levels=levels, channels=channels), "uniform noise", count=600))
        grey = found.reshape(600, 3, 16)[:, :channels]
        seen, counts = np.unique(grey, return_counts=True)
        assert seen.tolist() == [round(Fraction(v * 255, levels - 1)) for v in range(levels)]  # every level, no other
        # Each level with probability 1/K: five standard deviations of a binomial count.
        expected = grey.size / levels
        assert np.abs(counts - expected).max() < 5 * expected**0.5
        assert len(np.unique(found, axis=0)) == 600
    few, many = (rows(features(bench, bench.data(), "uniform noise", count=count)) for count in (10, 20))
    assert np.array_equal(few, many[:10])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[FeatureInputs]:
    """What the metric is given."""
    found: list[FeatureInputs] = []

    def measure(self: KernelDistance, inputs: FeatureInputs) -> Measured:
        found.append(inputs)
        return Measured(dict.fromkeys(self.keys, Value(1.0)))

    monkeypatch.setattr(KernelDistance, "measure", measure)
    monkeypatch.setattr(KernelDistance, "protocol", lambda self, *sizes: {"own": sizes, "shared": "metric"})
    return found


def quality(
    bench: Bench, generated: list[Artifact], reference: Artifact, kind: str, n: int, n_reference: int
) -> dict[str, Any]:
    spec = {
        "metric": KernelDistance(), "generated": kind, "n_generated": n, "n_reference": n_reference,
        "protocol": {"shared": "plan", "extractor": "pixels"},
    }  # fmt: skip
    found = bench.run("quality", spec, {"generated": generated, "reference": [reference]})
    read: dict[str, Any] = json.loads((found.path / "estimates.json").read_text())
    return read


def test_the_first_samples_of_all_chunks(bench: Bench, seen: list[FeatureInputs]) -> None:
    data = bench.data(train=40)
    reference = features(bench, data, "split", split="train")
    chunks = [features(bench, data, "uniform noise", count=count) for count in (8, 6)]
    read = quality(bench, chunks, reference, "samples", 11, 40)
    together = np.concatenate([rows(chunk) for chunk in chunks])
    assert np.array_equal(seen[0].generated, together[:11])
    assert np.array_equal(seen[0].reference, rows(reference))
    assert np.array_equal(seen[0].generated_logits, together[:11, :2])
    assert np.array_equal(seen[0].reference_logits, rows(reference)[:, :2])
    assert read[""]["protocol"] == {"own": [11, 40, 48], "shared": "plan", "extractor": "pixels"}
    assert read[""]["num_samples"] == 11


def test_held_out_images_are_a_seeded_subset(bench: Bench, seen: list[FeatureInputs]) -> None:
    data = bench.data(train=40, test=30)
    held_out, reference = (features(bench, data, "split", split=split) for split in ("train", "test"))
    quality(bench, [held_out], reference, "split", 9, 12)
    chosen = subset(40, 9)
    assert chosen.max() >= 20  # not the first ones
    assert np.array_equal(seen[0].generated, rows(held_out)[chosen])
    assert np.array_equal(seen[0].generated_logits, rows(held_out, "logits")[chosen])
    assert np.array_equal(seen[0].reference, rows(reference)[subset(30, 12)])


def test_an_extractor_is_loaded_once_per_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    monkeypatch.setattr(EfficientNetLite0, "load", lambda self, device: loads.append(device) or Pixels())
    data = bench.data()
    for split in ("train", "test"):
        features(bench, data, "split", split=split)
    assert loads == ["cpu"]


def test_a_metric_without_logits(bench: Bench, seen: list[FeatureInputs], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pixels, "__call__", lambda self, images: (images.flatten(1).float(), None))
    data = bench.data()
    found = features(bench, data, "split", split="train")
    assert not (found.path / "logits.npy").exists()
    quality(bench, [found], found, "split", 40, 40)
    assert seen[0].generated_logits is None
    assert seen[0].reference_logits is None


def test_a_real_metric_of_equal_sets_is_near_zero(bench: Bench) -> None:
    data = bench.data(train=64)
    found = features(bench, data, "split", split="train")
    noise = features(bench, data, "uniform noise", count=64)
    same = quality(bench, [found], found, "split", 64, 64)
    near = quality(bench, [noise], found, "uniform noise", 64, 64)  # the made data are uniform noise as well
    for read in (same, near):
        assert read.keys() == {"", "_subset_std"}
        assert read[""]["protocol"]["n_generated"] == 64
    # The unbiased estimate of identical sets is below zero: the pairs (i, i) stand in the mixed sum alone.
    assert same[""]["value"] < 0
    assert abs(near[""]["value"]) < abs(same[""]["value"])


@pytest.mark.parametrize("extractor", [DigitsCnn(), EfficientNetLite0(input_size=32)])
def test_features_do_not_depend_on_who_is_in_their_artifact(tmp_path: Path, extractor: Extractor) -> None:
    """The same 23 images (16 a call) in one artifact, cut at 1, 6 and 17, and one by one: equal bit for bit."""
    stage._loaded.cache_clear()
    bench = Bench(tmp_path / "runs")
    images = np.random.default_rng(0).integers(17, size=(23, 1, 8, 8)).astype(np.uint8)
    spec = {"extractor": extractor, "weights_sha256": extractor.digest(), "source": "split", "split": "test"}

    def found(*cuts: int) -> tuple[np.ndarray, np.ndarray]:
        parts = np.split(images, cuts)
        made = [bench.run("features", spec, {"images": bench.data_of(Digits(), {"test": part})}) for part in parts]
        one, other = (np.concatenate([rows(artifact, name) for artifact in made]) for name in ("features", "logits"))
        return one, other

    whole, logits = found()
    assert whole.dtype == logits.dtype == np.float32
    assert whole.shape == (23, extractor.num_features)
    assert whole.std(axis=0).max() > 0.01
    for cuts in ((1, 6, 17), tuple(range(1, 23))):
        again, other = found(*cuts)
        assert np.array_equal(whole, again)
        assert np.array_equal(logits, other)


def test_every_call_has_the_same_number_of_images(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def call(self: Pixels, images: Tensor) -> tuple[Tensor, Tensor | None]:
        sizes.append(len(images))
        return images.flatten(1).float(), None

    monkeypatch.setattr(Pixels, "__call__", call)
    assert len(rows(features(bench, bench.data(test=37), "split", split="test"))) == 37
    assert sizes == [16, 16, 16]


def test_the_file_is_what_numpy_writes(bench: Bench, tmp_path: Path) -> None:
    found = features(bench, bench.data(test=37), "split", split="test")
    np.save(tmp_path / "expected.npy", rows(found))
    assert (found.path / "features.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_other_numbers_than_float32_are_an_error_of_the_extractor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pixels, "__call__", lambda self, images: (images.flatten(1).double(), None))
    with pytest.raises(AssertionError, match="float64"):
        features(bench, bench.data(), "split", split="test")
